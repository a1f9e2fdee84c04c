//! Packages: installation, upgrade, replacement of other agents.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use system_tests::{DOWNLOADS, Debian};

use crate::debs::{Deb, VERSION, dist};
use crate::system::System;

on_both_releases! {
    installed_service_publishes_within_a_second_and_after_a_reboot
    installation_outside_xen_succeeds_and_skips_the_service
    installation_in_a_chroot_starts_the_service_at_the_next_boot
    upgrade_keeps_configuration_and_writes_nothing
    upgrade_with_a_new_default_configuration_asks_no_question
    upgrade_keeps_a_deleted_configuration_and_a_disabled_service
    downgrade_keeps_configuration
    go_agent_is_replaced_while_it_runs
    earlier_rust_agent_is_upgraded_while_it_runs
    agent_installs_beside_xenstore_utils
    command_replaces_xenstore_utils
    command_replaces_the_command_of_the_go_agent
}

fn installed_service_publishes_within_a_second_and_after_a_reboot(debian: Debian) {
    let mut system = System::new(debian);
    let time = system.time_to_publish(|system| drop(system.install(&[&dist("xen-guest-agent")])));
    println!("complete {time:?} after the start of the agent");
    assert!(time < Duration::from_secs(1), "{time:?}");
    let nodes = system.require_service();
    assert_eq!(nodes["data/os_distro"], "debian");
    assert_eq!(nodes["attr/vif/0/ipv4/0"], "192.0.2.2");

    let changes = system.changes();
    system.booted.reboot();
    system.require_service();
    assert_eq!(system.changes(), changes, "{}", system.log());
}

fn installation_outside_xen_succeeds_and_skips_the_service(debian: Debian) {
    let mut system = System::new(debian);
    let nodes = system.testbed.nodes();
    // Without the drop-in, the unit's condition finds a container instead of Xen.
    let drop_in = "etc/systemd/system/xen-guest-agent.service.d/container.conf";
    fs::remove_file(system.booted.path(drop_in)).unwrap();
    system.booted.run("systemctl daemon-reload");

    system.install(&[&dist("xen-guest-agent")]);
    for _ in 0..2 {
        assert_eq!(system.unit_property("UnitFileState"), "enabled");
        assert_eq!(system.unit_property("ActiveState"), "inactive");
        assert_eq!(system.unit_property("ConditionResult"), "no");
        system.booted.reboot();
    }
    system
        .booted
        .run("apt-get purge --yes xen-guest-agent 2>&1");
    assert_eq!(system.testbed.nodes(), nodes);
}

fn installation_in_a_chroot_starts_the_service_at_the_next_boot(debian: Debian) {
    let mut system = System::new(debian);
    let package = dist("xen-guest-agent");
    fs::copy(package, system.booted.path("root/agent.deb")).unwrap();
    // The bind mount has no other file systems, so /run/systemd/system does not exist below it.
    system.booted.run(
        "mkdir /srv/chroot; mount --bind / /srv/chroot; mount --bind /proc /srv/chroot/proc; \
         chroot /srv/chroot apt-get install --yes /root/agent.deb 2>&1; \
         umount /srv/chroot/proc /srv/chroot",
    );
    assert_eq!(system.unit_property("ActiveState"), "inactive");
    system.booted.reboot();
    system.require_service();
}

/// Returns the package under test with an older version number.
fn older_package() -> Deb {
    let version = format!("Version: {VERSION}\n");
    Deb::unpack(&dist("xen-guest-agent")).edit("DEBIAN/control", |text| {
        assert!(text.contains(&version), "{text}");
        text.replace(&version, &format!("Version: {VERSION}~old\n"))
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

fn upgrade_keeps_a_deleted_configuration_and_a_disabled_service(debian: Debian) {
    let system = System::new(debian);
    system.install(&[&older_package().build()]);
    let file = system.booted.path("etc/xen-guest-agent/config.toml");
    fs::remove_file(&file).unwrap();
    system
        .booted
        .run("systemctl disable --now xen-guest-agent.service");

    system.install(&[&dist("xen-guest-agent")]);
    assert!(!file.exists());
    assert_eq!(system.unit_property("UnitFileState"), "disabled");
    assert_eq!(system.unit_property("ActiveState"), "inactive");

    // A link to /dev/null is an empty file to the agent.
    symlink("/dev/null", &file).unwrap();
    system
        .booted
        .run("apt-get install --yes --reinstall /root/0.deb 2>&1");
    assert_eq!(fs::read_link(&file).unwrap(), Path::new("/dev/null"));
}

fn downgrade_keeps_configuration(debian: Debian) {
    let mut system = System::new(debian);
    system.install(&[&dist("xen-guest-agent")]);
    let file = system.booted.path("etc/xen-guest-agent/config.toml");
    let settings = "# local\n";
    fs::write(&file, settings).unwrap();
    let nodes = system.require_service();
    let changes = system.changes();

    let old = older_package();
    fs::copy(old.build(), system.booted.path("root/old.deb")).unwrap();
    system
        .booted
        .run("apt-get install --yes --allow-downgrades /root/old.deb 2>&1");
    assert_eq!(system.require_service(), nodes);
    assert_eq!(system.changes(), changes, "{}", system.log());
    assert_eq!(fs::read_to_string(&file).unwrap(), settings);
}

/// Returns a stand-in for the package of the Go agent: its services of systemd and SysV init, its
/// udev rule and its command. As with other packages, links of the script stay until a purge.
fn go_agent() -> Deb {
    let script = "#!/bin/sh\n### BEGIN INIT INFO\n# Provides: xe-linux-distribution\n\
                  # Required-Start: $remote_fs\n# Required-Stop: $remote_fs\n\
                  # Default-Start: 2 3 4 5\n# Default-Stop: 0 1 6\n### END INIT INFO\n\
                  [ -x /usr/sbin/xe-daemon ] || exit 0\n";
    Deb::new("xe-guest-utilities", "8.4.0")
        .with_file(
            "usr/sbin/xe-daemon",
            0o755,
            "#!/bin/sh\nexec sleep infinity\n",
        )
        .with_file("usr/sbin/xe-linux-distribution", 0o755, "#!/bin/sh\n")
        .with_file("etc/init.d/xe-linux-distribution", 0o755, script)
        .with_file(
            "etc/udev/rules.d/z10-xen-vcpu-hotplug.rules",
            0o644,
            "ACTION==\"add\", SUBSYSTEM==\"cpu\", RUN+=\"/bin/true\"\n",
        )
        .with_file(
            "DEBIAN/conffiles",
            0o644,
            "/etc/init.d/xe-linux-distribution\n/etc/udev/rules.d/z10-xen-vcpu-hotplug.rules\n",
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
            "#!/bin/sh\nupdate-rc.d xe-linux-distribution defaults\n\
             systemctl enable --now xe-linux-distribution.service\n",
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

    // dpkg keeps configuration files, so systemd makes a service of the script.
    let script = system.booted.path("etc/init.d/xe-linux-distribution");
    assert!(script.exists());
    system.booted.reboot();
    system.require_service();
    let processes = system.booted.run("cat /proc/[0-9]*/comm");
    assert!(!processes.contains("xe-daemon"), "{processes}");
    system
        .booted
        .run("apt-get purge --yes xe-guest-utilities 2>&1");
    system.require_service();
}

fn earlier_rust_agent_is_upgraded_while_it_runs(debian: Debian) {
    let mut system = System::new(debian);
    let earlier = Deb::new("xen-guest-agent", "0.4.0")
        .with_file("usr/sbin/xen-guest-agent", 0o755, "#!/bin/sh\nexec sleep infinity\n")
        // Debian's older directory, which is a link to the newer one.
        .with_file(
            "lib/systemd/system/xen-guest-agent.service",
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
    let default = system.booted.path("usr/share/xen-guest-agent/config.toml");
    let settings = system.booted.path("etc/xen-guest-agent/config.toml");
    assert_eq!(fs::read(settings).unwrap(), fs::read(default).unwrap());
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
