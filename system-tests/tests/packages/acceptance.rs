//! Acceptance tests of XCP-ng's guest tools, rewritten: the package installs, its service runs, the
//! host sees the version, and the service runs after a reboot.

use system_tests::Debian;
use xenstore::Nodes;

use crate::debs::{VERSION, dist};
use crate::system::System;

on_both_releases! {
    package_passes_the_acceptance_test_of_xcp_ng
}

fn package_passes_the_acceptance_test_of_xcp_ng(debian: Debian) {
    let mut system = System::new(debian);
    system.install(&[&dist("xen-guest-agent")]);
    assert!(system.has_package("xen-guest-agent"));
    system.require_service();

    // The build is the release of the package; see docs/schema-std.md.
    let expected = format!("{VERSION}-1");
    assert_eq!(version_on_the_host(&mut system), expected);
    let printed = system.booted.run("xen-guest-agent --version");
    assert_eq!(printed, format!("xen-guest-agent {VERSION}\n"));

    system.booted.reboot();
    system.require_service();
    assert_eq!(version_on_the_host(&mut system), expected);
}

/// Returns `{major}.{minor}.{micro}-{build}`, as xapi shows the version. xapi reads the nodes as
/// domain 0.
fn version_on_the_host(system: &mut System) -> String {
    let home = system.testbed.guest.home();
    let [major, minor, micro, build] = ["Major", "Minor", "Micro", "Build"].map(|part| {
        let path = format!("{home}/attr/PVAddons/{part}Version");
        let value = system.testbed.dom0.read(&path).unwrap();
        String::from_utf8(value).unwrap()
    });
    format!("{major}.{minor}.{micro}-{build}")
}
