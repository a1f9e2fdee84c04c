//! Directory that system files are read under: `/`, or a host's directory in a container.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, StatVfs, StatVfsMountFlags};
use rustix::io::Errno;

/// Maximum size in bytes of a file that [`Root::text`] reads. Attributes in sysfs have at most one
/// page, and a page has at most 64 KiB.
const TEXT_MAX: usize = 64 * 1024;

/// Maximum number of symbolic links in a path, as in Linux.
const LINKS_MAX: usize = 40;

/// Directory under which the agent looks for `/etc`, `/usr/lib`, `/proc` and `/sys`.
///
/// Methods take paths of the system below it. Absolute links and `..` stay inside. Errors name a
/// file by its path for the agent. This protects against links that were made for another root, but
/// not against a process that changes links at the same moment, because the guest's files and the
/// agent have the same administrator.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Default for Root {
    fn default() -> Self {
        Root::new("/")
    }
}

impl Root {
    /// Returns the system whose root directory is `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Root(directory.into())
    }

    /// Opens a regular file for reading. Files in `/proc` and `/sys` are regular files.
    ///
    /// # Errors
    /// The system's, and `InvalidInput` for a file of another type. Reading a FIFO would never end,
    /// and opening some devices changes their state.
    pub fn open(&self, path: &(impl AsRef<Path> + ?Sized)) -> io::Result<File> {
        let path = path.as_ref();
        self.open_resolved(path)
            .map_err(|error| self.at(path, &error))
    }

    /// Reads a regular file.
    ///
    /// # Errors
    /// Those of [`Root::open`], and `InvalidData` if the file is larger than `limit` bytes.
    pub fn read(&self, path: &(impl AsRef<Path> + ?Sized), limit: usize) -> io::Result<Vec<u8>> {
        let path = path.as_ref();
        let read = || read_all(self.open_resolved(path)?, limit);
        read().map_err(|error| self.at(path, &error))
    }

    /// Reads a small text file, for example an attribute in sysfs, without the newlines at its end.
    ///
    /// # Errors
    /// Those of [`Root::read`], and `InvalidData` if the text is not UTF-8.
    pub fn text(&self, path: &(impl AsRef<Path> + ?Sized)) -> io::Result<String> {
        let path = path.as_ref();
        let mut text = String::from_utf8(self.read(path, TEXT_MAX)?)
            .map_err(|_| self.at(path, &io::Error::new(ErrorKind::InvalidData, "not UTF-8")))?;
        text.truncate(text.trim_end_matches('\n').len());
        Ok(text)
    }

    /// Whether a file of any kind exists at `path`, after following links.
    pub fn exists(&self, path: &(impl AsRef<Path> + ?Sized)) -> bool {
        self.path(path).is_ok_and(|path| path.exists())
    }

    /// Returns the path of a file for the agent, for example to list a directory.
    ///
    /// # Errors
    /// The system's, if a part of the path is missing or may not be searched, or if links form a
    /// loop. For the root `/` the kernel reports such errors when the path is used.
    pub fn path(&self, path: &(impl AsRef<Path> + ?Sized)) -> io::Result<PathBuf> {
        let path = path.as_ref();
        self.resolve(path).map_err(|error| self.at(path, &error))
    }

    /// Returns the path of a file for the agent, like [`path`](Self::path), but the file itself
    /// need not exist yet. Use this to create it.
    ///
    /// # Errors
    /// Those of [`path`](Self::path), if the directory of the file is missing.
    pub fn path_of_new(&self, path: &str) -> io::Result<PathBuf> {
        let path = Path::new(path);
        self.resolve_if(path, true)
            .map_err(|error| self.at(path, &error))
    }

    fn open_resolved(&self, path: &Path) -> io::Result<File> {
        let path = self.resolve(path)?;
        check_regular(fs::metadata(&path)?.is_file())?;
        let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        if !self.is_system() {
            // The path has no links any more.
            flags |= OFlags::NOFOLLOW;
        }
        let file = File::from(rustix::io::retry_on_intr(|| {
            rustix::fs::open(&path, flags, Mode::empty())
        })?);
        // Another file may be at the path by now.
        check_regular(file.metadata()?.is_file())?;
        Ok(file)
    }

    /// Returns a path without links, unless the kernel resolves links against the right root.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        self.resolve_if(path, false)
    }

    /// Resolves a path, whose last part may be missing if `is_new`.
    fn resolve_if(&self, path: &Path, is_new: bool) -> io::Result<PathBuf> {
        if self.is_system() {
            return Ok(self.join(path));
        }
        let mut found: Vec<OsString> = Vec::new();
        // Parts of the path that remain to be resolved, the next one last.
        let mut remaining: Vec<OsString> = Vec::new();
        push(&mut remaining, &mut found, path);

        let mut links = 0;
        while let Some(part) = remaining.pop() {
            if part == ".." {
                found.pop();
                continue;
            }
            found.push(part);
            let mut here = self.0.clone();
            here.extend(&found);
            match fs::read_link(&here) {
                Ok(target) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Errno::LOOP.into());
                    }
                    found.pop();
                    push(&mut remaining, &mut found, &target);
                }
                // readlink(2) returns EINVAL for a file that is not a link.
                Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {}
                Err(error)
                    if is_new && remaining.is_empty() && error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }

        let mut whole = self.0.clone();
        whole.extend(found);
        Ok(whole)
    }

    /// Whether this is the agent's own system.
    pub fn is_system(&self) -> bool {
        self.0 == Path::new("/")
    }

    fn join(&self, path: &Path) -> PathBuf {
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn at(&self, path: &Path, error: &io::Error) -> io::Error {
        with_path(&self.join(path), error)
    }
}

/// Returns an error of the same kind that names the file.
pub(crate) fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Whether nobody can write because of how the file system is mounted. Kubernetes mounts files
/// read-only, in directories with mode 0777.
pub(crate) fn is_read_only(system: rustix::io::Result<StatVfs>) -> bool {
    system.is_ok_and(|system| system.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Reads an opened file to its end.
///
/// # Errors
/// The system's, and `InvalidData` if the file is larger than `limit` bytes.
pub(crate) fn read_all(file: File, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // stat(2) reports a size of 0 for files in /proc and 4096 for files in /sys.
    let limit_and_one = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit_and_one).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        let reason = format!("larger than {limit} bytes");
        return Err(io::Error::new(ErrorKind::InvalidData, reason));
    }
    Ok(bytes)
}

/// Puts the parts of `path` before the remaining ones. An absolute path starts again at the root.
fn push(remaining: &mut Vec<OsString>, found: &mut Vec<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(part) => remaining.push(part.into()),
            Component::ParentDir => remaining.push("..".into()),
            Component::RootDir => found.clear(),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

/// Returns an error unless the file `is_regular`.
pub(crate) fn check_regular(is_regular: bool) -> io::Result<()> {
    if is_regular {
        Ok(())
    } else {
        Err(io::Error::new(
            ErrorKind::InvalidInput,
            "not a regular file",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType};
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    /// Makes a root that is an empty directory.
    fn root() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        (directory, root)
    }

    fn fifo(path: &Path) {
        rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }

    #[test]
    fn links_are_resolved_inside_the_root() {
        let (directory, root) = root();
        let at = |path: &str| directory.path().join(path);
        fs::create_dir_all(at("usr/lib/deep")).unwrap();
        fs::create_dir(at("etc")).unwrap();
        fs::write(at("usr/lib/os-release"), "inside\n").unwrap();
        for (link, target) in [
            ("etc/absolute", "/usr/lib/os-release"),
            ("etc/relative", "../usr/lib/os-release"),
            ("etc/above", "../../../../../../../../usr/lib/os-release"),
            ("etc/chain", "absolute"),
            ("lib", "/usr/lib"),
            ("etc/through", "/lib/./deep/../os-release"),
        ] {
            symlink(target, at(link)).unwrap();
            let path = format!("/{link}");
            if link != "lib" {
                assert_eq!(root.text(&path).unwrap(), "inside", "{link}");
            }
            assert!(root.exists(&path), "{link}");
        }
        assert_eq!(root.text("/lib/os-release").unwrap(), "inside");
        assert_eq!(root.text("/../../lib//os-release").unwrap(), "inside");
        assert_eq!(root.text("lib/os-release").unwrap(), "inside");
        assert_eq!(root.path("/lib/deep").unwrap(), at("usr/lib/deep"));
        assert_eq!(root.path("/").unwrap(), at(""));
    }

    #[test]
    fn files_outside_the_root_are_not_read() {
        let (directory, root) = root();
        let outside = tempfile::NamedTempFile::new().unwrap();
        symlink(outside.path(), directory.path().join("link")).unwrap();
        assert_eq!(root.open("/link").unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!root.exists("/link"));
    }

    #[test]
    fn only_regular_files_are_read() {
        let (directory, root) = root();
        fs::create_dir(directory.path().join("directory")).unwrap();
        fifo(&directory.path().join("fifo"));
        let _socket = UnixListener::bind(directory.path().join("socket")).unwrap();
        for name in ["directory", "fifo", "socket"] {
            let error = root.read(name, 10).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
        assert_eq!(
            Root::default().read("/dev/null", 10).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }

    #[test]
    fn larger_files_than_the_limit_are_an_error() {
        let (directory, root) = root();
        let at = |path: &str| directory.path().join(path);
        fs::write(at("ten"), "0123456789").unwrap();
        assert_eq!(root.read("ten", 10).unwrap(), b"0123456789");
        assert_eq!(
            root.read("ten", 9).unwrap_err().kind(),
            ErrorKind::InvalidData
        );
        File::create(at("huge")).unwrap().set_len(1 << 30).unwrap();
        let error = root.read("/huge", 4096).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{}: larger than 4096 bytes", at("huge").display())
        );
        assert_eq!(
            root.text("/huge").unwrap_err().kind(),
            ErrorKind::InvalidData
        );
    }

    #[test]
    fn broken_links_are_errors() {
        let (directory, root) = root();
        let at = |path: &str| directory.path().join(path);
        symlink("/nowhere", at("dangling")).unwrap();
        symlink("b", at("a")).unwrap();
        symlink("/a", at("b")).unwrap();
        symlink("self/self", at("self")).unwrap();
        fs::write(at("file"), "").unwrap();
        for (path, errno) in [
            ("/dangling", Errno::NOENT),
            ("/missing", Errno::NOENT),
            ("/missing/../file", Errno::NOENT),
            ("/file/below", Errno::NOTDIR),
            ("/a", Errno::LOOP),
            ("/self", Errno::LOOP),
        ] {
            let error = root.open(path).unwrap_err();
            assert_eq!(error.kind(), io::Error::from(errno).kind(), "{error}");
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("{}: ", at(&path[1..]).display())),
                "{error}"
            );
            assert!(!root.exists(path), "{path}");
        }
    }

    #[test]
    fn forty_links_are_followed() {
        let (directory, root) = root();
        let at = |number: usize| directory.path().join(number.to_string());
        fs::write(at(0), "end").unwrap();
        for number in 1..=LINKS_MAX + 1 {
            symlink(format!("/{}", number - 1), at(number)).unwrap();
        }
        assert_eq!(root.text("/40").unwrap(), "end");
        assert!(root.text("/41").is_err());
    }

    #[test]
    fn text_loses_only_newlines_at_its_end() {
        let (directory, root) = root();
        for (bytes, text) in [
            (&b"vif\n"[..], "vif"),
            (b"vif", "vif"),
            (b"", ""),
            (b" a \n\n", " a "),
            ("n\u{e4}".as_bytes(), "n\u{e4}"),
        ] {
            fs::write(directory.path().join("file"), bytes).unwrap();
            assert_eq!(root.text("/file").unwrap(), text);
        }
        fs::write(directory.path().join("file"), b"\xff\n").unwrap();
        assert_eq!(
            root.text("/file").unwrap_err().kind(),
            ErrorKind::InvalidData
        );
    }

    #[test]
    fn root_of_the_own_system_is_used_unresolved() {
        let root = Root::default();
        let (directory, _) = self::root();
        let file = directory.path().join("file");
        fs::write(&file, "here").unwrap();
        symlink(&file, directory.path().join("link")).unwrap();
        assert_eq!(
            root.text(directory.path().join("link").to_str().unwrap())
                .unwrap(),
            "here"
        );
        let missing = root.open("/nonexistent/file").unwrap_err();
        assert!(
            missing.to_string().starts_with("/nonexistent/file: "),
            "{missing}"
        );
        assert!(root.exists("/"));
    }
}
