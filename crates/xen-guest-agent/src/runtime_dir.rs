//! The runtime directory `/run/xen-guest-agent`, whose files last until the next boot.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::root::Root;

/// Directories for runtime files. The second is the older one.
const RUN: [&str; 2] = ["/run", "/var/run"];

/// Lock file. Its holder is the running agent.
const LOCK: &str = "lock";

/// Returns the path of the directory, which may not exist yet. `None` if the system has no `/run`.
pub fn path(root: &Root) -> Option<PathBuf> {
    let run = RUN
        .iter()
        .find_map(|run| root.path(run).ok().filter(|run| run.is_dir()));
    run.map(|run| run.join("xen-guest-agent"))
}

/// Replaces a file in the directory. A reader finds either the old text or the new one. Every user
/// may read the file.
///
/// # Errors
/// The system's error, with the path.
pub fn write(file: &Path, text: &str) -> io::Result<()> {
    let new = file.with_extension("new");
    let write = || {
        create_parent(file)?;
        // Removed first, because opening an existing FIFO would block.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut opened = OpenOptions::new().write(true).create_new(true).open(&new)?;
        // Independent of the umask.
        opened.set_permissions(Permissions::from_mode(0o644))?;
        opened.write_all(text.as_bytes())?;
        fs::rename(&new, file)
    };
    write().map_err(|error| {
        // A full file system may leave half of the text there.
        fs::remove_file(&new).ok();
        io::Error::new(error.kind(), format!("{}: {error}", file.display()))
    })
}

fn create_parent(file: &Path) -> io::Result<()> {
    let Some(directory) = file.parent() else {
        return Ok(());
    };
    match fs::create_dir(directory) {
        // Independent of the umask.
        Ok(()) => fs::set_permissions(directory, Permissions::from_mode(0o755)),
        // Another agent may have created it at the same time.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Locks the directory until the returned file is closed. Returns `None` if another agent holds the
/// lock.
///
/// # Errors
/// The system's error, with the path.
pub fn lock(directory: &Path) -> io::Result<Option<File>> {
    let path = directory.join(LOCK);
    let at =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    create_parent(&path).map_err(at)?;
    // Only root may open the file, because every user who can read a file can lock it.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file =
        rustix::fs::open(&path, flags, Mode::from(0o600)).map_err(|error| at(error.into()))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(File::from(file))),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(at(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn lock_has_one_holder() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("run")).unwrap();
        let path = path(&Root::new(directory.path())).unwrap();
        let first = lock(&path).unwrap();
        assert!(first.is_some());
        assert!(lock(&path).unwrap().is_none());
        drop(first);
        assert!(lock(&path).unwrap().is_some());
        let mode = |file: &str| fs::metadata(path.join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode(LOCK)), (0o755, 0o600));
    }

    #[test]
    fn lock_has_one_holder_if_two_agents_start_together() {
        for round in 0..300 {
            let directory = tempfile::tempdir().unwrap();
            let (path, barrier) = (directory.path().join("xen-guest-agent"), Barrier::new(2));
            let start = || {
                barrier.wait();
                lock(&path)
            };
            let locks = thread::scope(|scope| {
                [(); 2]
                    .map(|()| scope.spawn(start))
                    .map(|agent| agent.join().unwrap())
            });
            let locks = locks.map(Result::unwrap);
            assert_eq!(
                locks.iter().flatten().count(),
                1,
                "round {round}: {locks:?}"
            );
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o755
            );
        }
    }

    #[test]
    fn write_replaces_a_fifo() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("status");
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            file.with_extension("new"),
            Mode::from(0o600),
        )
        .unwrap();
        write(&file, "text").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o644
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn errors_name_the_path() {
        let error = write(Path::new("/proc/nothing/status"), "x").unwrap_err();
        assert!(
            error.to_string().starts_with("/proc/nothing/status: "),
            "{error}"
        );
    }
}
