//! Guests with another kernel or processor than this machine's.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::PASSWD;
use super::initramfs::Initramfs;
use super::modules::Kernel;
use super::packages::{BOOKWORM, BOOKWORM_ARM64, BULLSEYE, Packages, QEMU_ARM, Selection};
use super::qemu::Running;
use crate::build::static_agent;
use crate::observe::eventually;

/// Processor and kernel of an [`EmulatedGuest`].
pub struct EmulatedMachine {
    /// Architecture of the agent.
    architecture: &'static str,
    qemu: Selection,
    program: &'static str,
    /// QEMU's options for the machine and the processor.
    hardware: &'static [&'static str],
    console: &'static str,
    busybox: Selection,
    kernel: Selection,
}

/// Kernel of Debian 11, 5.10, on `x86_64`.
pub const X86_64_BULLSEYE: EmulatedMachine = EmulatedMachine {
    architecture: "x86_64",
    qemu: BOOKWORM,
    program: "usr/bin/qemu-system-x86_64",
    // RDRAND avoids waiting for seconds until the kernel has enough entropy.
    hardware: &["-machine", "q35", "-cpu", "qemu64,+rdrand"],
    console: "ttyS0",
    busybox: BOOKWORM,
    kernel: BULLSEYE,
};

/// aarch64 with the kernel of Debian 12, 6.1.
pub const AARCH64_BOOKWORM: EmulatedMachine = EmulatedMachine {
    architecture: "aarch64",
    qemu: QEMU_ARM,
    program: "usr/bin/qemu-system-aarch64",
    hardware: &["-machine", "virt", "-cpu", "cortex-a57"],
    console: "ttyAMA0",
    busybox: BOOKWORM_ARM64,
    kernel: BOOKWORM_ARM64,
};

/// Number of the ports that lead to Xenstore. Each serves one agent, because QEMU stays connected.
const PORTS: u32 = 4;

/// Modules of the kernel: the ports, a disk, and a network interface.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_console",
    "virtio_blk",
    "crc32c_generic",
    "ext4",
    "dummy",
];

/// Generous timeout for a command and for booting under emulation.
const TIMEOUT: Duration = Duration::from_secs(300);

/// A virtual machine that consists of Busybox and the static agent. A port of QEMU leads to the
/// socket of a [`Guest`](crate::Guest), and stands for `/dev/xen/xenbus`.
pub struct EmulatedGuest {
    /// Release of the kernel.
    pub release: String,
    console: Arc<Mutex<String>>,
    input: ChildStdin,
    /// Bytes of the console that belong to earlier commands.
    read: usize,
    _qemu: Running,
    _directory: TempDir,
}

impl EmulatedGuest {
    /// Boots the machine. `xenstore` is the socket of a domain.
    pub fn boot(machine: &EmulatedMachine, xenstore: &Path) -> Self {
        let kernel = Kernel::find(&Packages::fetch(&machine.kernel));
        let directory = tempfile::tempdir().expect("make a temporary directory");
        let initramfs = directory.path().join("initramfs");
        fs::write(&initramfs, system(machine, &kernel)).expect("write the initramfs");
        let disk = directory.path().join("disk");
        let file = fs::File::create(&disk).expect("create a disk");
        file.set_len(8 << 20).expect("create a disk");

        let packages = Packages::fetch(&machine.qemu);
        let mut command = packages.command(machine.program);
        for data in ["qemu", "seabios"] {
            command.arg("-L").arg(packages.path("usr/share").join(data));
        }
        let modules = packages.path("usr/lib/x86_64-linux-gnu/qemu");
        command.env("QEMU_MODULE_DIR", modules);
        command.args(machine.hardware).args([
            "-accel",
            "tcg,thread=multi",
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-nic",
            "none",
            "-serial",
            "stdio",
            "-m",
            "512",
            "-device",
            "virtio-serial-pci",
        ]);
        for port in 1..=PORTS {
            let path = xenstore.display();
            command.args(["-chardev", &format!("socket,id=port{port},path={path}")]);
            let device = format!("virtserialport,chardev=port{port},nr={port}");
            command.args(["-device", &device]);
        }
        command
            .arg("-drive")
            .arg(format!("file={},format=raw,if=virtio", disk.display()))
            .arg("-kernel")
            .arg(&kernel.image)
            .arg("-initrd")
            .arg(initramfs)
            .arg("-append")
            .arg(format!(
                "console={} {}",
                machine.console,
                super::COMMAND_LINE
            ));

        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut qemu = Running(command.spawn().expect("start QEMU"));
        let input = qemu.0.stdin.take().expect("a pipe");
        let mut output = qemu.0.stdout.take().expect("a pipe");
        let console = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&console);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = output.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..len]).replace('\r', "");
                print!("{text}");
                written.lock().expect("no panic").push_str(&text);
            }
        });

        let mut guest = EmulatedGuest {
            release: kernel.release,
            console,
            input,
            read: 0,
            _qemu: qemu,
            _directory: directory,
        };
        guest.answer();
        guest
    }

    /// Runs a line of a shell script, and returns its output.
    ///
    /// Panics if it fails.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> String {
        let (status, output) = self.status(line);
        assert_eq!(status, 0, "{line}: {output}");
        output
    }

    /// Runs a line of a shell script, and returns its exit status and its output.
    #[track_caller]
    pub fn status(&mut self, line: &str) -> (i32, String) {
        writeln!(self.input, "{line}").expect("write to the console");
        self.answer()
    }

    /// Waits for the end of a command.
    #[track_caller]
    fn answer(&mut self) -> (i32, String) {
        let (status, output, len) = eventually(
            || {
                let console = self.console.lock().expect("no panic");
                let (before, rest) = console[self.read..].split_once("[exit status ")?;
                let (status, _) = rest.split_once("]\n")?;
                let len = before.len() + "[exit status ]\n".len() + status.len();
                Some((status.parse().ok()?, before.to_owned(), len))
            },
            TIMEOUT,
        );
        self.read += len;
        (status, output)
    }
}

/// Returns the initial file system.
fn system(machine: &EmulatedMachine, kernel: &Kernel) -> Vec<u8> {
    let busybox = Packages::fetch(&machine.busybox).path("bin/busybox");
    let modules = kernel.modules.in_order(MODULES);
    let mut system = Initramfs::with_busybox(&busybox, include_str!("emulated.sh"), &modules);
    system.add_directories(&[
        "disk",
        "etc",
        "etc/xen-guest-agent",
        "etc/xen-guest-agent/services.d",
        "proc",
        "run",
        "sys",
    ]);
    system.write(
        "etc/os-release",
        "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n",
    );
    system.write("etc/passwd", PASSWD);
    system.copy("bin/xen-guest-agent", &static_agent(machine.architecture));
    system.finish()
}
