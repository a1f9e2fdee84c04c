//! FreeBSD. Only what is portable works so far.

mod interfaces;

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::PollFlags;
use rustix::time::ClockId;

use super::{DirWatch, LinkMonitor, Platform, Process, uname};
use crate::guest::{Interfaces, Memory, Volume};
use crate::root::Root;

/// A FreeBSD system.
#[derive(Debug)]
pub struct System {
    root: Root,
}

impl Platform for System {
    type LinkMonitor = Unsupported;
    type DirWatch = Unsupported;

    const CLOCK: ClockId = ClockId::Monotonic;
    const SYSLOG: Option<&'static str> = Some("/var/run/log");
    const STANDARD_ERROR: Option<&'static str> = None;

    fn new(root: Root) -> Self {
        System { root }
    }

    fn root(&self) -> &Root {
        &self.root
    }

    fn reopen_files(&mut self) {}

    fn is_xen_guest(&self) -> bool {
        false
    }

    fn is_control_domain(&self) -> bool {
        false
    }

    fn find_daemons(&self, _names: &[&str]) -> Vec<Process> {
        Vec::new()
    }

    fn memory(&mut self) -> io::Result<Memory> {
        Err(unsupported("memory"))
    }

    fn host_name(&mut self) -> io::Result<Option<String>> {
        Ok(uname::host_name())
    }

    fn host_name_event(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        None
    }

    fn has_balloon_driver(&self) -> bool {
        false
    }

    fn volumes(&self) -> io::Result<Vec<Volume>> {
        Err(unsupported("volumes"))
    }

    fn interfaces(&self) -> io::Result<Interfaces> {
        interfaces::snapshot()
    }

    fn monitor_links(&self) -> io::Result<Unsupported> {
        Err(unsupported("link monitor"))
    }

    fn watch_dir(&self) -> io::Result<Unsupported> {
        Err(unsupported("directory watches"))
    }
}

/// A source of changes that does not exist yet. It has no values.
#[derive(Debug)]
pub enum Unsupported {}

impl AsFd for Unsupported {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}

impl LinkMonitor for Unsupported {
    const NAME: &'static str = "none";

    fn on_readable(&mut self, _interfaces: &mut Interfaces) -> io::Result<bool> {
        match *self {}
    }

    fn is_synced(&self) -> bool {
        match *self {}
    }

    fn has_failed(&self) -> bool {
        match *self {}
    }

    fn resync(&mut self) -> io::Result<()> {
        match *self {}
    }
}

impl DirWatch for Unsupported {
    fn renew(&mut self, _directory: &str, _parent: &str) -> io::Result<()> {
        match *self {}
    }

    fn is_reliable(&self) -> bool {
        match *self {}
    }
}

fn unsupported(operation: &str) -> io::Error {
    let message = format!("{operation}: not supported on FreeBSD yet");
    io::Error::new(ErrorKind::Unsupported, message)
}
