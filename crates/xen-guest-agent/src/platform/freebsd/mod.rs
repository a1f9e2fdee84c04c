//! FreeBSD.

mod calls;
mod interfaces;
mod sysctl;

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use log::debug;
use rustix::event::PollFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::time::ClockId;

use super::routing_socket::RoutingSocket;
use super::{DirWatch, Platform, Process, bsd};
use crate::guest::{Interfaces, Memory, Volume};
use crate::root::Root;
use bsd::layout::Layout;

/// Xenstore device of the kernel. It exists on Xen alone.
const XENSTORE_DEVICE: &str = "/dev/xen/xenstore";

/// Format of routing messages. A 64-bit kernel sends its own format to programs of 32-bit
/// architectures, too, and what the agent decodes is the same in both.
const MESSAGES: &Layout = if cfg!(target_pointer_width = "32") {
    &Layout::FREEBSD_I386
} else {
    &Layout::FREEBSD
};

/// A FreeBSD system.
#[derive(Debug)]
pub struct System {
    root: Root,
}

impl Platform for System {
    type LinkMonitor = RoutingSocket;
    type DirWatch = Unsupported;

    const CLOCK: ClockId = ClockId::Monotonic;
    // hier(7) has the settings of ports there.
    const SETTINGS: &'static str = "/usr/local/etc/xen-guest-agent";
    const SERVICES: &'static str = "/usr/local/etc/xen-guest-agent/services.d";
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
        let value = sysctl::value("kern.vm_guest").ok().flatten();
        value.is_some_and(|value| bsd::sysctl::is_xen(&value)) || self.root.exists(XENSTORE_DEVICE)
    }

    fn is_control_domain(&self) -> bool {
        false
    }

    fn find_daemons(&self, _names: &[&str]) -> Vec<Process> {
        Vec::new()
    }

    fn memory(&mut self) -> io::Result<Memory> {
        bsd::sysctl::memory(sysctl::value)
    }

    fn host_name(&mut self) -> io::Result<Option<String>> {
        let value = sysctl::value("kern.hostname")?;
        let name = value.map(|value| bsd::sysctl::text(&value));
        Ok(name.filter(|name| !name.is_empty()))
    }

    fn host_name_event(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        None
    }

    fn has_balloon_driver(&self) -> bool {
        // The device has this value once its driver is attached.
        let value = sysctl::value("dev.xenballoon.0.%parent");
        value.is_ok_and(|value| value.is_some())
    }

    fn volumes(&self) -> io::Result<Vec<Volume>> {
        Err(unsupported("volumes"))
    }

    fn interfaces(&self) -> io::Result<Interfaces> {
        let snapshot = interfaces::snapshot()?;
        if let Some(error) = snapshot.error {
            debug!("incomplete list of interfaces: {error}");
        }
        Ok(snapshot.interfaces)
    }

    fn monitor_links(&self) -> io::Result<RoutingSocket> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::ROUTE, SocketType::RAW, flags, None);
        let socket = socket.map_err(|error| {
            let error = io::Error::from(error);
            io::Error::new(error.kind(), format!("open a routing socket: {error}"))
        })?;
        Ok(RoutingSocket::new(socket, MESSAGES, interfaces::snapshot))
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
