//! Host name, processes and the hypervisor, from `/proc` and `/sys`.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use rustix::event::PollFlags;
use rustix::fs::RawDir;

use crate::root::Root;

/// File with the host name. poll(2) reports `POLLERR | POLLPRI` after each change of the name.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Kernel's value while no host name has been set.
const NO_HOST_NAME: &str = "(none)";

/// Host name of the system, in a file that stays open.
#[derive(Debug)]
pub(super) struct HostName(File);

impl HostName {
    pub(super) fn open(root: &Root) -> io::Result<Self> {
        root.open(HOST_NAME).map(HostName)
    }

    pub(super) fn read(&self) -> io::Result<Option<String>> {
        // Linux limits the name to 64 bytes.
        let mut buffer = [0; 256];
        let len = self
            .0
            .read_at(&mut buffer, 0)
            .map_err(|error| io::Error::new(error.kind(), format!("{HOST_NAME}: {error}")))?;
        let name = String::from_utf8_lossy(buffer.get(..len).unwrap_or_default());
        let name = name.trim();
        Ok((!name.is_empty() && name != NO_HOST_NAME).then(|| name.to_owned()))
    }

    pub(super) fn event(&self) -> (BorrowedFd<'_>, PollFlags) {
        (self.0.as_fd(), PollFlags::PRI)
    }
}

pub(super) fn is_xen_guest(root: &Root) -> bool {
    root.text("/sys/hypervisor/type")
        .is_ok_and(|hypervisor| hypervisor == "xen")
}

fn process_name(root: &Root, process: u32) -> Option<String> {
    root.text(&format!("/proc/{process}/comm")).ok()
}

pub(super) fn find_process(root: &Root, name: &str) -> Option<u32> {
    let processes = File::open(root.path("/proc").ok()?).ok()?;
    // The standard library would allocate 32 KiB, which is much of this process's private memory.
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut entries = RawDir::new(processes, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        let file_name = entry.file_name().to_str().ok();
        let Some(process) = file_name.and_then(|name| name.parse().ok()) else {
            continue;
        };
        if process_name(root, process).as_deref() == Some(name) {
            return Some(process);
        }
    }
    None
}
