//! Linux.

mod block;
mod btrfs;
mod confine;
mod dir_watch;
mod host;
mod link_table;
mod memory;
mod message;
mod mounts;
mod netlink;
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
mod seccomp;
mod sysfs;
mod volumes;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::SocketAddr;
use std::path::Path;

use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};
use rustix::time::ClockId;

use super::{Platform, Process};
use crate::confine::{Outcome, Plan};
use crate::guest::{Interfaces, Memory, Volume};
use crate::root::Root;
use dir_watch::DirWatch;
use host::HostName;
use memory::Meminfo;
use netlink::Netlink;
use sysfs::Sysfs;

/// A Linux system and the files that the agent keeps open in it.
#[derive(Debug)]
pub struct System {
    root: Root,
    meminfo: Option<Meminfo>,
    host_name: Option<HostName>,
}

impl Platform for System {
    type LinkMonitor = Netlink;
    type DirWatch = DirWatch;

    const CLOCK: ClockId = ClockId::Boottime;
    const SETTINGS: &'static str = "/etc/xen-guest-agent";
    const SERVICES: &'static str = "/etc/xen-guest-agent/services.d";
    const SYSLOG: Option<&'static str> = Some("/dev/log");
    // Unlike `/dev/stderr`, this exists in every `/dev`.
    const STANDARD_ERROR: Option<&'static str> = Some("/proc/self/fd/2");

    fn abstract_socket(name: &str) -> io::Result<SocketAddr> {
        SocketAddr::from_abstract_name(name)
    }

    fn is_local(path: &Path) -> io::Result<bool> {
        mounts::is_local(path)
    }

    fn reopen(file: &OwnedFd) -> io::Result<File> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::io::retry_on_intr(|| rustix::fs::open(&path, flags, Mode::empty()))?;
        Ok(File::from(file))
    }

    // The kernel forgets Landlock rules inside /proc when it is short of memory, so /proc is whole.
    const READABLE: &'static [&'static str] = &[
        "/etc",
        "/usr/lib",
        "/proc",
        "/sys",
        "/run/udev/data",
        "/var/run/udev/data",
    ];
    const XENSTORE_DEVICES: &'static [&'static str] = &["/dev/xen", "/proc/xen"];

    fn can_change_user() -> bool {
        confine::can_change_user()
    }

    fn in_group<T>(gid: u32, act: impl FnOnce() -> T) -> T {
        confine::in_group(gid, act)
    }

    fn reduce_capabilities() -> io::Result<()> {
        confine::reduce_capabilities()
    }

    fn confine(plan: &Plan) -> Outcome {
        confine::confine(plan)
    }

    fn new(root: Root) -> Self {
        System {
            root,
            meminfo: None,
            host_name: None,
        }
    }

    fn root(&self) -> &Root {
        &self.root
    }

    fn reopen_files(&mut self) {
        (self.meminfo, self.host_name) = (None, None);
    }

    fn is_xen_guest(&self) -> bool {
        host::is_xen_guest(&self.root)
    }

    fn is_control_domain(&self) -> bool {
        host::is_control_domain(&self.root)
    }

    fn find_daemons(&self, names: &[&str]) -> Vec<Process> {
        host::find_processes(&self.root, names, 0)
    }

    fn memory(&mut self) -> io::Result<Memory> {
        let meminfo = match &self.meminfo {
            Some(meminfo) => meminfo,
            None => self.meminfo.insert(Meminfo::open(&self.root)?),
        };
        meminfo.read()
    }

    fn host_name(&mut self) -> io::Result<Option<String>> {
        let host_name = match &self.host_name {
            Some(host_name) => host_name,
            None => self.host_name.insert(HostName::open(&self.root)?),
        };
        host_name.read()
    }

    fn host_name_event(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.host_name.as_ref().map(HostName::event)
    }

    fn has_balloon_driver(&self) -> bool {
        self.root
            .exists("/sys/devices/system/xen_memory/xen_memory0")
    }

    fn volumes(&self) -> io::Result<Vec<Volume>> {
        volumes::read(&self.root)
    }

    fn interfaces(&self) -> io::Result<Interfaces> {
        Netlink::snapshot(Sysfs::new(self.root.clone()))
    }

    fn monitor_links(&self) -> io::Result<Netlink> {
        Netlink::open(Sysfs::new(self.root.clone()))
    }

    fn watch_dir(&self) -> io::Result<DirWatch> {
        DirWatch::open(self.root.clone())
    }
}
