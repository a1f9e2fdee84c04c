//! Host name, processes and the hypervisor, from `/proc` and `/sys`.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use rustix::event::PollFlags;
use rustix::fs::{AtFlags, RawDir};

use crate::platform::Process;
use crate::root::{Root, with_path};

/// File with the host name. poll(2) reports `POLLERR | POLLPRI` after each change of the name.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Kernel's value while no host name has been set.
const NO_HOST_NAME: &str = "(none)";

/// Length in bytes to which Linux cuts the name of a process.
const COMM_MAX: usize = 15;

/// Maximum length in bytes of a command line that is read. Agents have few arguments.
const CMDLINE_MAX: usize = 4096;

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
            .map_err(|error| with_path(HOST_NAME.as_ref(), &error))?;
        let name = String::from_utf8_lossy(buffer.get(..len).unwrap_or_default());
        let name = name.trim();
        Ok((!name.is_empty() && name != NO_HOST_NAME).then(|| name.to_owned()))
    }

    pub(super) fn event(&self) -> (BorrowedFd<'_>, PollFlags) {
        (self.0.as_fd(), PollFlags::PRI)
    }
}

/// Whether the kernel runs on Xen. A kernel without `/sys/hypervisor` has `/proc/xen`, which the
/// kernel creates on Xen alone.
pub(super) fn is_xen_guest(root: &Root) -> bool {
    root.text("/sys/hypervisor/type")
        .map_or_else(|_| root.exists("/proc/xen"), |kind| kind == "xen")
}

pub(super) fn is_control_domain(root: &Root) -> bool {
    root.text("/proc/xen/capabilities").is_ok_and(|words| {
        words
            .split([',', ' ', '\n'])
            .any(|word| word == "control_d")
    })
}

/// Returns the processes of a user that have one of these names, except the agent itself.
///
/// Other users' processes cost one system call each, because there may be thousands.
pub(super) fn find_processes(root: &Root, names: &[&str], user: u32) -> Vec<Process> {
    let Ok(directory) = root.path("/proc").and_then(File::open) else {
        return Vec::new();
    };
    // With another root the agent's process ID may be another one there.
    let own_id = rustix::fs::readlinkat(&directory, "self", Vec::new()).ok();
    let is_user = |name: &CStr| {
        let status = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW);
        status.is_ok_and(|status| status.st_uid == user)
    };

    let mut found = Vec::new();
    // The standard library would allocate 32 KiB, which is much of this process's private memory.
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut entries = RawDir::new(&directory, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name();
        let id = name.to_str().ok().and_then(|name| name.parse().ok());
        if let Some(id) = id.filter(|_| own_id.as_deref() != Some(name) && is_user(name)) {
            found.extend(process(root, id, names));
        }
    }
    found
}

/// Returns a process if it has one of these names.
fn process(root: &Root, id: u32, names: &[&str]) -> Option<Process> {
    let comm = root.text(&format!("/proc/{id}/comm")).ok()?;
    // The kernel cuts names to 15 bytes.
    if !names
        .iter()
        .any(|name| name.get(..COMM_MAX).unwrap_or(name) == comm)
    {
        return None;
    }
    let line = root
        .read(&format!("/proc/{id}/cmdline"), CMDLINE_MAX)
        .ok()?;
    let line = String::from_utf8_lossy(&line);
    let arguments: Vec<String> = line.split_terminator('\0').map(str::to_owned).collect();
    let program = arguments.first()?.rsplit('/').next()?;
    names
        .contains(&program)
        .then_some(Process { id, arguments })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    use super::*;

    fn write(directory: &Path, file: &str, text: &str) {
        let path = directory.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn xen_is_recognised_without_sys_hypervisor() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        assert!(!is_xen_guest(&root));
        fs::create_dir_all(directory.path().join("proc/xen")).unwrap();
        assert!(is_xen_guest(&root));
        write(directory.path(), "sys/hypervisor/type", "kvm\n");
        assert!(!is_xen_guest(&root));
        write(directory.path(), "sys/hypervisor/type", "xen\n");
        assert!(is_xen_guest(&root));
    }

    #[test]
    fn control_domain_is_recognised_by_its_capabilities() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        assert!(!is_control_domain(&root));
        for (text, expected) in [
            ("", false),
            ("\n", false),
            ("not_control_d\n", false),
            ("control_d\n", true),
            ("control_d,xenstore\n", true),
        ] {
            write(directory.path(), "proc/xen/capabilities", text);
            assert_eq!(is_control_domain(&root), expected, "{text:?}");
        }
    }

    #[test]
    fn only_processes_of_the_user_and_with_the_full_name_are_found() {
        let directory = tempfile::tempdir().unwrap();
        for (id, comm, cmdline) in [
            ("1", "init", "/sbin/init\0"),
            (
                "10",
                "xen-guest-agent",
                "/usr/sbin/xen-guest-agent\0-l\0debug\0",
            ),
            ("11", "xen-guest-agent", "./xen-guest-agent-demo\0"),
            ("12", "xen-guest-agent", ""),
            ("13", "xen-guest-agent", "xen-guest-agent\0"),
            ("14", "xe-daemon", "/usr/sbin/xe-daemon\0-p\0/run/x.pid\0"),
            ("x14", "xe-daemon", "xe-daemon\0"),
        ] {
            write(
                directory.path(),
                &format!("proc/{id}/comm"),
                &format!("{comm}\n"),
            );
            write(directory.path(), &format!("proc/{id}/cmdline"), cmdline);
        }
        std::os::unix::fs::symlink("13", directory.path().join("proc/self")).unwrap();
        let root = Root::new(directory.path());
        let find = |user| {
            let found = find_processes(&root, &["xe-daemon", "xen-guest-agent"], user);
            let mut found: Vec<_> = found
                .into_iter()
                .map(|process| (process.id, process.arguments.len()))
                .collect();
            found.sort_unstable();
            found
        };
        let user = fs::metadata(directory.path()).unwrap().uid();
        assert_eq!(find(user), [(10, 3), (14, 3)]);
        assert_eq!(find(user + 1), []);
    }
}
