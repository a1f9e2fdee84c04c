//! Virtual machines for tests that need another kernel than this machine's.

mod emulated;
mod initramfs;
mod modules;
mod packages;
mod qemu;
mod xen;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::build::{PREBUILT, Profile, build, build_static, build_test};
use crate::xenstored::Daemon;
pub use emulated::{AARCH64_BOOKWORM, EmulatedGuest, EmulatedMachine, X86_64_BULLSEYE};
use initramfs::Initramfs;
use modules::Kernel;
use packages::{BOOKWORM, BUSYBOX, Packages};
use qemu::{Boot, Report};

/// A virtual machine with Debian's kernel. It sees the files of this machine, and writes only to
/// memory.
pub struct Machine {
    packages: Packages,
    kernel: Kernel,
}

/// Environment variable with a directory that contains the boot files of a Xen guest.
pub const GUEST_FILES: &str = "SYSTEM_TESTS_GUEST_FILES";

/// Users of small systems, among them that of the confined agent.
const PASSWD: &str = "root:x:0:0::/:\nxen-guest-agent:x:998:998::/:\n";

/// Modules for the root file system.
const ROOT: &[&str] = &["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/// Modules for network devices.
const NETWORK: &[&str] = &[
    "8021q",
    "bonding",
    "bridge",
    "dummy",
    "ipvlan",
    "macvlan",
    "team",
    "team_mode_activebackup",
    "team_mode_roundrobin",
    "veth",
    "vrf",
];

/// Kernel command line. The kernel panics and the machine ends when the first process ends.
const COMMAND_LINE: &str = "loglevel=4 mitigations=off nokaslr panic=-1 rdinit=/init";

/// Time after which a machine is killed: several times what the tests take.
const TIMEOUT: Duration = Duration::from_secs(1200);

impl Machine {
    /// Downloads and unpacks the necessary packages of Debian 12 once, without installing them.
    pub fn debian() -> Self {
        let packages = Packages::fetch(&BOOKWORM);
        let kernel = Kernel::find(&packages);
        Machine { packages, kernel }
    }

    /// Runs the ignored tests of a test program of this package in the machine. Their output
    /// appears on standard output.
    ///
    /// Panics if a test fails, or if no test ran.
    pub fn run_tests(&self, program: &str, arguments: &[&str]) {
        let boot = Boot {
            kernel: self.kernel(),
            command_line: format!("console=ttyS0 {COMMAND_LINE}"),
            modules: vec![(
                self.initramfs(NETWORK, &command(program, arguments)),
                String::new(),
            )],
            processors: 2,
            memory_mib: 2048,
            timeout: TIMEOUT,
        };
        check(program, &qemu::run(&self.packages, &boot));
    }

    /// Runs the ignored tests of a test program of this package in domain 0 of a Xen with this
    /// server. Their output appears on standard output.
    ///
    /// [`GUEST_FILES`] names a directory with the guest's `kernel` and `initramfs`. The guest
    /// starts the agent, and runs the commands that it reads from its console.
    ///
    /// Panics if a test fails, or if no test ran.
    pub fn run_tests_in_dom0(&self, daemon: Daemon, program: &str, arguments: &[&str]) {
        let kernel = xen::vmlinux(&self.kernel());
        let mut guest = self.busybox(include_str!("guest.sh"), xen::GUEST);
        guest.add_directories(&["etc", "proc", "run", "sbin", "sys"]);
        for name in ["sbin/poweroff", "sbin/reboot"] {
            guest.write(name, include_str!("guest-end.sh"));
        }
        guest.write(
            "etc/os-release",
            "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\n",
        );
        guest.write("etc/passwd", PASSWD);
        guest.copy("bin/xen-guest-agent", &build_static("xen-guest-agent"));

        // Domain 0 sees this directory under the same path.
        let files = tempfile::tempdir().expect("make a temporary directory");
        fs::write(files.path().join("kernel"), &kernel).expect("write the guest's kernel");
        fs::write(files.path().join("initramfs"), guest.finish())
            .expect("write the guest's initramfs");

        let command = format!(
            "export XENSTORED={} {GUEST_FILES}={}\n{}\n{}",
            daemon.program(),
            quoted(&files.path().to_string_lossy()),
            include_str!("dom0.sh"),
            command(program, arguments)
        );
        let boot = Boot {
            kernel: xen::hypervisor(&self.packages),
            command_line: xen::COMMAND_LINE.to_owned(),
            modules: vec![
                (kernel, format!("console=hvc0 {COMMAND_LINE}")),
                (self.initramfs(xen::DOM0, &command), String::new()),
            ],
            processors: 2,
            memory_mib: 2048,
            timeout: TIMEOUT,
        };
        check(program, &qemu::run(&self.packages, &boot));
    }

    fn kernel(&self) -> Vec<u8> {
        fs::read(&self.kernel.image).expect("read the kernel")
    }

    /// Returns an initramfs that mounts the root file system and runs a shell script in it.
    fn initramfs(&self, modules: &[&str], command: &str) -> Vec<u8> {
        let mut initramfs = self.busybox(include_str!("init.sh"), &[ROOT, modules].concat());
        initramfs.add_directories(&["lower", "root", "upper"]);
        initramfs.write("command", command);
        initramfs.finish()
    }

    /// Returns a small system with these modules, whose first process is this shell script.
    fn busybox(&self, init: &str, modules: &[&str]) -> Initramfs {
        let busybox = self.packages.path("bin/busybox");
        Initramfs::with_busybox(&busybox, init, &self.kernel.modules.in_order(modules))
    }
}

/// Returns the path of Debian's static Busybox for this machine. The first call downloads it.
pub fn static_busybox() -> PathBuf {
    Packages::fetch(&BUSYBOX).path("bin/busybox")
}

/// Returns a shell script that runs the tests.
fn command(program: &str, arguments: &[&str]) -> String {
    let built = build_test(program);
    let agents =
        [Profile::Debug, Profile::Release].map(|profile| build("xen-guest-agent", profile));
    let target = agents[0]
        .ancestors()
        .nth(2)
        .expect("a binary is in the directory of its profile");
    let mut script = format!(
        "export {PREBUILT}={}\nexec {} --ignored --color never",
        quoted(&target.to_string_lossy()),
        quoted(&built.to_string_lossy())
    );
    for argument in arguments {
        script.push(' ');
        script.push_str(&quoted(argument));
    }
    script
}

/// Quotes a word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Panics unless the machine reported that tests ran and all passed.
fn check(program: &str, report: &Report) {
    let result = report.result.trim_end();
    assert!(
        !result.is_empty(),
        "the virtual machine ended before the tests did"
    );
    assert_eq!(
        result, "exit status 0",
        "the tests of {program} did not pass in the virtual machine"
    );
    let mut summaries = report
        .console
        .lines()
        .filter_map(|line| line.strip_prefix("test result: ok. "));
    assert!(
        summaries.any(|summary| !summary.starts_with("0 ")),
        "no test of {program} ran"
    );
}
