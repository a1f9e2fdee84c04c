//! Facts of the system itself: kernel, host name, balloon driver, and whether this is a Xen guest at all.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;

use rustix::fs::RawDir;

use crate::collect::distribution;
use crate::guest::Distribution;
use crate::root::Root;
use crate::text::to_ascii;

/// The kernel's release, as `uname -r` has it.
pub fn kernel() -> String {
    to_ascii(&rustix::system::uname().release().to_string_lossy())
}

/// The distribution, where the kernel's name tells it.
pub fn distribution() -> Option<Distribution> {
    let names = rustix::system::uname();
    distribution::from_kernel(
        &names.sysname().to_string_lossy(),
        &names.release().to_string_lossy(),
    )
}

/// Whether a balloon driver follows the host's memory target.
pub fn has_balloon(root: &Root) -> bool {
    root.exists("/sys/devices/system/xen_memory/xen_memory0")
}

/// Whether the kernel knows that it runs on Xen; then a Xenstore device that is missing is worth waiting for.
pub fn is_xen(root: &Root) -> bool {
    root.text("/sys/hypervisor/type")
        .is_ok_and(|hypervisor| hypervisor == "xen")
}

/// The system's node name, in a file that poll(2) reports (`POLLERR | POLLPRI`) when the name was set.
#[derive(Debug)]
pub struct HostName(File);

impl HostName {
    /// Opens the file.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn open(root: &Root) -> io::Result<Self> {
        root.open("/proc/sys/kernel/hostname").map(HostName)
    }

    /// The name now; none while the system has not been given one.
    pub fn read(&self) -> Option<String> {
        let mut buffer = [0; 256];
        let len = self.0.read_at(&mut buffer, 0).ok()?;
        let name = to_ascii(&String::from_utf8_lossy(buffer.get(..len)?));
        // "(none)" is what Linux starts with.
        (!name.is_empty() && name != "(none)").then_some(name)
    }

    /// What to poll for `POLLPRI`.
    pub fn file(&self) -> &File {
        &self.0
    }
}

/// Whether this process is an agent of ours.
pub fn is_agent(process: &str) -> bool {
    Root::default()
        .text(&format!("/proc/{process}/comm"))
        .is_ok_and(|name| name == env!("CARGO_PKG_NAME"))
}

/// The process of the Go agent, if it runs.
pub fn former_agent(root: &Root) -> Option<u32> {
    let processes = File::open(root.path("/proc").ok()?).ok()?;
    // The standard library's way takes 32 KiB for it, which this process does not have to spare.
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut entries = RawDir::new(processes, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        let Some(number) = entry
            .file_name()
            .to_str()
            .ok()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if root
            .text(&format!("/proc/{number}/comm"))
            .is_ok_and(|name| name == "xe-daemon")
        {
            return Some(number);
        }
    }
    None
}
