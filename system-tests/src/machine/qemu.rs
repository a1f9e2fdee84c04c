//! QEMU without hardware virtualisation, which not every machine allows.

use std::fs;
use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;

use super::packages::Packages;

/// What starts in a virtual machine.
pub(crate) struct Boot {
    /// The kernel's image, or the hypervisor's.
    pub(crate) kernel: Vec<u8>,
    /// The kernel's command line, or the hypervisor's.
    pub(crate) command_line: String,
    /// What is loaded beside it: first the kernel with its command line, if it is a hypervisor that starts.
    pub(crate) modules: Vec<(Vec<u8>, String)>,
    pub(crate) processors: u32,
    pub(crate) memory_mib: u32,
    /// A machine that takes longer is ended.
    pub(crate) timeout: Duration,
}

/// What a machine said until it ended.
pub(crate) struct Report {
    /// On its console.
    pub(crate) console: String,
    /// On its second serial line, which nothing but its init writes to.
    pub(crate) result: String,
}

/// Runs a virtual machine until it powers off. Its console appears on standard output as it comes.
///
/// It sees the root directory of this machine, read-only, as a 9p file system named `root`.
pub(crate) fn run(packages: &Packages, boot: &Boot) -> Report {
    let directory = tempfile::tempdir().expect("make a temporary directory");
    let mut command = packages.command("usr/bin/qemu-system-x86_64");
    for data in ["usr/share/qemu", "usr/share/seabios"] {
        command.arg("-L").arg(packages.path(data));
    }
    command.env(
        "QEMU_MODULE_DIR",
        packages.path("usr/lib/x86_64-linux-gnu/qemu"),
    );
    // Without RDRAND, programs wait for seconds until the kernel has gathered random numbers.
    command.args([
        "-accel",
        "tcg,thread=multi,tb-size=512",
        "-machine",
        "q35,usb=off,vmport=off",
    ]);
    command.args([
        "-cpu",
        "qemu64,+rdrand",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
    ]);
    command.args([
        "-display", "none", "-vga", "none", "-nic", "none", "-serial", "stdio",
    ]);
    command.args([
        "-smp",
        &boot.processors.to_string(),
        "-m",
        &boot.memory_mib.to_string(),
    ]);
    command.args([
        "-virtfs",
        "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap",
    ]);
    let result = directory.path().join("result");
    command
        .arg("-serial")
        .arg(format!("file:{}", result.display()));
    load(&mut command, &directory, boot);

    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut qemu = Running(
        command
            .spawn()
            .unwrap_or_else(|error| panic!("QEMU: {error}")),
    );
    let console = watch(&mut qemu.0, boot.timeout);
    Report {
        console,
        result: fs::read_to_string(result).unwrap_or_default(),
    }
}

/// Ends QEMU when the test ends, however it does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Passes on what QEMU prints until it ends, and returns that.
fn watch(qemu: &mut Child, timeout: Duration) -> String {
    let deadline = Instant::now() + timeout;
    let mut output = qemu.stdout.take().expect("a pipe");
    let mut console = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("less than centuries");
        let ready = poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&left)).expect("poll");
        assert!(
            ready > 0,
            "the virtual machine was still running after {timeout:?}"
        );
        let mut bytes = [0; 4096];
        let len = output.read(&mut bytes).expect("read what QEMU prints");
        if len == 0 {
            return String::from_utf8_lossy(&console).into_owned();
        }
        // Not by print!, which would hide it until the test has failed.
        io::stdout()
            .write_all(&bytes[..len])
            .expect("write to standard output");
        console.extend_from_slice(&bytes[..len]);
    }
}

/// Adds to QEMU's command line what it loads, as files in `directory`.
fn load(command: &mut Command, directory: &TempDir, boot: &Boot) {
    let write = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path.into_os_string()
            .into_string()
            .expect("temporary directories have plain names")
    };
    command
        .arg("-kernel")
        .arg(write("kernel", &boot.kernel))
        .arg("-append")
        .arg(&boot.command_line);
    let module = |(number, (content, command_line)): (usize, &(Vec<u8>, String))| {
        // A comma separates modules, and a doubled one is a comma.
        format!(
            "{} {}",
            write(&format!("module-{number}"), content),
            command_line.replace(',', ",,")
        )
    };
    let modules: Vec<_> = boot.modules.iter().enumerate().map(module).collect();
    command.arg("-initrd").arg(modules.join(",").trim_end());
}
