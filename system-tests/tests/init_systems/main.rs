//! The installation script of the archive, and the services of OpenRC and SysV init, in booted
//! Debian systems.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use system_tests::{Daemon, Profile, Toolstack, Xenstored, build, cached, output, repository_root};

#[test]
#[ignore = "needs root, xenstored, mmdebstrap and systemd-nspawn"]
fn openrc_service_is_installed_supervised_and_removed() {
    check("openrc", "openrc,sysvinit-core", include_str!("openrc.sh"));
}

#[test]
#[ignore = "needs root, xenstored, mmdebstrap and systemd-nspawn"]
fn sysv_service_is_installed_and_removed() {
    check(
        "sysv",
        "initscripts,sysv-rc,sysvinit-core",
        include_str!("sysv.sh"),
    );
}

/// Installs the archive in a Debian system with these packages, boots it, and runs the common
/// checks and those of the init system there.
fn check(name: &str, packages: &str, own_checks: &str) {
    let store = Xenstored::start(Daemon::C);
    let guest = store.guest(5, Toolstack::Xapi);
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    output(
        Command::new("tar")
            .arg("-xf")
            .arg(debian(name, packages))
            .arg("-C")
            .arg(&root),
    );

    make_archive(&root.join("archive"));
    let socket = guest.socket().file_name().unwrap().to_str().unwrap();
    fs::create_dir_all(root.join("etc/xen-guest-agent")).unwrap();
    let settings = format!("xenstore = \"socket=/run/store/{socket}\"\n");
    fs::write(root.join("etc/xen-guest-agent/config.toml"), settings).unwrap();
    output(
        Command::new("chroot")
            .arg(&root)
            .args(["sh", "/archive/install.sh", "-n"]),
    );

    let script = include_str!("common.sh").replace("# OWN CHECKS\n", own_checks);
    fs::write(root.join("check"), script).unwrap();
    // Entries of a runlevel run in this order, so the services come first.
    let inittab = root.join("etc/inittab");
    let entries = fs::read_to_string(&inittab).unwrap();
    fs::write(inittab, entries + "zz:2:once:/bin/sh /check\n").unwrap();

    boot(&root, guest.socket().parent().unwrap());
    let result = fs::read_to_string(root.join("result")).unwrap();
    assert!(result.ends_with("\npassed\n"), "{result}");
}

/// Boots the system until it powers off. An empty file replaces the device of Xenstore.
fn boot(root: &Path, store: &Path) {
    let bind = |from: &Path, to: &str| format!("--bind={}:{to}", from.display());
    let device = root.join("archive/device");
    fs::write(&device, "").unwrap();
    let mut nspawn = Command::new("timeout");
    nspawn
        .args(["--kill-after=5", "120", "systemd-nspawn", "--quiet"])
        .args(["--boot", "--private-network", "--register=no"])
        .args(["--keep-unit", "--console=pipe", "--directory"])
        .arg(root)
        .arg(bind(store, "/run/store"))
        .arg(bind(&device, "/dev/xen/xenbus"))
        .stdin(std::process::Stdio::null());
    output(&mut nspawn);
}

/// Makes a directory like the unpacked archive of a release.
fn make_archive(archive: &Path) {
    let dist = repository_root().join("dist");
    output(Command::new("cp").arg("-r").arg(dist).arg(archive));
    for (package, path) in [
        ("xen-guest-agent", "usr/sbin/xen-guest-agent"),
        ("xenstore-cli", "usr/bin/xenstore"),
    ] {
        let path = archive.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(build(package, Profile::Debug), path).unwrap();
    }
    symlink("xenstore", archive.join("usr/bin/xenstore-ls")).unwrap();
}

/// Returns the archive of a minimal Debian 12 with these packages, from the user's cache.
fn debian(name: &str, packages: &str) -> PathBuf {
    cached(&format!("bookworm-{name}.tar"), |work| {
        let archive = work.join("root.tar");
        output(
            Command::new("mmdebstrap")
                .arg("--variant=minbase")
                .arg(format!("--include={packages}"))
                .args([OsStr::new("bookworm"), archive.as_os_str()]),
        );
        archive
    })
}
