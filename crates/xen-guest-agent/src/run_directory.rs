//! `/run/xen-guest-agent`: what is kept as long as the system runs, and no longer.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::collect::root::Root;

/// The second is the older place.
const RUN: [&str; 2] = ["/run", "/var/run"];

/// Who has it locked is the agent.
const LOCK: &str = "lock";

/// The directory, where the system has a place for it. It need not be there yet.
pub fn path(root: &Root) -> Option<PathBuf> {
    let run = RUN.iter().find_map(|run| root.path(run).ok().filter(|run| run.is_dir()));
    run.map(|run| run.join("xen-guest-agent"))
}

/// Sets the text of a file in the directory: its readers find the old text or the new one.
///
/// # Errors
/// The system's, with the file.
pub fn write(file: &Path, text: &str) -> io::Result<()> {
    let new = file.with_extension("new");
    make_above(file)
        .and_then(|()| fs::write(&new, text))
        .and_then(|()| fs::rename(&new, file))
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))
}

fn make_above(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(directory) if !directory.exists() => DirBuilder::new().mode(0o755).create(directory),
        _ => Ok(()),
    }
}

/// Locks the directory, as the one agent of this system: as long as the file is open. None where another one has it.
///
/// # Errors
/// The system's, with the file.
pub fn lock(directory: &Path) -> io::Result<Option<File>> {
    let path = directory.join(LOCK);
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    make_above(&path).map_err(at)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(&path, flags, Mode::from(0o644)).map_err(|error| at(error.into()))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(File::from(file))),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(at(error.into())),
    }
}

/// Whether an agent has the directory locked.
pub fn is_locked(directory: &Path) -> bool {
    let Ok(file) = File::open(directory.join(LOCK)) else { return false };
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_agent_has_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("run")).unwrap();
        let path = path(&Root::new(directory.path())).unwrap();
        assert!(!is_locked(&path));
        let first = lock(&path).unwrap();
        assert!(first.is_some() && is_locked(&path));
        assert!(lock(&path).unwrap().is_none());
        drop(first);
        assert!(!is_locked(&path));
        assert!(lock(&path).unwrap().is_some());
    }

    #[test]
    fn errors_name_the_file() {
        let error = write(Path::new("/proc/nothing/status"), "x").unwrap_err();
        assert!(error.to_string().starts_with("/proc/nothing/status: "), "{error}");
    }
}
