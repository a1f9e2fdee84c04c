//! RPM packages and the signed repository with dnf, in a Debian system.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use system_tests::{Debian, output};

use crate::repositories::{damage, provide};
use crate::rpms::{self, Rpm};
use crate::system::System;

on_both_releases! {
    dnf_installs_and_removes
    dnf_upgrade_keeps_configuration_and_writes_nothing
    dnf_replaces_the_running_go_agent
    dnf_upgrades_the_running_earlier_rust_agent
    dnf_keeps_the_command_of_xen_runtime
    dnf_and_rpm_refuse_changed_and_unsigned_files
}

const INSTALL: &str = "dnf install --assumeyes xen-guest-agent";

/// Settings of an administrator.
const SETTINGS: &str = "# local\n[memory]\nperiod = 30\n";

const SETTINGS_FILES: [&str; 2] = [
    "etc/xen-guest-agent/config.toml",
    "etc/xen-guest-agent/conf.d/local.toml",
];

/// Boots a system with dnf that has the repository. A package stands in for the shell and for
/// systemd, which are packages of Debian there.
fn system(debian: Debian) -> System {
    let system = System::with_packages(debian, &["dnf", "rpm"]);
    provide(&system);
    // Debian's rpm has its database in the home directory, because packages of dpkg are not in it.
    system.booted.run(
        "mkdir -p /etc/rpm /etc/yum.repos.d
        echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros
        cp /srv/repository/xen-guest-agent.repo /etc/yum.repos.d",
    );
    let base = Rpm::new(
        "base",
        "1",
        "Provides: /bin/sh\nProvides: systemd = 252",
        &[],
    );
    install(&system, &base);
    system
}

/// Installs a package from a file.
#[track_caller]
fn install(system: &System, package: &Rpm) -> String {
    fs::copy(package.path(), system.booted.path("root/package.rpm")).unwrap();
    system
        .booted
        .run("dnf install --assumeyes --disablerepo='*' /root/package.rpm 2>&1")
}

fn has_package(system: &System, package: &str) -> bool {
    let query = system.booted.try_run(&format!("rpm --query {package}"));
    query.status.success()
}

/// Writes settings that differ from those of the package, and returns the nodes that then exist.
fn change_settings(system: &mut System) -> BTreeMap<String, String> {
    for file in SETTINGS_FILES {
        fs::write(system.booted.path(file), SETTINGS).unwrap();
    }
    system
        .booted
        .run("systemctl reload xen-guest-agent.service");
    system.require_service()
}

#[track_caller]
fn require_settings(system: &System, file: &str) {
    let text = fs::read_to_string(system.booted.path(file));
    assert_eq!(text.ok().as_deref(), Some(SETTINGS), "{file}");
}

fn dnf_installs_and_removes(debian: Debian) {
    let mut system = system(debian);
    let nodes = system.testbed.nodes();
    let time = system.time_to_publish(|system| drop(system.booted.run(INSTALL)));
    println!("complete {time:?} after the start of the agent");
    system.require_service();
    assert!(has_package(&system, "xenstore-cli"), "recommended");
    system.booted.run("getent passwd xen-guest-agent");
    system.booted.run("xenstore-read data/os_distro");
    system.booted.reboot();
    change_settings(&mut system);

    system.booted.run("dnf remove --assumeyes xen-guest-agent");
    assert_eq!(system.unit_property("LoadState"), "not-found");
    assert_eq!(system.unit_property("ActiveState"), "inactive");
    assert_eq!(system.testbed.nodes(), nodes);
    require_settings(&system, "etc/xen-guest-agent/config.toml.rpmsave");
    require_settings(&system, "etc/xen-guest-agent/conf.d/local.toml");
    for file in ["usr/sbin/xen-guest-agent", "run/xen-guest-agent"] {
        assert!(!system.booted.path(file).exists(), "{file}");
    }
    let links = system
        .booted
        .run("find /etc/systemd/system -name 'xen-guest-agent.service'");
    assert_eq!(links, "");
}

fn dnf_upgrade_keeps_configuration_and_writes_nothing(debian: Debian) {
    let mut system = system(debian);
    install(&system, &Rpm::of_version("xen-guest-agent", "0.9"));
    let nodes = change_settings(&mut system);
    let process = system.unit_property("MainPID");
    let changes = system.changes();

    system.booted.run("dnf upgrade --assumeyes xen-guest-agent");
    assert_eq!(system.require_service(), nodes);
    assert_eq!(system.changes(), changes, "{}", system.log());
    assert_ne!(system.unit_property("MainPID"), process, "not restarted");
    for file in SETTINGS_FILES {
        require_settings(&system, file);
    }
}

fn dnf_replaces_the_running_go_agent(debian: Debian) {
    let mut system = system(debian);
    let is_running = "systemctl is-active xe-linux-distribution.service";
    for package in ["xe-guest-utilities", "xe-guest-utilities-latest"] {
        let go_agent = Rpm::new(
            package,
            "8.4.0",
            "%post\nsystemctl enable --now xe-linux-distribution.service\n\
             %preun\nsystemctl disable --now xe-linux-distribution.service\n",
            &[
                ("usr/sbin/xe-daemon", "#!/bin/sh\nexec sleep infinity\n"),
                (
                    "usr/lib/systemd/system/xe-linux-distribution.service",
                    "[Service]\nExecStart=/usr/sbin/xe-daemon\n[Install]\nWantedBy=multi-user.target\n",
                ),
            ],
        );
        let command = Rpm::new(
            "xe-guest-utilities-xenstore",
            "8.4.0",
            "",
            &[("usr/bin/xenstore-read", "#!/bin/sh\n")],
        );
        install(&system, &go_agent);
        install(&system, &command);
        assert!(system.booted.try_run(is_running).status.success());

        system.booted.run(INSTALL);
        system.require_service();
        assert!(!has_package(&system, package));

        // A recommendation does not make dnf remove the other command.
        assert!(has_package(&system, "xe-guest-utilities-xenstore"));
        system.booted.run("dnf install --assumeyes xenstore-cli");
        assert!(!has_package(&system, "xe-guest-utilities-xenstore"));

        system
            .booted
            .run("xenstore-read data/os_distro | grep debian");
        assert!(!system.booted.try_run(is_running).status.success());
        system
            .booted
            .run("dnf remove --assumeyes xen-guest-agent xenstore-cli");
    }
}

fn dnf_upgrades_the_running_earlier_rust_agent(debian: Debian) {
    let mut system = system(debian);
    let earlier = Rpm::new(
        "xen-guest-agent",
        "0.5.0",
        "%post\nsystemctl enable --now xen-guest-agent.service\n\
         %preun\n[ \"$1\" = 1 ] || systemctl disable --now xen-guest-agent.service\n",
        &[
            (
                "usr/sbin/xen-guest-agent",
                "#!/bin/sh\nexec sleep infinity\n",
            ),
            (
                "usr/lib/systemd/system/xen-guest-agent.service",
                "[Service]\nExecStart=/usr/sbin/xen-guest-agent\n[Install]\nWantedBy=multi-user.target\n",
            ),
        ],
    );
    install(&system, &earlier);
    assert_eq!(system.unit_property("ActiveState"), "active");

    system.booted.run("dnf upgrade --assumeyes xen-guest-agent");
    system.require_service();
    system.booted.reboot();
    system.require_service();
}

fn dnf_keeps_the_command_of_xen_runtime(debian: Debian) {
    let mut system = system(debian);
    let script = "#!/bin/sh\necho xen-runtime\n";
    for package in ["xen-runtime", "xen-tools-domU"] {
        let files = [("usr/bin/xenstore-read", script)];
        install(&system, &Rpm::new(package, "4.17", "", &files));
        system.booted.run(INSTALL);
        system.require_service();
        assert!(!has_package(&system, "xenstore-cli"));
        system.require_refusal("dnf install --assumeyes xenstore-cli", package);
        assert_eq!(system.booted.run("xenstore-read"), "xen-runtime\n");
        system
            .booted
            .run(&format!("dnf remove --assumeyes xen-guest-agent {package}"));
    }
}

fn dnf_and_rpm_refuse_changed_and_unsigned_files(debian: Debian) {
    let system = system(debian);
    let verify = "rpm --checksig /srv/repository/dnf/xen-guest-agent-*.rpm";
    system
        .booted
        .run("rpm --import /srv/repository/xen-guest-agent.asc");
    assert!(
        system
            .booted
            .run(verify)
            .ends_with("digests signatures OK\n")
    );

    let start = || {
        system.booted.run("dnf clean all");
        provide(&system);
    };

    start();
    damage(&system, "dnf/xen-guest-agent-*.rpm");
    system.require_refusal(verify, "NOT OK");
    system.require_refusal(INSTALL, "incorrect checksum");

    start();
    damage(&system, "dnf/repodata/repomd.xml");
    system.require_refusal(INSTALL, "Bad GPG signature");

    start();
    damage(&system, "dnf/repodata/*-primary.xml.gz");
    system.require_refusal(INSTALL, "checksum doesn't match");

    start();
    system
        .booted
        .run("rm /srv/repository/dnf/repodata/repomd.xml.asc");
    system.require_refusal(INSTALL, "GPG signature is not available");

    // Metadata that match the package, so that only its missing signature is wrong.
    start();
    let packages = system.booted.path("srv/repository/dnf");
    let unsigned = rpms::dist("xen-guest-agent");
    fs::copy(&unsigned, packages.join(unsigned.file_name().unwrap())).unwrap();
    output(
        Command::new("createrepo_c")
            .args(["--quiet", "--no-database"])
            .arg(&packages),
    );
    let install = format!("{INSTALL} --setopt=xen-guest-agent.repo_gpgcheck=0");
    system.require_refusal(&install, "is not signed");
    assert!(!has_package(&system, "xen-guest-agent"));
}
