//! The archive with `install.sh`: installation, upgrade, removal, refusals.

use std::collections::BTreeSet;
use std::fs;

use system_tests::{Debian, artefact, static_busybox};

use crate::debs::{VERSION, dist};
use crate::system::System;

on_both_releases! {
    archive_is_installed_upgraded_and_removed
    archive_is_installed_with_the_tools_of_busybox
    archive_installation_is_repeated_after_a_failure
    archive_refuses_and_changes_nothing
    archive_and_package_do_not_harm_each_other
}

/// The unpacked archive. Its path has blanks.
const DIRECTORY: &str = "/root/a new directory";

/// A system with the unpacked archive, and a shell to run `install.sh`.
struct Archive {
    system: System,
    shell: &'static str,
}

impl Archive {
    fn new(debian: Debian) -> Self {
        let system = System::new(debian);
        let name = format!("xen-guest-agent-{VERSION}-linux-{}", std::env::consts::ARCH);
        let file = format!("{name}.tar.gz");
        fs::copy(artefact(&file), system.booted.path(&format!("root/{file}"))).unwrap();
        system.booted.run(&format!(
            "mkdir '{DIRECTORY}'; tar -C '{DIRECTORY}' --strip-components=1 -xf /root/{file}"
        ));
        Archive {
            system,
            shell: "sh",
        }
    }

    /// Runs a script in the directory of the archive, in which `$SHELL` runs `install.sh`.
    #[track_caller]
    fn run(&self, script: &str) -> String {
        self.system.booted.run(&self.in_directory(script))
    }

    #[track_caller]
    fn install(&self) {
        self.run("cd /; $SHELL '/root/a new directory/install.sh' -n");
    }

    /// Uninstalls, and requires that only settings and the user are left of everything since
    /// `before`.
    #[track_caller]
    fn uninstall(&self, before: &BTreeSet<String>) {
        self.run("$SHELL /usr/share/xen-guest-agent/install.sh -n --uninstall");
        let kept = ["passwd", "group", "shadow", "gshadow", "xen-guest-agent"];
        let is_kept = |line: &str| {
            kept.iter()
                .any(|file| line.contains(&format!("/etc/{file}")))
        };
        self.system.require_files(before, is_kept);
    }

    /// Returns a script that runs in the directory of the archive, in which `$SHELL` runs
    /// `install.sh`.
    fn in_directory(&self, script: &str) -> String {
        format!("SHELL='{}'; cd '{DIRECTORY}'; {script}", self.shell)
    }

    /// Requires that a script like that of [`run`](Self::run) fails, and that its output contains
    /// `reason`.
    #[track_caller]
    fn require_refusal(&self, script: &str, reason: &str) {
        self.system
            .require_refusal(&self.in_directory(script), reason);
    }
}

fn archive_is_installed_upgraded_and_removed(debian: Debian) {
    check_life(Archive::new(debian));
}

fn archive_is_installed_with_the_tools_of_busybox(debian: Debian) {
    let mut archive = Archive::new(debian);
    fs::copy(static_busybox(), archive.system.booted.path("root/busybox")).unwrap();
    archive.run("mkdir /root/applets; /root/busybox --install -s /root/applets");
    archive.shell = "env PATH=/root/applets:/usr/sbin:/usr/bin:/sbin:/bin /root/busybox sh";
    check_life(archive);
}

/// Checks installation, upgrade and removal.
fn check_life(mut archive: Archive) {
    let nodes_before = archive.system.testbed.nodes();
    let files_before = archive.system.files();
    archive.install();
    let nodes = archive.system.require_service();
    archive.run(
        "xenstore-read data/os_distro; grep -q MIT /usr/share/doc/xen-guest-agent/LICENSE-MIT",
    );

    let settings = "# local\n";
    let file = archive
        .system
        .booted
        .path("etc/xen-guest-agent/config.toml");
    fs::write(&file, settings).unwrap();
    let process = archive.system.unit_property("MainPID");
    let changes = archive.system.changes();
    archive.install();
    assert_eq!(archive.system.require_service(), nodes);
    assert_eq!(archive.system.changes(), changes);
    assert_ne!(archive.system.unit_property("MainPID"), process);
    assert_eq!(fs::read_to_string(&file).unwrap(), settings);

    // An upgrade takes no decision of the administrator back.
    fs::remove_file(&file).unwrap();
    archive.run("systemctl disable --now xen-guest-agent.service");
    archive.install();
    assert!(!file.exists());
    assert_eq!(archive.system.unit_property("UnitFileState"), "disabled");
    assert_eq!(archive.system.unit_property("ActiveState"), "inactive");

    archive.run("systemctl enable --now xen-guest-agent.service");
    archive.system.require_service();
    archive.uninstall(&files_before);
    assert_eq!(archive.system.testbed.nodes(), nodes_before);
    assert_eq!(archive.system.unit_property("ActiveState"), "inactive");
    archive.require_refusal("$SHELL install.sh -n --uninstall", "installed nothing here");
}

fn archive_installation_is_repeated_after_a_failure(debian: Debian) {
    let mut archive = Archive::new(debian);
    let before = archive.system.files();
    let failing =
        "unshare --mount sh -c 'mount -t tmpfs -o ro none /usr/share/doc; $0 install.sh -n' $SHELL";
    archive.run(&format!("! {failing}"));
    assert_eq!(archive.system.unit_property("ActiveState"), "inactive");
    archive.run("$SHELL install.sh -n --uninstall");
    for _ in 0..2 {
        archive.run(&format!("! {failing}"));
    }
    archive.install();
    archive.system.require_service();
    archive.uninstall(&before);
}

fn archive_refuses_and_changes_nothing(debian: Debian) {
    let archive = Archive::new(debian);
    archive.run("mkfifo /root/terminal; chmod o+x /root");
    let before = archive.system.files();
    for (script, reason) in [
        ("$SHELL install.sh --no-such-option", "Usage:"),
        ("$SHELL install.sh </dev/null", "nothing changed"),
        ("echo no | $SHELL install.sh", "nothing changed"),
        // Like Ctrl-C at the question.
        (
            "sleep 5 >/root/terminal & timeout --signal=INT 1 $SHELL install.sh </root/terminal",
            "[y/N]",
        ),
        (
            "setpriv --reuid=65534 --regid=65534 --clear-groups $SHELL install.sh -n",
            "as root",
        ),
        (
            "unshare --mount $SHELL -c 'mount -t tmpfs none /proc; mkdir /proc/xen; \
             echo control_d >/proc/xen/capabilities; $0 install.sh -n' $SHELL",
            "domain 0",
        ),
        (
            "unshare --mount $SHELL -c 'mount --bind -o ro /usr /usr; $0 install.sh -n' $SHELL",
            "Read-only file system",
        ),
        (
            "unshare --mount $SHELL -c 'mount --bind /dev/null usr/sbin/xen-guest-agent; \
             $0 install.sh -n' $SHELL",
            "no such file",
        ),
        (
            "unshare --mount $SHELL -c 'mount --bind /bin/false usr/sbin/xen-guest-agent; \
             $0 install.sh -n' $SHELL",
            "does not run on this system",
        ),
        (
            "unshare --mount $SHELL -c 'mount -t tmpfs none /run/systemd; \
             mount --bind /dev/null /usr/bin/systemctl; mount -t tmpfs none /etc; \
             $0 install.sh -n' $SHELL",
            "systemd, OpenRC and SysV",
        ),
        (
            "cd /tmp; cp \"$OLDPWD/install.sh\" /run; $SHELL /run/install.sh -n; \
          status=$?; rm /run/install.sh; exit $status",
            "in the unpacked archive",
        ),
    ] {
        archive.require_refusal(script, reason);
    }
    assert_eq!(archive.system.files(), before);
}

fn archive_and_package_do_not_harm_each_other(debian: Debian) {
    let mut archive = Archive::new(debian);
    archive.system.install(&[&dist("xen-guest-agent")]);
    archive.require_refusal("$SHELL install.sh -n", "a package has installed");
    archive.system.require_service();
    archive.run("apt-get purge --yes xen-guest-agent");

    archive.install();
    archive.system.install(&[&dist("xen-guest-agent")]);
    archive.run("$SHELL /usr/share/xen-guest-agent/install.sh -n --uninstall");
    archive.system.require_service();
    archive.run("dpkg --verify xen-guest-agent");
}
