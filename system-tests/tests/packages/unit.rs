//! The systemd unit, with its files copied into the system.

use std::fs;
use std::path::Path;
use std::time::Duration;

use system_tests::{
    ALLOWED_ACTIONS, DENIED_ACTIONS, Debian, Profile, TIMEOUT, build, build_example, eventually,
    repository_root,
};

use crate::system::System;

on_both_releases! {
    service_publishes_within_a_second_and_after_a_reboot
    settings_are_reloaded
    exposure_of_the_service_is_bounded
    service_confines_itself
}

/// Copies the agent and the files of its service, and starts the service.
fn install(system: &System) {
    let dist = repository_root().join("dist");
    for file in [
        "usr/lib/systemd/system/xen-guest-agent.service",
        "usr/lib/sysusers.d/xen-guest-agent.conf",
    ] {
        fs::copy(dist.join(file), system.booted.path(file)).unwrap();
    }
    fs::copy(
        build("xen-guest-agent", Profile::Debug),
        system.booted.path("usr/sbin/xen-guest-agent"),
    )
    .unwrap();
    system
        .booted
        .run("systemd-sysusers; systemctl enable --now xen-guest-agent.service");
}

fn service_publishes_within_a_second_and_after_a_reboot(debian: Debian) {
    let mut system = System::new(debian);
    let time = system.time_to_publish(|system| install(system));
    assert!(time < Duration::from_secs(1), "{time:?}\n{}", system.log());
    let nodes = system.require_service();
    assert_eq!(nodes["data/os_distro"], "debian");
    assert_eq!(nodes["attr/vif/0/ipv4/0"], "192.0.2.2");

    let changes = system.changes();
    system.booted.reboot();
    assert_eq!(system.require_service(), nodes);
    assert_eq!(system.changes(), changes, "{}", system.log());
}

fn settings_are_reloaded(debian: Debian) {
    let mut system = System::new(debian);
    install(&system);
    let nodes = system.require_service();
    assert!(nodes.contains_key("attr/vif/0/ipv4/0"));

    let settings = "[network]\nleave-out-addresses = [\"192.0.2.0/24\"]\n";
    fs::create_dir_all(system.booted.path("etc/xen-guest-agent/conf.d")).unwrap();
    fs::write(
        system.booted.path("etc/xen-guest-agent/conf.d/test.toml"),
        settings,
    )
    .unwrap();
    system
        .booted
        .run("systemctl reload xen-guest-agent.service");
    system
        .testbed
        .await_nodes(|nodes| !nodes.contains_key("attr/vif/0/ipv4/0"));
    assert_eq!(system.unit_property("ActiveState"), "active");
}

/// Settings with which the agent restricts itself and keeps its user, as `docs/packaging.md` says.
const UID0_DROP_IN: &str = "[Service]
CapabilityBoundingSet=
SystemCallFilter=~@privileged
PrivateUsers=yes
";

/// Writes a drop-in of the unit, and starts the service again.
fn restart_with(system: &System, drop_in: &str) {
    let directory = system
        .booted
        .path("etc/systemd/system/xen-guest-agent.service.d");
    fs::write(directory.join("test.conf"), drop_in).unwrap();
    system
        .booted
        .run("systemctl daemon-reload; systemctl restart xen-guest-agent.service");
}

/// The limits are those of the unit today, rounded up by systemd-analyze. A higher value means that
/// the service may do more than before.
fn exposure_of_the_service_is_bounded(debian: Debian) {
    let system = System::new(debian);
    install(&system);
    let check = |limit: f32| {
        let report = system
            .booted
            .run("systemd-analyze security --no-pager xen-guest-agent.service");
        let (_, exposure) = report
            .split_once("exposure level for xen-guest-agent.service: ")
            .unwrap();
        let exposure: f32 = exposure.split(' ').next().unwrap().parse().unwrap();
        assert!(exposure <= limit, "{report}");
    };
    check(2.0);
    restart_with(&system, UID0_DROP_IN);
    check(1.5);
}

/// Requires that the process of the service has no privileges, and that `described` begins the line
/// about that in the log.
#[track_caller]
fn require_confinement(system: &mut System, described: &str, is_user: bool) {
    system.require_service();
    let read = "grep -hE '^(Uid|CapEff|CapPrm|CapBnd|NoNewPrivs|Seccomp):' \
        /proc/$(systemctl show --value --property=MainPID xen-guest-agent.service)/status";
    let read = || system.booted.run(read);
    eventually(|| read().contains("Seccomp:\t2"), TIMEOUT);
    let id = if is_user {
        system.booted.run("id --user xen-guest-agent")
    } else {
        "0".to_owned()
    };
    let id = id.trim();
    let none = "0000000000000000";
    let expected = format!(
        "Uid:\t{id}\t{id}\t{id}\t{id}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{none}\n\
         NoNewPrivs:\t1\nSeccomp:\t2\n"
    );
    let log = || system.log();
    let line = format!("confinement: {described}, no capabilities, no new privileges, Landlock V");
    eventually(|| log().contains(&line), TIMEOUT);
    assert_eq!(read(), expected, "{}", log());
    assert!(!log().contains("cannot "), "{}", log());
    system.booted.run("xen-guest-agent status");
}

/// Tries the actions of `examples/confined.rs` in the service's own sandbox.
fn require_refusals(system: &System, program: &Path, mode: &str) {
    fs::copy(program, system.booted.path("usr/sbin/confined")).unwrap();
    let run = |action: &str| {
        // ExecStart= of the unit may run only one program, which a drop-in replaces.
        let unit = format!(
            "sed 's|^ExecStart=.*|ExecStart=/usr/sbin/confined {mode} {action}|; s|^Type=.*|Type=exec|; \
             s|^Restart=.*|Restart=no|; s|^WatchdogSec=.*||; /^Conflicts=/d; /^ConditionVirtualization=/d' \
             /usr/lib/systemd/system/xen-guest-agent.service >/run/systemd/system/confined.service; \
             sed -i 's|^RuntimeDirectory=.*|RuntimeDirectory=confined|' /run/systemd/system/confined.service; \
             systemctl daemon-reload; systemctl start --wait confined.service || :; \
             systemctl show --property=Result,ExecMainStatus confined.service; \
             systemctl reset-failed confined.service 2>/dev/null || :"
        );
        system.booted.run(&unit)
    };
    for action in ALLOWED_ACTIONS {
        let result = run(action);
        assert!(
            result.contains("Result=success"),
            "{mode} {action}: {result}"
        );
    }
    for action in DENIED_ACTIONS {
        let result = run(action);
        assert!(
            result.contains("ExecMainStatus=1\n"),
            "{mode} {action}: {result}"
        );
    }
    for action in ["exec", "internet-socket", "ptrace", "mount", "unshare"] {
        let result = run(action);
        // The filter of the unit may refuse a call before that of the agent ends the process.
        let is_refused = ["ExecMainStatus=1\n", "ExecMainStatus=31\n"];
        let is_refused = is_refused.iter().any(|status| result.contains(status));
        assert!(is_refused, "{mode} {action}: {result}");
    }
}

fn service_confines_itself(debian: Debian) {
    let mut system = System::new(debian);
    install(&system);
    // Xenstore is a socket here, which the user could not open again.
    require_confinement(&mut system, "uid 0", false);

    let program = build_example("confined");
    for mode in ["user", "uid0"] {
        require_refusals(&system, &program, mode);
    }

    let directory = system.booted.path("etc/xen-guest-agent/conf.d");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("test.toml"), "confine = \"user\"\n").unwrap();
    restart_with(&system, "");
    require_confinement(&mut system, "user xen-guest-agent", true);

    // Root without capabilities takes the state of that user over.
    fs::remove_file(directory.join("test.toml")).unwrap();
    restart_with(&system, "");
    require_confinement(&mut system, "uid 0", false);
    restart_with(&system, UID0_DROP_IN);
    require_confinement(&mut system, "uid 0", false);
}
