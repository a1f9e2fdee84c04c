//! Virtual machines in which tests run that this machine's kernel is not fit for.

mod initramfs;
mod modules;
mod packages;
mod qemu;
mod xen;

use std::fs;
use std::time::Duration;

use crate::build::{PREBUILT, Profile, build, build_static, build_test};
use crate::xenstored::Daemon;
use initramfs::Initramfs;
use modules::Modules;
use packages::Packages;
use qemu::{Boot, Report};

/// A virtual machine with Debian's kernel, whose files are those of this machine; what is written there stays there.
pub struct Machine {
    packages: Packages,
    modules: Modules,
    /// The kernel's release.
    release: String,
}

/// Names a directory with what a guest of Xen boots.
pub const GUEST_FILES: &str = "SYSTEM_TESTS_GUEST_FILES";

/// Makes the root file system: needed by every machine.
const ROOT: &[&str] = &["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/// Network devices.
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

/// A kernel that ends with its first process, and the machine with it.
const COMMAND_LINE: &str = "loglevel=4 mitigations=off nokaslr panic=-1 rdinit=/init";

impl Machine {
    /// Fetches what is needed, at the first time: packages of Debian 12, which are not installed.
    pub fn debian() -> Self {
        let packages = Packages::fetch();
        let mut kernels = fs::read_dir(packages.path("boot")).expect("read a directory");
        let release = kernels
            .find_map(|file| {
                Some(
                    file.ok()?
                        .file_name()
                        .to_str()?
                        .strip_prefix("vmlinuz-")?
                        .to_owned(),
                )
            })
            .expect("a kernel in /boot");
        let modules = Modules::find(&packages.path("lib/modules").join(&release));
        Machine {
            packages,
            modules,
            release,
        }
    }

    /// Runs in it the ignored tests of a test program of this package.
    ///
    /// # Panics
    /// Where they do not all pass, or there are none; what they print is on standard output.
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
            timeout: Duration::from_secs(600),
        };
        check(program, &qemu::run(&self.packages, &boot));
    }

    /// Runs the ignored tests of a test program of this package in domain 0 of a Xen with this daemon.
    ///
    /// The environment's [`GUEST_FILES`] is a directory there with what a guest boots, `kernel` and `initramfs`: it starts
    /// the agent, and runs the lines that it is given on its console.
    ///
    /// # Panics
    /// Where they do not all pass, or there are none; what they print is on standard output.
    pub fn run_tests_in_dom0(&self, daemon: Daemon, program: &str, arguments: &[&str]) {
        let kernel = xen::vmlinux(&self.kernel());
        let mut guest = self.busybox(include_str!("guest.sh"), xen::GUEST);
        guest.add_directories(&["etc", "proc", "sbin", "sys"]);
        for name in ["sbin/poweroff", "sbin/reboot"] {
            guest.write(name, include_str!("guest-end.sh"));
        }
        guest.write(
            "etc/os-release",
            "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\n",
        );
        guest.copy("bin/xen-guest-agent", &build_static("xen-guest-agent"));
        // Domain 0 sees them where they are.
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
            timeout: Duration::from_secs(600),
        };
        check(program, &qemu::run(&self.packages, &boot));
    }

    fn kernel(&self) -> Vec<u8> {
        fs::read(
            self.packages
                .path(&format!("boot/vmlinuz-{}", self.release)),
        )
        .expect("read the kernel")
    }

    /// Makes the root file system and runs a shell script in it.
    fn initramfs(&self, modules: &[&str], command: &str) -> Vec<u8> {
        let mut initramfs = self.busybox(include_str!("init.sh"), &[ROOT, modules].concat());
        initramfs.add_directories(&["lower", "root", "upper"]);
        initramfs.write("command", command);
        initramfs.finish()
    }

    /// A small system with these modules, whose first process is this shell script.
    fn busybox(&self, init: &str, modules: &[&str]) -> Initramfs {
        let mut initramfs = Initramfs::default();
        initramfs.add_directories(&["bin", "dev", "modules"]);
        initramfs.copy("bin/busybox", &self.packages.path("bin/busybox"));
        initramfs.write("init", init);
        for (number, module) in self.modules.in_order(modules).into_iter().enumerate() {
            initramfs.copy(&format!("modules/{number:02}.ko"), module);
        }
        initramfs
    }
}

/// A shell script that runs the tests.
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

/// As one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Fails unless the machine said that tests were run and all passed.
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
        "no test of {program} was run"
    );
}
