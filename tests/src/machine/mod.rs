//! Virtual machines in which tests run that this machine's kernel has no devices for.

mod initramfs;
mod modules;
mod packages;
mod qemu;

use std::fs;
use std::time::Duration;

use crate::build::{PREBUILT, Profile, build, build_test};
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

impl Machine {
    /// Fetches what is needed, at the first time: packages of Debian 12, which are not installed.
    pub fn debian() -> Self {
        let packages = Packages::fetch();
        let mut kernels = fs::read_dir(packages.path("boot")).expect("read a directory");
        let release = kernels
            .find_map(|file| Some(file.ok()?.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_owned()))
            .expect("a kernel in /boot");
        let modules = Modules::find(&packages.path("lib/modules").join(&release));
        Machine { packages, modules, release }
    }

    /// Runs in it the ignored tests of a test program of this package.
    ///
    /// # Panics
    /// Where they do not all pass, or there are none; what they print is on standard output.
    pub fn run_tests(&self, program: &str, arguments: &[&str]) {
        let mut initramfs = Initramfs::new(&["bin", "dev", "lower", "modules", "root", "upper"]);
        initramfs.copy("bin/busybox", &self.packages.path("bin/busybox"));
        initramfs.write("init", include_str!("init.sh"));
        initramfs.write("command", command(program, arguments));
        for (number, module) in self.modules.in_order(&[ROOT, NETWORK].concat()).into_iter().enumerate() {
            initramfs.copy(&format!("modules/{number:02}.ko"), module);
        }
        let kernel = self.packages.path(&format!("boot/vmlinuz-{}", self.release));
        let report = qemu::run(
            &self.packages,
            &Boot {
                kernel: fs::read(kernel).expect("read the kernel"),
                command_line: "console=ttyS0 loglevel=4 mitigations=off nokaslr panic=-1 rdinit=/init".to_owned(),
                modules: vec![(initramfs.finish(), String::new())],
                processors: 2,
                memory_mib: 2048,
                timeout: Duration::from_secs(600),
            },
        );
        check(program, &report);
    }
}

/// A shell script that runs the tests.
fn command(program: &str, arguments: &[&str]) -> String {
    let built = build_test(program);
    let agents = [Profile::Debug, Profile::Release].map(|profile| build("xen-guest-agent", profile));
    let target = agents[0].ancestors().nth(2).expect("a binary is in the directory of its profile");
    let mut script = format!(
        "export PATH=/usr/sbin:/usr/bin:/sbin:/bin {PREBUILT}={}\nexec {} --ignored --color never",
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
    assert!(!result.is_empty(), "the virtual machine ended before the tests did");
    assert_eq!(result, "exit status 0", "the tests of {program} did not pass in the virtual machine");
    let mut summaries = report.console.lines().filter_map(|line| line.strip_prefix("test result: ok. "));
    assert!(summaries.any(|summary| !summary.starts_with("0 ")), "no test of {program} was run");
}
