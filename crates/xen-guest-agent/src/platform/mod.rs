//! Everything that the agent needs from an operating system: memory, interfaces, names and events.
//!
//! [`System`] is the operating system that the agent was compiled for. Its folder implements
//! [`Platform`]; only this file selects one, and no other module of the crate has a
//! `#[cfg(target_os)]`. To add a system, write a folder with a `System` in it and add the folder to
//! the list below.

pub mod bsd;
pub mod clock;
pub mod routing_socket;
pub mod uname;

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "freebsd")]
use freebsd as sys;
#[cfg(target_os = "linux")]
use linux as sys;

#[cfg(not(any(target_os = "freebsd", target_os = "linux")))]
compile_error!("no folder in src/platform implements this operating system");

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::time::ClockId;

use crate::confine::{Outcome, Plan};
use crate::guest::{Interfaces, Memory, Volume};
use crate::root::Root;

pub use sys::System;

/// Interface to an operating system. A system that lacks something returns
/// [`io::ErrorKind::Unsupported`], `None` or `false`.
pub trait Platform: Sized {
    /// Source of link and address changes.
    type LinkMonitor: LinkMonitor;
    /// Source of changes in a directory.
    type DirWatch: DirWatch;

    /// Clock for all deadlines. It also counts the time in which the guest is suspended, if the
    /// system has such a clock.
    const CLOCK: ClockId;

    /// Directory of the settings files.
    const SETTINGS: &'static str;

    /// Default directory of the administrator's services.
    const SERVICES: &'static str;

    /// Socket of the system's log daemon.
    const SYSLOG: Option<&'static str>;

    /// File that opens standard error again, with flags of its own. It is `None` on systems whose
    /// files for this return duplicates of the descriptor.
    const STANDARD_ERROR: Option<&'static str>;

    /// Returns the address of a socket that has a name without a file.
    ///
    /// # Errors
    /// The system's, or `Unsupported`.
    fn abstract_socket(_name: &str) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether looking up an absolute path without links crosses only mounted file systems that
    /// do not wait for a server or a process. The root directory may be on any.
    ///
    /// # Errors
    /// The system's, if mounts cannot be read.
    fn is_local(_path: &Path) -> io::Result<bool> {
        Ok(true)
    }

    /// Opens the file of a descriptor from `O_PATH` for reading.
    ///
    /// # Errors
    /// The system's, or `Unsupported`.
    fn reopen(_file: &OwnedFd) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Directories with system files that the agent reads while it runs.
    const READABLE: &'static [&'static str] = &[];

    /// Directories of the kernel's Xenstore devices.
    const XENSTORE_DEVICES: &'static [&'static str] = &[];

    /// Whether the process may change its user and group.
    fn can_change_user() -> bool {
        false
    }

    /// Calls `act` while the process belongs to the group, if it may join the group.
    fn in_group<T>(_gid: u32, act: impl FnOnce() -> T) -> T {
        act()
    }

    /// Gives up all capabilities but those that [`confine`](Self::confine) needs.
    ///
    /// # Errors
    /// The system's.
    fn reduce_capabilities() -> io::Result<()> {
        Ok(())
    }

    /// Gives up all privileges that are not part of the plan, for good. The process must have only
    /// one thread.
    fn confine(_plan: &Plan) -> Outcome {
        Outcome::default()
    }

    /// Returns the system whose files are below `root`.
    fn new(root: Root) -> Self;

    /// Returns the directory that system files are read under.
    fn root(&self) -> &Root;

    /// Closes all files, so that the next use opens them again. A long-running agent needs this
    /// because another file may be at the same path by now.
    fn reopen_files(&mut self);

    /// Whether the kernel runs on Xen. If it does, a missing Xenstore device may still appear.
    fn is_xen_guest(&self) -> bool;

    /// Whether this is the host's control domain instead of a guest.
    fn is_control_domain(&self) -> bool;

    /// Returns the other processes of the superuser that have one of these names.
    fn find_daemons(&self, names: &[&str]) -> Vec<Process>;

    /// Returns the size of memory and how much of it is available.
    ///
    /// # Errors
    /// The system's, with the path.
    fn memory(&mut self) -> io::Result<Memory>;

    /// Returns the host name, or `None` while the system has not been given one.
    ///
    /// # Errors
    /// The system's, with the path.
    fn host_name(&mut self) -> io::Result<Option<String>>;

    /// Returns a descriptor and the poll events that report a new host name. It is available once
    /// [`host_name`](Self::host_name) has succeeded.
    fn host_name_event(&self) -> Option<(BorrowedFd<'_>, PollFlags)>;

    /// Whether a balloon driver follows the host's memory target.
    fn has_balloon_driver(&self) -> bool;

    /// Returns up to [`MAX_VOLUMES`](crate::guest::MAX_VOLUMES) volumes, mounted ones first if
    /// there are more.
    ///
    /// # Errors
    /// The system's, if block devices or mounts cannot be read.
    fn volumes(&self) -> io::Result<Vec<Volume>>;

    /// Returns a complete snapshot of the interfaces.
    ///
    /// # Errors
    /// The system's.
    fn interfaces(&self) -> io::Result<Interfaces>;

    /// Starts to monitor links and addresses.
    ///
    /// # Errors
    /// The system's, or `Unsupported`. Then [`interfaces`](Self::interfaces) must be polled.
    fn monitor_links(&self) -> io::Result<Self::LinkMonitor>;

    /// Returns a watch that does not watch a directory yet.
    ///
    /// # Errors
    /// The system's, or `Unsupported`. Then directories must be polled.
    fn watch_dir(&self) -> io::Result<Self::DirWatch>;
}

/// A running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process ID.
    pub id: u32,
    /// Path of the program as it was called, and its arguments.
    pub arguments: Vec<String>,
}

/// Reports changes of links and addresses. Its descriptor is readable when there are any.
pub trait LinkMonitor: AsFd {
    /// Name of the mechanism.
    const NAME: &'static str;

    /// Updates `interfaces` with what the kernel reported. Returns whether they changed.
    ///
    /// # Errors
    /// The first error since the last complete report. `interfaces` may have changed before it.
    fn on_readable(&mut self, interfaces: &mut Interfaces) -> io::Result<bool>;

    /// Returns the time at which [`on_readable`](Self::on_readable) must be called even if the
    /// descriptor is not readable, because the kernel does not report each change.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    /// Whether a complete report has arrived since the monitor was opened.
    fn is_synced(&self) -> bool;

    /// Whether an error kept the last report from being complete, so that the caller should
    /// try [`resync`](Self::resync).
    fn has_failed(&self) -> bool;

    /// Asks the kernel to report all links and addresses again.
    ///
    /// # Errors
    /// The first error since the last complete report.
    fn resync(&mut self) -> io::Result<()>;
}

/// Reports changes in a directory. Its descriptor is readable when there are any.
pub trait DirWatch: AsFd {
    /// Discards all events and watches the directory that is at the path now, and its parent.
    ///
    /// Call this before reading the directory, so that no change is missed.
    ///
    /// # Errors
    /// The reason why changes in an existing directory are not reported.
    fn renew(&mut self, directory: &str, parent: &str) -> io::Result<()>;

    /// Whether every later change will be reported.
    fn is_reliable(&self) -> bool;
}
