//! The systemd unit, with its files copied into the system.

use std::fs;
use std::path::Path;
use std::time::Duration;

use system_tests::{Debian, Profile, build};

use crate::system::System;

on_both_releases! {
    service_publishes_within_a_second_and_after_a_reboot
    settings_are_reloaded
    exposure_of_the_service_is_bounded
}

/// Copies the agent and the files of its service, and starts the service.
fn install(system: &System) {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist");
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

/// The limit is that of the unit today, rounded up by systemd-analyze. A higher value means that
/// the service may do more than before.
fn exposure_of_the_service_is_bounded(debian: Debian) {
    let system = System::new(debian);
    install(&system);
    let report = system
        .booted
        .run("systemd-analyze security --no-pager xen-guest-agent.service");
    let (_, exposure) = report
        .split_once("exposure level for xen-guest-agent.service: ")
        .unwrap();
    let exposure: f32 = exposure.split(' ').next().unwrap().parse().unwrap();
    assert!(exposure <= 2.2, "{report}");
}
