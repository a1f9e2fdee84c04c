//! Being told of changes in a directory, by inotify(7).

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::root::Root;

/// Readable when something changed in a directory, or the directory itself came, went or was replaced.
///
/// That it came is told only where the directory above is there: no guest should wake for each file in `/etc`.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: OwnedFd,
    /// The watch on the directory, and on the one above.
    watches: [Option<i32>; 2],
    /// Whether it tells of what comes next.
    is_reliable: bool,
}

impl Watch {
    pub(super) fn open() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Watch {
            inotify,
            watches: [None; 2],
            is_reliable: false,
        })
    }

    /// Whether all that can change is told.
    pub(super) fn is_reliable(&self) -> bool {
        self.is_reliable
    }

    /// Forgets what was told, and watches what stands at the path now. To be called before the directory is read: then
    /// nothing is missed.
    pub(super) fn renew(&mut self, root: &Root, directory: &str, above: &str) {
        // One event has at most 272 bytes.
        let mut events = [0; 512];
        while rustix::io::read(&self.inotify, &mut events).is_ok_and(|len| len > 0) {}
        // A file is read when its writer is done with it. Links are only created.
        let changes =
            WatchFlags::CREATE | WatchFlags::CLOSE_WRITE | WatchFlags::MOVE | WatchFlags::DELETE;
        let place = WatchFlags::ONLYDIR | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        let above_flags = WatchFlags::CREATE | WatchFlags::MOVE | place;
        // The one above first, so that a directory that comes in between is not missed.
        let [above, directory] =
            [(above, above_flags), (directory, changes | place)].map(|(path, flags)| {
                // The same watch again, where the same directory still stands there.
                Ok::<_, io::Error>(inotify::add_watch(&self.inotify, root.path(path)?, flags)?)
            });
        let is_absent = directory
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::NotFound);
        self.is_reliable = directory.is_ok() || (is_absent && above.is_ok());
        let new = [above.ok(), directory.ok()];
        let old = std::mem::replace(&mut self.watches, new);
        for watch in old
            .into_iter()
            .flatten()
            .filter(|watch| !new.contains(&Some(*watch)))
        {
            // Fails for a directory that is gone, whose watch is too.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
