//! The directory that system files are read under: `/`, or where a container sees its host.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// The most bytes [`Root::text`] reads; no attribute in sysfs is longer than a page, and no page longer than this.
const TEXT_MAX: usize = 64 * 1024;

/// As many symbolic links as Linux follows in one path.
const LINKS_MAX: usize = 40;

/// The directory under which `/etc`, `/usr/lib`, `/proc` and `/sys` are looked for.
///
/// Paths given to its methods are those of the system under it: absolute links, and `..`, stay inside. Errors name the
/// file by the path it has for the agent. The check is against links that were made for another root, not against
/// somebody who changes them at the same moment: the files of a guest belong to its administrator, as the agent does.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Default for Root {
    fn default() -> Self {
        Root::new("/")
    }
}

impl Root {
    /// The system whose root directory is `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Root(directory.into())
    }

    /// Opens a regular file to read; files in `/proc` and `/sys` are such.
    ///
    /// # Errors
    /// The system's, and `InvalidInput` where something else than a file stands there: a FIFO would never end, and only
    /// to open some devices changes them.
    pub fn open(&self, path: &str) -> io::Result<File> {
        self.open_resolved(path)
            .map_err(|error| self.at(path, &error))
    }

    /// The contents of a regular file.
    ///
    /// # Errors
    /// Those of [`Root::open`], and `InvalidData` where the file has more than `limit` bytes.
    pub fn read(&self, path: &str, limit: usize) -> io::Result<Vec<u8>> {
        let read = || {
            let mut bytes = Vec::new();
            // The size that stat tells is 0 for files in /proc and 4096 for those in /sys: only reading tells.
            let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
            self.open_resolved(path)?
                .take(most)
                .read_to_end(&mut bytes)?;
            if bytes.len() > limit {
                let reason = format!("larger than {limit} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
            Ok(bytes)
        };
        read().map_err(|error| self.at(path, &error))
    }

    /// The contents of a small text file, an attribute in sysfs for example, without the newlines at its end.
    ///
    /// # Errors
    /// Those of [`Root::read`], and `InvalidData` where it is not UTF-8.
    pub fn text(&self, path: &str) -> io::Result<String> {
        let mut text = String::from_utf8(self.read(path, TEXT_MAX)?).map_err(|_| {
            self.at(
                path,
                &io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"),
            )
        })?;
        text.truncate(text.trim_end_matches('\n').len());
        Ok(text)
    }

    /// Whether anything stands at `path`, after links.
    pub fn exists(&self, path: &str) -> bool {
        self.path(path).is_ok_and(|path| path.exists())
    }

    /// Where `path` is for the agent, to list a directory for example.
    ///
    /// # Errors
    /// Where a part of it is missing or may not be searched, or the links in it do not end. For the root `/` the kernel
    /// finds that out when the path is used.
    pub fn path(&self, path: &str) -> io::Result<PathBuf> {
        self.resolve(path).map_err(|error| self.at(path, &error))
    }

    fn open_resolved(&self, path: &str) -> io::Result<File> {
        let path = self.resolve(path)?;
        regular(&fs::metadata(&path)?)?;
        let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        if !self.is_system() {
            // All links are resolved.
            flags |= OFlags::NOFOLLOW;
        }
        let file = File::from(rustix::io::retry_on_intr(|| {
            rustix::fs::open(&path, flags, Mode::empty())
        })?);
        // It may be another one by now.
        regular(&file.metadata()?)?;
        Ok(file)
    }

    /// A path without links, where they would be resolved against the wrong root otherwise.
    fn resolve(&self, path: &str) -> io::Result<PathBuf> {
        if self.is_system() {
            return Ok(self.join(path));
        }
        let mut found: Vec<OsString> = Vec::new();
        // What is still to be looked at, the next part last.
        let mut left: Vec<OsString> = Vec::new();
        push(&mut left, &mut found, Path::new(path));
        let mut links = 0;
        while let Some(part) = left.pop() {
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
                    push(&mut left, &mut found, &target);
                }
                // readlink(2): EINVAL, it is not a link.
                Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {}
                Err(error) => return Err(error),
            }
        }
        let mut whole = self.0.clone();
        whole.extend(found);
        Ok(whole)
    }

    /// Whether it is the agent's own system.
    pub fn is_system(&self) -> bool {
        self.0 == Path::new("/")
    }

    fn join(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    fn at(&self, path: &str, error: &io::Error) -> io::Error {
        io::Error::new(
            error.kind(),
            format!("{}: {error}", self.join(path).display()),
        )
    }
}

/// Puts the parts of `path` before what is left; an absolute one starts again from the root.
fn push(left: &mut Vec<OsString>, found: &mut Vec<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(part) => left.push(part.into()),
            Component::ParentDir => left.push("..".into()),
            Component::RootDir => found.clear(),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

fn regular(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.is_file() {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType};
    use std::io::ErrorKind;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    /// An empty directory as root.
    fn root() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        (directory, root)
    }

    fn fifo(path: &Path) {
        rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }

    #[test]
    fn links_stay_inside() {
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
    fn what_is_outside_is_not_read() {
        let (directory, root) = root();
        let outside = tempfile::NamedTempFile::new().unwrap();
        symlink(outside.path(), directory.path().join("link")).unwrap();
        assert_eq!(root.open("/link").unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!root.exists("/link"));
    }

    #[test]
    fn only_regular_files() {
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
    fn only_so_much() {
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
    fn links_that_lead_nowhere() {
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
    fn as_many_links_as_linux() {
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
    fn text_is_lossless() {
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
    fn the_systems_own_root() {
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
