//! Changes in a directory, from inotify(7).

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use crate::platform;
use crate::root::Root;

/// Reports changes in a directory, and that the directory itself was created, removed or replaced.
///
/// The creation is reported only if the parent exists. Watching further up would wake the agent for
/// each file in `/etc`.
#[derive(Debug)]
pub struct DirWatch {
    inotify: OwnedFd,
    root: Root,
    /// Watches on the parent and on the directory.
    watches: [Option<i32>; 2],
    is_reliable: bool,
}

impl DirWatch {
    pub(super) fn open(root: Root) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)
            .map_err(|error| explain(error.into()))?;
        Ok(DirWatch {
            inotify,
            root,
            watches: [None; 2],
            is_reliable: false,
        })
    }
}

impl platform::DirWatch for DirWatch {
    fn renew(&mut self, directory: &str, parent: &str) -> io::Result<()> {
        // An event has at most 272 bytes.
        let mut events = [0; 512];
        while rustix::io::read(&self.inotify, &mut events).is_ok_and(|len| len > 0) {}

        // The agent reads a file after its writer has closed it. Links are never closed, only
        // created.
        let changes =
            WatchFlags::CREATE | WatchFlags::CLOSE_WRITE | WatchFlags::MOVE | WatchFlags::DELETE;
        let place = WatchFlags::ONLYDIR | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        let parent_flags = WatchFlags::CREATE | WatchFlags::MOVE | place;
        // The parent comes first, so that the creation of the directory in between is not missed.
        let [parent, directory] =
            [(parent, parent_flags), (directory, changes | place)].map(|(path, flags)| {
                // This returns the existing watch if the same directory is still at the path.
                let path = self.root.path(path)?;
                inotify::add_watch(&self.inotify, path, flags)
                    .map_err(|error| explain(error.into()))
            });

        let is_absent = directory
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::NotFound);
        self.is_reliable = directory.is_ok() || (is_absent && parent.is_ok());

        let error = directory
            .as_ref()
            .err()
            .filter(|_| !is_absent)
            .map(|error| io::Error::new(error.kind(), error.to_string()));
        let new = [parent.ok(), directory.ok()];
        let old = std::mem::replace(&mut self.watches, new);
        for watch in old
            .into_iter()
            .flatten()
            .filter(|watch| !new.contains(&Some(*watch)))
        {
            // This fails for a removed directory because the kernel has removed its watch.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
        error.map_or(Ok(()), Err)
    }

    fn is_reliable(&self) -> bool {
        self.is_reliable
    }
}

/// Names the limit that an error of inotify(7) is about. The system's messages are about open files
/// and free space.
fn explain(error: io::Error) -> io::Error {
    let reason = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE) => "no free inotify instance; raise fs.inotify.max_user_instances",
        Some(Errno::NOSPC) => "no free inotify watch; raise fs.inotify.max_user_watches",
        _ => return error,
    };
    io::Error::new(error.kind(), reason)
}

impl AsFd for DirWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exhausted_limits_are_named() {
        for (errno, limit) in [
            (Errno::MFILE, "fs.inotify.max_user_instances"),
            (Errno::NOSPC, "fs.inotify.max_user_watches"),
        ] {
            let explained = explain(errno.into()).to_string();
            assert!(
                explained.ends_with(&format!("; raise {limit}")),
                "{explained}"
            );
        }
        assert_eq!(
            explain(Errno::NOENT.into()).raw_os_error(),
            Some(Errno::NOENT.raw_os_error())
        );
    }
}
