//! QEMU without hardware virtualisation, because not every machine allows it.

use std::fs;
use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;

use super::packages::Packages;

/// Configuration of a virtual machine.
pub(crate) struct Boot {
    /// Image of the kernel or hypervisor.
    pub(crate) kernel: Vec<u8>,
    /// Command line of the kernel or hypervisor.
    pub(crate) command_line: String,
    /// Boot modules with their command lines. For a hypervisor, the first is the kernel of domain
    /// 0.
    pub(crate) modules: Vec<(Vec<u8>, String)>,
    pub(crate) processors: u32,
    pub(crate) memory_mib: u32,
    /// Time after which the machine is killed.
    pub(crate) timeout: Duration,
}

/// Output of a machine.
pub(crate) struct Report {
    /// Output on the console.
    pub(crate) console: String,
    /// Output on the second serial line, which only `init.sh` uses.
    pub(crate) result: String,
}

/// Runs a virtual machine until it powers off, and copies its console to standard output.
///
/// The root directory of this machine is available in it as a read-only 9p file system named
/// `root`.
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

    // RDRAND avoids waiting for seconds until the kernel has enough entropy.
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

/// Kills QEMU when the test ends or fails.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Copies QEMU's output to standard output until it ends, and returns it.
fn watch(qemu: &mut Child, timeout: Duration) -> String {
    let deadline = Instant::now() + timeout;
    let mut output = qemu.stdout.take().expect("a pipe");
    let mut console = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("a short timeout");
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
        // Output of `print!` would be hidden until the test has failed.
        io::stdout()
            .write_all(&bytes[..len])
            .expect("write to standard output");
        console.extend_from_slice(&bytes[..len]);
    }
}

/// Writes the boot files to `directory` and adds them to QEMU's command line.
fn load(command: &mut Command, directory: &TempDir, boot: &Boot) {
    let write = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path.into_os_string()
            .into_string()
            .expect("a path in UTF-8")
    };
    command
        .arg("-kernel")
        .arg(write("kernel", &boot.kernel))
        .arg("-append")
        .arg(&boot.command_line);
    let module = |(number, (content, command_line)): (usize, &(Vec<u8>, String))| {
        // Commas separate modules, so a literal comma is doubled.
        format!(
            "{} {}",
            write(&format!("module-{number}"), content),
            command_line.replace(',', ",,")
        )
    };
    let modules: Vec<_> = boot.modules.iter().enumerate().map(module).collect();
    command.arg("-initrd").arg(modules.join(",").trim_end());
}
