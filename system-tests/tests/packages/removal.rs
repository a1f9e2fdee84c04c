//! Packages: removal, purge, installation afterwards.

use std::fs;

use system_tests::Debian;

use crate::debs::dist;
use crate::system::System;

on_both_releases! {
    removal_in_a_chroot_leaves_the_nodes_of_the_running_agent
    removal_withdraws_the_nodes_and_keeps_the_configuration
    removal_withdraws_the_nodes_despite_invalid_settings
    reinstallation_after_removal_publishes_again
    purge_leaves_only_the_system_user
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

fn removal_withdraws_the_nodes_despite_invalid_settings(debian: Debian) {
    let mut system = System::new(debian);
    let nodes = system.testbed.nodes();
    system.install(&[&dist("xen-guest-agent")]);
    system.require_service();
    let file = "etc/xen-guest-agent/config.toml";
    fs::write(system.booted.path(file), "schema = [\nunknown = 1\n").unwrap();
    system
        .booted
        .run("systemctl reload xen-guest-agent.service || :");

    let output = system
        .booted
        .run("apt-get remove --yes xen-guest-agent 2>&1");
    assert_eq!(system.testbed.nodes(), nodes, "{output}");
    let warning = format!("warning: ignoring invalid settings: /{file}:1: ");
    assert!(output.contains(&warning), "{output}");
}

fn reinstallation_after_removal_publishes_again(debian: Debian) {
    let mut system = System::new(debian);
    system.install(&[&dist("xen-guest-agent")]);
    let settings = "# local\n";
    let file = system.booted.path("etc/xen-guest-agent/config.toml");
    fs::write(&file, settings).unwrap();
    system.require_service();

    system.booted.run("apt-get remove --yes xen-guest-agent");
    system.install(&[&dist("xen-guest-agent")]);
    system.require_service();
    assert_eq!(fs::read_to_string(&file).unwrap(), settings);
    system.booted.reboot();
    system.require_service();
}

fn purge_leaves_only_the_system_user(debian: Debian) {
    let mut system = System::new(debian);
    let nodes = system.testbed.nodes();
    let before = system.files();
    let accounts_before = accounts(&system);
    system.install(&[&dist("xen-guest-agent"), &dist("xenstore-cli")]);
    system.require_service();
    let local = "etc/xen-guest-agent/conf.d/local.toml";
    fs::write(system.booted.path(local), "").unwrap();
    system
        .booted
        .run("apt-get purge --yes xen-guest-agent xenstore-cli");

    assert_eq!(system.testbed.nodes(), nodes);
    let user = system.booted.run("getent passwd xen-guest-agent");
    assert!(user.trim_end().ends_with(":/usr/sbin/nologin"), "{user}");
    let password = system.booted.run("getent shadow xen-guest-agent");
    assert!(password.starts_with("xen-guest-agent:!"), "{password}");
    let mut accounts_after = accounts(&system);
    assert_eq!(accounts_after.len(), accounts_before.len() + ACCOUNTS.len());
    accounts_after.retain(|line| !line.contains(":xen-guest-agent:"));
    assert_eq!(accounts_after, accounts_before);

    // systemd-sysusers leaves copies of the files that it changes.
    let is_accounts = |line: &str| {
        ACCOUNTS
            .iter()
            .any(|file| line.ends_with(&format!("  {file}")) || line.contains(&format!("{file}-")))
    };
    system.require_files(&before, is_accounts);
}

/// Files of users and groups.
const ACCOUNTS: [&str; 4] = ["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"];

/// Returns the lines of all files of users and groups, each after the name of its file.
fn accounts(system: &System) -> Vec<String> {
    let lines = |file: &str| -> Vec<String> {
        let text = fs::read_to_string(system.booted.path(&file[1..])).unwrap();
        let name_file = |line| format!("{file}:{line}");
        text.lines().map(name_file).collect()
    };
    ACCOUNTS.iter().flat_map(|file| lines(file)).collect()
}
