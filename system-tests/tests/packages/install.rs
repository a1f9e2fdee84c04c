//! Packages: installation, upgrade, removal.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use system_tests::{DOWNLOADS, Debian};

use crate::debs::{Deb, VERSION, dist};
use crate::system::System;

on_both_releases! {
    installed_service_publishes_within_a_second_and_after_a_reboot
    upgrade_keeps_configuration_and_writes_nothing
    upgrade_with_a_new_default_configuration_asks_no_question
    go_agent_is_replaced_while_it_runs
    earlier_rust_agent_is_upgraded_while_it_runs
    agent_installs_beside_xenstore_utils
    command_replaces_xenstore_utils
    command_replaces_the_command_of_the_go_agent
    removal_in_a_chroot_leaves_the_nodes_of_the_running_agent
    removal_withdraws_the_nodes_and_keeps_the_configuration
    purge_leaves_only_the_system_user
}

fn installed_service_publishes_within_a_second_and_after_a_reboot(debian: Debian) {
    let mut system = System::new(debian);
    let time = system.time_to_publish(|system| drop(system.install(&[&dist("xen-guest-agent")])));
    println!("complete {time:?} after the start of the agent");
    assert!(time < Duration::from_secs(1), "{time:?}");
    let nodes = system.require_service();
    let version = ["Major", "Minor", "Micro"]
        .map(|part| nodes[&format!("attr/PVAddons/{part}Version")].as_str());
    assert_eq!(version.join("."), VERSION);
    assert_eq!(nodes["attr/PVAddons/BuildVersion"], "1");
    assert_eq!(nodes["data/os_distro"], "debian");
    assert_eq!(nodes["attr/vif/0/ipv4/0"], "192.0.2.2");

    let changes = system.changes();
    system.booted.reboot();
    system.require_service();
    assert_eq!(system.changes(), changes, "{}", system.log());
}

/// Returns the package under test with an older version number.
fn older_package() -> Deb {
    let version = format!("Version: {VERSION}\n");
    Deb::unpack(&dist("xen-guest-agent")).edit("DEBIAN/control", |text| {
        assert!(text.contains(&version), "{text}");
        text.replace(&version, "Version: 0.9\n")
    })
}

fn upgrade_keeps_configuration_and_writes_nothing(debian: Debian) {
    let mut system = System::new(debian);
    system.install(&[&older_package().build()]);
    let settings = "# local\n[memory]\nperiod = 30\n";
    let files = [
        "etc/xen-guest-agent/config.toml",
        "etc/xen-guest-agent/conf.d/local.toml",
    ];
    for file in files {
        fs::write(system.booted.path(file), settings).unwrap();
    }
    system
        .booted
        .run("systemctl reload xen-guest-agent.service");
    let nodes = system.require_service();
    let process = system.unit_property("MainPID");
    let changes = system.changes();

    system.install(&[&dist("xen-guest-agent")]);
    assert_eq!(system.require_service(), nodes);
    assert_eq!(system.changes(), changes, "{}", system.log());
    assert_ne!(system.unit_property("MainPID"), process, "not restarted");
    for file in files {
        let kept = fs::read_to_string(system.booted.path(file)).unwrap();
        assert_eq!(kept, settings, "{file}");
    }
}

fn upgrade_with_a_new_default_configuration_asks_no_question(debian: Debian) {
    let mut system = System::new(debian);
    let old = older_package().edit("usr/share/xen-guest-agent/config.toml", |text| {
        format!("# Old.\n{text}")
    });
    let file = system.booted.path("etc/xen-guest-agent/config.toml");
    system.install(&[&old.build()]);
    assert!(fs::read_to_string(&file).unwrap().starts_with("# Old.\n"));

    system.install(&[&dist("xen-guest-agent")]);
    let unchanged = fs::read_to_string(&file).unwrap();
    assert!(!unchanged.contains("# Old."), "{unchanged}");

    // The next default differs from the changed file and from the default before.
    let settings = "# local\n";
    fs::write(&file, settings).unwrap();
    let version = format!("Version: {VERSION}\n");
    let new = Deb::unpack(&dist("xen-guest-agent"))
        .edit("DEBIAN/control", |text| {
            text.replace(&version, "Version: 99\n")
        })
        .edit("usr/share/xen-guest-agent/config.toml", |text| {
            format!("# New.\n{text}")
        });
    system.install(&[&new.build()]);
    assert_eq!(fs::read_to_string(&file).unwrap(), settings);
    system.require_service();
}

/// Returns a stand-in for the package of the Go agent: its service and its command.
fn go_agent() -> Deb {
    Deb::new("xe-guest-utilities", "8.4.0")
        .with_file(
            "usr/sbin/xe-daemon",
            0o755,
            "#!/bin/sh\nexec sleep infinity\n",
        )
        .with_file("usr/bin/xenstore", 0o755, "#!/bin/sh\n")
        .with_file("usr/bin/xenstore-read", 0o755, "#!/bin/sh\n")
        .with_file(
            "lib/systemd/system/xe-linux-distribution.service",
            0o644,
            "[Service]\nExecStart=/usr/sbin/xe-daemon\n[Install]\nWantedBy=multi-user.target\n",
        )
        .with_file(
            "DEBIAN/postinst",
            0o755,
            "#!/bin/sh\nsystemctl enable --now xe-linux-distribution.service\n",
        )
}

fn go_agent_is_replaced_while_it_runs(debian: Debian) {
    let mut system = System::new(debian);
    system.install(&[&go_agent().build()]);
    let is_running = "systemctl is-active xe-linux-distribution.service";
    assert!(system.booted.try_run(is_running).status.success());

    system.install(&[&dist("xen-guest-agent"), &dist("xenstore-cli")]);
    system.require_service();
    assert!(!system.has_package("xe-guest-utilities"));
    assert!(!system.booted.try_run(is_running).status.success());
    system.booted.run("xenstore-read data/os_distro");
    system.booted.reboot();
    system.require_service();
}

fn earlier_rust_agent_is_upgraded_while_it_runs(debian: Debian) {
    let mut system = System::new(debian);
    let earlier = Deb::new("xen-guest-agent", "0.4.0")
        .with_file("usr/sbin/xen-guest-agent", 0o755, "#!/bin/sh\nexec sleep infinity\n")
        .with_file(
            "usr/lib/systemd/system/xen-guest-agent.service",
            0o644,
            "[Service]\nExecStart=/usr/sbin/xen-guest-agent\n[Install]\nWantedBy=multi-user.target\n",
        )
        .with_file(
            "DEBIAN/postinst",
            0o755,
            "#!/bin/sh\nsystemctl enable --now xen-guest-agent.service\n",
        );
    system.install(&[&earlier.build()]);
    assert_eq!(system.unit_property("ActiveState"), "active");

    system.install(&[&dist("xen-guest-agent")]);
    system.require_service();
    system.booted.reboot();
    system.require_service();
}

fn agent_installs_beside_xenstore_utils(debian: Debian) {
    let mut system = System::new(debian);
    let agent = dist("xen-guest-agent");
    fs::copy(agent, system.booted.path("root/agent.deb")).unwrap();
    system.booted.run(&format!(
        "apt-get install --yes /root/agent.deb {DOWNLOADS}/*.deb"
    ));
    assert!(system.has_package("xenstore-utils"));
    system.require_service();
}

fn command_replaces_xenstore_utils(debian: Debian) {
    let system = System::new(debian);
    system
        .booted
        .run(&format!("apt-get install --yes {DOWNLOADS}/*.deb"));
    system.install(&[&dist("xenstore-cli")]);
    assert!(!system.has_package("xenstore-utils"));
    system.booted.run("xenstore-read domid");
}

fn command_replaces_the_command_of_the_go_agent(debian: Debian) {
    let system = System::new(debian);
    system.install(&[&go_agent().build()]);
    system.install(&[&dist("xenstore-cli")]);
    assert!(!system.has_package("xe-guest-utilities"));
    system.booted.run("xenstore-read domid");
}

fn removal_in_a_chroot_leaves_the_nodes_of_the_running_agent(debian: Debian) {
    let mut system = System::new(debian);
    system.install(&[&dist("xen-guest-agent")]);
    let nodes = system.require_service();
    let changes = system.changes();
    system.booted.run(
        "cd /srv; mkdir chroot; mount --bind / chroot; mount --bind /proc chroot/proc; \
         mkdir -p chroot/run/xenstored; mount --rbind /run/xenstored chroot/run/xenstored; \
         chroot chroot sh /var/lib/dpkg/info/xen-guest-agent.prerm remove",
    );
    assert_eq!(system.require_service(), nodes);
    assert_eq!(system.changes(), changes);
}

fn removal_withdraws_the_nodes_and_keeps_the_configuration(debian: Debian) {
    let mut system = System::new(debian);
    let nodes = system.testbed.nodes();
    system.install(&[&dist("xen-guest-agent")]);
    let settings = "# local\n";
    let file = "etc/xen-guest-agent/conf.d/local.toml";
    fs::write(system.booted.path(file), settings).unwrap();
    system.require_service();

    system.booted.run("apt-get remove --yes xen-guest-agent");
    assert_eq!(system.unit_property("LoadState"), "not-found");
    assert_eq!(system.unit_property("ActiveState"), "inactive");
    assert_eq!(system.testbed.nodes(), nodes);
    assert_eq!(
        fs::read_to_string(system.booted.path(file)).unwrap(),
        settings
    );
    assert!(
        system
            .booted
            .path("etc/xen-guest-agent/config.toml")
            .exists()
    );
}

fn purge_leaves_only_the_system_user(debian: Debian) {
    let mut system = System::new(debian);
    let nodes = system.testbed.nodes();
    let before = system.files();
    system.install(&[&dist("xen-guest-agent"), &dist("xenstore-cli")]);
    system.require_service();
    system
        .booted
        .run("apt-get purge --yes xen-guest-agent xenstore-cli");

    assert_eq!(system.testbed.nodes(), nodes);
    let user = system.booted.run("getent passwd xen-guest-agent");
    assert!(user.trim_end().ends_with(":/usr/sbin/nologin"), "{user}");
    let password = system.booted.run("getent shadow xen-guest-agent");
    assert!(password.starts_with("xen-guest-agent:!"), "{password}");

    // systemd-sysusers changes these, and leaves copies of the old files.
    let accounts = ["passwd", "group", "shadow", "gshadow"];
    let is_accounts = |line: &&String| {
        accounts
            .iter()
            .any(|file| line.contains(&format!("/etc/{file}")))
    };
    let after = system.files();
    let changed: BTreeSet<_> = before
        .symmetric_difference(&after)
        .filter(|line| !is_accounts(line))
        .collect();
    assert!(changed.is_empty(), "{changed:#?}");
}
