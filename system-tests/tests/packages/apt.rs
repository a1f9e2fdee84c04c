//! The signed repository with apt.

use system_tests::Debian;

use crate::repositories::{damage, provide, provide_foreign};
use crate::system::System;

on_both_releases! {
    apt_installs_from_the_signed_repository
    apt_refuses_a_changed_or_unsigned_repository
}

/// Command that forgets all sources, because the system has no network, and adds the repository as
/// `docs/install.md` does.
const ADD_REPOSITORY: &str = "
    rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*
    mkdir -p /etc/apt/keyrings
    cp /srv/repository/xen-guest-agent.asc /etc/apt/keyrings
    cp /srv/repository/xen-guest-agent.sources /etc/apt/sources.list.d";

const INSTALL: &str = "apt-get install --yes xen-guest-agent";

fn apt_installs_from_the_signed_repository(debian: Debian) {
    let mut system = System::new(debian);
    provide(&system);
    system.booted.run(ADD_REPOSITORY);
    system.booted.run("apt-get update");
    system.booted.run(INSTALL);
    system.require_service();
    assert!(system.has_package("xenstore-cli"), "recommended");
}

fn apt_refuses_a_changed_or_unsigned_repository(debian: Debian) {
    let system = System::new(debian);
    let start = || {
        provide(&system);
        system.booted.run(ADD_REPOSITORY);
    };
    let update = "apt-get update";

    start();
    damage(&system, "apt/dists/stable/main/*/Packages*");
    system
        .booted
        .run("rm -r /srv/repository/apt/dists/stable/main/*/by-hash");
    system.require_refusal(update, "Hash Sum mismatch");
    system.require_refusal(INSTALL, "Unable to locate package");

    start();
    damage(&system, "apt/dists/stable/InRelease");
    system.require_refusal(update, "is not signed");
    system.require_refusal(INSTALL, "Unable to locate package");

    start();
    system.booted.run(
        "cd /srv/repository/apt/dists/stable
        rm InRelease Release.gpg",
    );
    system.require_refusal(update, "is not signed");

    start();
    provide_foreign(&system);
    system.require_refusal(update, "is not signed");

    start();
    damage(&system, "apt/pool/main/xen-guest-agent_*.deb");
    system.booted.run(update);
    system.require_refusal(INSTALL, "Hash Sum mismatch");
    assert!(!system.has_package("xen-guest-agent"));
}
