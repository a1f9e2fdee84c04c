//! Transfer of the subdirectory with state between root and the group of the confined agent.
//!
//! Root always owns the subdirectory, and no file in it ever changes its owner. The group of the
//! confined agent may write to the subdirectory while that agent runs. Root needs no capability for
//! this but that to join the group.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::{
    SERVICES, STATE, STATUS, create_parent, read, remove, state_dir, state_file, write_private,
};
use crate::platform::{Platform, System};
use crate::root::with_path;

/// Takes the subdirectory with state back from the group of an earlier agent. Keeps the files with
/// the names of the agent's files, and removes everything else.
///
/// # Errors
/// The system's error, with the path.
pub fn take_state(directory: &Path) -> io::Result<()> {
    let path = state_dir(directory);
    let found = match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|error| with_path(&path, &error))?,
    };
    let uid = geteuid().as_raw();
    if !found.is_dir() || found.uid() != uid {
        let aside = set_aside(directory)?;
        remove(&aside).ok();
        return Ok(());
    }

    // First, so that no process of the group can replace files meanwhile.
    fs::set_permissions(&path, Permissions::from_mode(0o755))
        .map_err(|error| with_path(&path, &error))?;
    if remove_foreign(&path).is_err() {
        replace(directory)?;
    }

    let services = state_file(directory, SERVICES);
    let is_foreign =
        |found: fs::Metadata| found.uid() != uid && found.is_file() && found.nlink() == 1;
    if fs::symlink_metadata(&services).is_ok_and(is_foreign) {
        let text = System::in_group(found.gid(), || read(&services))?;
        write_private(&services, &text)?;
    }
    Ok(())
}

/// Lets a group create, replace and remove the files of the subdirectory with state.
///
/// # Errors
/// The system's error, with the path.
pub fn give_state(directory: &Path, gid: u32) -> io::Result<()> {
    let path = state_dir(directory);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // The confined agent could not create it.
    create_parent(&state_file(directory, STATUS)).map_err(|error| with_path(&path, &error))?;
    let give = || {
        let opened = rustix::fs::open(&path, flags, Mode::empty())?;
        // Without capabilities, only members of a group can give files to it.
        System::in_group(gid, || {
            rustix::fs::fchown(&opened, None, Some(Gid::from_raw(gid)))
        })?;
        rustix::fs::fchmod(&opened, Mode::from_raw_mode(0o775))
    };
    give().map_err(|error: Errno| with_path(&path, &error.into()))
}

/// Removes everything but the agent's files, which must be regular files.
fn remove_foreign(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let is_known = [STATUS, SERVICES]
            .iter()
            .any(|name| entry.file_name() == *name);
        if !is_known || !entry.file_type()?.is_file() {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Replaces the subdirectory by a new one with the agent's files, because without capabilities even
/// root cannot empty a directory of another user. Tries to remove the old one then.
fn replace(directory: &Path) -> io::Result<()> {
    let aside = set_aside(directory)?;
    for name in [STATUS, SERVICES] {
        let (old, new) = (aside.join(name), state_file(directory, name));
        if fs::symlink_metadata(&old).is_ok_and(|found| found.is_file()) {
            create_parent(&new).map_err(|error| with_path(&new, &error))?;
            fs::rename(&old, &new).map_err(|error| with_path(&new, &error))?;
        }
    }
    remove(&aside).ok();
    Ok(())
}

/// Renames the subdirectory, and returns its new path.
fn set_aside(directory: &Path) -> io::Result<PathBuf> {
    let path = state_dir(directory);
    let aside = directory.join(format!("{STATE}.{}", std::process::id()));
    fs::rename(&path, &aside).map_err(|error| with_path(&path, &error))?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::write;
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn only_regular_files_of_the_agent_stay_in_the_state() {
        let directory = tempfile::tempdir().unwrap();
        let state = state_dir(directory.path());
        let foreign = directory.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("file"), "text").unwrap();
        write(&state.join(SERVICES), "web\n").unwrap();
        symlink(&foreign, state.join(STATUS)).unwrap();
        fs::create_dir_all(state.join("status.new/deep")).unwrap();
        symlink(&foreign, state.join("status.new/link")).unwrap();
        fs::create_dir_all(state.join("services.new/deep")).unwrap();
        fs::write(state.join("other"), "").unwrap();

        take_state(directory.path()).unwrap();
        let entries = fs::read_dir(&state).unwrap();
        let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [SERVICES]);
        assert_eq!(fs::read(foreign.join("file")).unwrap(), b"text");
    }

    #[test]
    fn link_in_place_of_the_state_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let foreign = directory.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("file"), "text").unwrap();
        symlink(&foreign, state_dir(directory.path())).unwrap();
        take_state(directory.path()).unwrap();
        let names = fs::read_dir(directory.path()).unwrap();
        assert_eq!(names.count(), 1, "the link is removed, and not followed");
        assert_eq!(fs::read(foreign.join("file")).unwrap(), b"text");
    }

    #[test]
    fn group_may_write_to_the_state_until_it_is_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let state = state_dir(directory.path());
        take_state(directory.path()).unwrap();
        give_state(directory.path(), rustix::process::getegid().as_raw()).unwrap();
        assert_eq!(mode(&state), 0o775, "a missing directory is created");

        take_state(directory.path()).unwrap();
        write(&state.join(STATUS), "text").unwrap();
        assert_eq!(mode(&state), 0o755);
        give_state(directory.path(), rustix::process::getegid().as_raw()).unwrap();
        assert_eq!(mode(&state), 0o775);
        take_state(directory.path()).unwrap();
        assert_eq!(mode(&state), 0o755);
        assert_eq!(fs::read(state.join(STATUS)).unwrap(), b"text");
    }

    #[test]
    #[ignore = "needs root"]
    fn names_of_services_change_their_owner_by_a_copy() {
        const NOBODY: u32 = 65534;
        let directory = tempfile::tempdir().unwrap();
        let services = state_file(directory.path(), SERVICES);
        write_private(&services, "web\n").unwrap();
        give_state(directory.path(), NOBODY).unwrap();
        let found = fs::metadata(state_dir(directory.path())).unwrap();
        assert_eq!((found.uid(), found.gid()), (0, NOBODY));

        std::os::unix::fs::chown(&services, Some(NOBODY), Some(NOBODY)).unwrap();
        let link = directory.path().join("link");
        fs::hard_link(&services, &link).unwrap();
        take_state(directory.path()).unwrap();
        assert_eq!(fs::metadata(&services).unwrap().uid(), NOBODY, "two links");

        fs::remove_file(&link).unwrap();
        take_state(directory.path()).unwrap();
        let found = fs::metadata(&services).unwrap();
        assert_eq!((found.uid(), found.gid(), mode(&services)), (0, 0, 0o640));
        assert_eq!(fs::read(&services).unwrap(), b"web\n");
    }
}
