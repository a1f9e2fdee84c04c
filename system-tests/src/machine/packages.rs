//! Debian packages that are unpacked but not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::cached;
use crate::command::output;

/// QEMU and the systems that boot in it. QEMU comes with all of its libraries down to libc, because
/// installing it could remove newer packages, and this machine's libraries may be other versions.
const WANTED: &[&str] = &[
    "qemu-system-x86",
    "linux-image-amd64",
    "xen-hypervisor-4.17-amd64",
    "busybox-static",
];

/// The unpacked packages, in one root directory.
pub(crate) struct Packages {
    root: PathBuf,
}

impl Packages {
    /// Downloads and unpacks the packages, unless the user's cache directory has them already.
    pub(crate) fn fetch() -> Self {
        // The name depends on the list of packages, and the directory only appears when complete.
        let root = cached(&WANTED.join("+"), |work| {
            let new = work.join("root");
            unpack(&download(work), &new);
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
fn download(work: &Path) -> Vec<PathBuf> {
    let archives = work.join("archives");
    fs::create_dir_all(archives.join("partial")).expect("make a directory");
    let nothing_installed = work.join("status");
    fs::write(&nothing_installed, "").expect("write a file");
    output(
        Command::new("apt-get")
            .args([
                "-qq",
                "-y",
                "--download-only",
                "--no-install-recommends",
                "-o",
                "Debug::NoLocking=1",
            ])
            .args(["-o", "APT::Sandbox::User=", "-o"])
            .arg(format!(
                "Dir::State::status={}",
                nothing_installed.display()
            ))
            .arg("-o")
            .arg(format!("Dir::Cache::archives={}", archives.display()))
            .arg("install")
            .args(WANTED),
    );
    let files = fs::read_dir(archives)
        .expect("read a directory")
        .map(|entry| entry.expect("read a directory").path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect()
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
