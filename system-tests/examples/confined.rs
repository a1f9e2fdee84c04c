//! Gives up privileges as the agent does, and then tries what the agent must not do:
//!
//! ```sh
//! confined user|uid0 ACTION
//! ```
//!
//! Exits with 0 if the action succeeded and 1 if it was refused. A signal also counts as a refusal.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "this is a test program"
)]

use std::error::Error;
use std::fs::{self, File, OpenOptions, Permissions};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, ExitCode};

use memmap2::MmapMut;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::unistd::Pid;
use xen_guest_agent::confine::{Plan, User, readable};
use xen_guest_agent::platform::{Platform as _, System};
use xen_guest_agent::root::Root;

/// User ID of nobody, which every Linux system has.
const NOBODY: u32 = 65534;

fn main() -> ExitCode {
    let [mode, action] = [1, 2].map(|index| std::env::args().nth(index).expect("MODE ACTION"));
    // Made before, so that only the calls under test can fail.
    let mut memory = MmapMut::map_anon(4096).unwrap();
    memory.fill(0);
    let directory = std::env::temp_dir().join(format!("confined-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();

    let id = NOBODY;
    let user = (mode == "user").then_some(User { uid: id, gid: id });
    // The service has no capability to give the directory to the user.
    fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
    let outcome = System::confine(&Plan {
        user,
        readable: readable(&Root::default(), &[], &[]),
        writable: vec![directory.clone()],
        ..Plan::default()
    });
    println!("{}", outcome.describe());
    assert_eq!(outcome.problems, [""; 0]);

    let result = act(&action, memory, &directory);
    match &result {
        Ok(()) => println!("{action} succeeded"),
        Err(error) => println!("{action}: {error}"),
    }
    ExitCode::from(u8::from(result.is_err()))
}

fn act(action: &str, memory: MmapMut, directory: &Path) -> Result<(), Box<dyn Error>> {
    match action {
        // Actions of the agent.
        "read-etc" => drop(File::open("/etc/os-release")?),
        "read-proc" => drop(fs::read("/proc/meminfo")?),
        "write-state" => {
            fs::write(directory.join("new"), "text")?;
            fs::rename(directory.join("new"), directory.join("status"))?;
            fs::remove_file(directory.join("status"))?;
        }
        "unix-socket" => drop(UnixDatagram::unbound()?),

        // Actions that it must not do.
        "write-etc" => drop(OpenOptions::new().append(true).open("/etc/passwd")?),
        "create-etc" => drop(File::create_new("/etc/confined-test")?),
        "write-run" => drop(File::create_new("/run/confined-test")?),
        "read-shadow" => drop(File::open("/etc/shadow")?),
        "read-home" => drop(fs::read_dir("/root")?),
        "write-sysctl" => fs::write("/proc/sys/kernel/hostname", "confined")?,
        "exec" => drop(Command::new("/bin/true").status()?),
        "internet-socket" => drop(UdpSocket::bind("127.0.0.1:0")?),
        "ptrace" => nix::sys::ptrace::attach(Pid::parent())?,
        "kill" => nix::sys::signal::kill(Pid::parent(), None)?,
        "mount" => {
            nix::mount::mount(
                Some("none"),
                "/mnt",
                Some("tmpfs"),
                MsFlags::empty(),
                None::<&str>,
            )?;
        }
        "unshare" => nix::sched::unshare(CloneFlags::CLONE_NEWUSER)?,
        "executable-memory" => drop(memory.make_exec()?),
        "set-user" => rustix::thread::set_thread_res_uid(
            rustix::process::Uid::ROOT,
            rustix::process::Uid::ROOT,
            rustix::process::Uid::ROOT,
        )?,
        other => panic!("no such action: {other}"),
    }
    Ok(())
}
