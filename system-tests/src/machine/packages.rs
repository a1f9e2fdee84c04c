//! Debian packages that are unpacked but not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::cached;
use crate::command::output;

/// Packages of one architecture.
pub(crate) struct Selection {
    names: &'static [&'static str],
    /// Debian's architecture and lines of `sources.list`, if they are not those of this machine.
    elsewhere: Option<(&'static str, &'static str)>,
}

/// QEMU and the systems that boot in it. QEMU comes with all of its libraries down to libc, because
/// installing it could remove newer packages, and this machine's libraries may be other versions.
pub(crate) const BOOKWORM: Selection = Selection {
    names: &[
        "qemu-system-x86",
        "linux-image-amd64",
        "xen-hypervisor-4.17-amd64",
        "busybox-static",
    ],
    elsewhere: None,
};

/// Busybox alone, for tests that need no virtual machine.
pub(crate) const BUSYBOX: Selection = Selection {
    names: &["busybox-static"],
    elsewhere: None,
};

/// Kernel of Debian 11, 5.10.
pub(crate) const BULLSEYE: Selection = Selection {
    names: &["linux-image-amd64"],
    elsewhere: Some((
        "amd64",
        "deb http://deb.debian.org/debian bullseye main\n\
         deb http://deb.debian.org/debian-security bullseye-security main\n",
    )),
};

/// QEMU for ARM, with its libraries.
pub(crate) const QEMU_ARM: Selection = Selection {
    names: &["qemu-system-arm"],
    elsewhere: None,
};

/// System of Debian 12 for aarch64.
pub(crate) const BOOKWORM_ARM64: Selection = Selection {
    names: &["linux-image-arm64", "busybox-static"],
    elsewhere: Some((
        "arm64",
        "deb http://deb.debian.org/debian bookworm main\n\
         deb http://deb.debian.org/debian-security bookworm-security main\n",
    )),
};

/// The unpacked packages, in one root directory.
pub(crate) struct Packages {
    root: PathBuf,
}

impl Packages {
    /// Downloads and unpacks the packages, unless the user's cache directory has them already.
    pub(crate) fn fetch(selection: &Selection) -> Self {
        // The name depends on the list of packages, and the directory only appears when complete.
        let mut name = selection.names.join("+");
        if let Some((architecture, sources)) = selection.elsewhere {
            let suite = sources.split(' ').nth(2).expect("a suite");
            name = format!("{suite}-{architecture}+{name}");
        }
        let root = cached(&name, |work| {
            let new = work.join("root");
            unpack(&download(selection, work), &new);
            new
        });
        Packages { root }
    }

    /// Returns the path of a file in the packages. `file` has no leading slash.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        let path = self.root.join(file);
        assert!(
            path.exists(),
            "{} is missing: packages of another layout?",
            path.display()
        );
        path
    }

    /// Returns a command that runs a program of the packages with their libraries.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.path("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"));
        let libraries = ["lib", "usr/lib"]
            .map(|at| self.path(at).join("x86_64-linux-gnu").display().to_string());
        command
            .arg("--library-path")
            .arg(libraries.join(":"))
            .arg(self.path(program));
        command
    }
}

/// Downloads the packages and all of their dependencies, as if nothing were installed.
fn download(selection: &Selection, work: &Path) -> Vec<PathBuf> {
    let archives = work.join("archives");
    fs::create_dir_all(archives.join("partial")).expect("make a directory");
    let nothing_installed = work.join("status");
    fs::write(&nothing_installed, "").expect("write a file");

    let mut options = vec![
        "Debug::NoLocking=1".to_owned(),
        "APT::Sandbox::User=".to_owned(),
        format!("Dir::State::status={}", nothing_installed.display()),
        format!("Dir::Cache::archives={}", archives.display()),
    ];
    if let Some((architecture, sources)) = selection.elsewhere {
        let (list, state) = (work.join("sources.list"), work.join("state"));
        fs::write(&list, sources).expect("write a file");
        fs::create_dir_all(state.join("lists/partial")).expect("make a directory");
        options.extend([
            format!("APT::Architecture={architecture}"),
            format!("APT::Architectures={architecture}"),
            format!("Dir::Etc::sourcelist={}", list.display()),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={}", state.join("lists").display()),
            // Nobody signs the lists of a release anew that gets no more updates.
            "Acquire::Check-Valid-Until=false".to_owned(),
        ]);
        output(apt(&options).arg("update"));
    }
    output(
        apt(&options)
            .args([
                "-y",
                "--download-only",
                "--no-install-recommends",
                "install",
            ])
            .args(selection.names),
    );
    let files = fs::read_dir(archives)
        .expect("read a directory")
        .map(|entry| entry.expect("read a directory").path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect()
}

fn apt(options: &[String]) -> Command {
    let mut command = Command::new("apt-get");
    command.arg("-qq");
    for option in options {
        command.args(["-o", option]);
    }
    command
}

fn unpack(packages: &[PathBuf], root: &Path) {
    for package in packages {
        output(
            Command::new("dpkg-deb")
                .arg("--extract")
                .arg(package)
                .arg(root),
        );
    }
}
