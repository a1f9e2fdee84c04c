//! Removal of stale nodes of earlier agents. Nodes of the toolstack, the kernel and other programs
//! stay.

use std::collections::BTreeSet;

use xen_guest_agent::schema::Name;

use crate::harness::{Harness, Nodes};
use crate::sample_guests::{self, Sample};

pub(crate) type Values = &'static [(&'static str, &'static str)];

/// Nodes that earlier agents leave behind in this guest.
pub(crate) const AGENTS: [(&str, Values); 5] = [
    // Nodes of `guestmetric/guestmetric_linux.go` and `mk/xe-linux-distribution` of 2023.
    (
        "xe-guest-utilities",
        &[
            ("attr/PVAddons/BuildVersion", "144"),
            ("attr/PVAddons/Installed", "1"),
            ("attr/PVAddons/MajorVersion", "8"),
            ("attr/PVAddons/MicroVersion", "0"),
            ("attr/PVAddons/MinorVersion", "4"),
            ("attr/vif/0/ipv4/0", "192.0.2.2"),
            ("attr/vif/0/ipv4/1", "192.0.2.3"),
            ("attr/vif/0/ipv6/0", "fe80::216:3eff:fe00:1"),
            ("attr/vif/1/ipv4/0", "198.51.100.1"),
            ("control/feature-balloon", "0"),
            ("data/meminfo_free", "1400000"),
            ("data/meminfo_total", "2014140"),
            ("data/os_distro", "debian"),
            ("data/os_majorver", "12"),
            ("data/os_minorver", "5"),
            ("data/os_name", "Debian GNU/Linux 12 (bookworm)"),
            ("data/os_uname", "6.1.0-17-amd64"),
            ("data/updated", "Mon Jan  1 10:00:00 2024"),
            ("data/volumes/0/extents/0", "/dev/sm/backend/a/b"),
            ("data/volumes/0/filesystem", "ext4"),
            ("data/volumes/0/free", "8000000000"),
            ("data/volumes/0/mount_points/0", "/"),
            (
                "data/volumes/0/name",
                "/dev/xvda1(6f9c2d5e-0a5c-4c0b-9d0a-9f8f6f1f9a10)",
            ),
            ("data/volumes/0/size", "10737418240"),
            ("data/volumes/1/extents/0", "/dev/sm/backend/a/b"),
            ("data/volumes/1/filesystem", "lvm2"),
            ("data/volumes/1/free", "0"),
            ("data/volumes/1/mount_points/0", "[LVM]"),
            ("data/volumes/1/name", "/dev/xvda2"),
            ("data/volumes/1/size", "1073741824"),
            ("xenserver/attr/net-sriov-vf/7/ipv4/0", "203.0.113.1"),
        ],
    ),
    // The older shell script of the same package, from XenServer 6.
    (
        "xe-update-guest-attrs",
        &[
            ("attr/PVAddons/Installed", "1"),
            ("attr/PVAddons/MajorVersion", "6"),
            ("attr/eth0/ip", "192.0.2.2"),
            ("attr/eth0/ipv6/0/addr", "fe80::216:3eff:fe00:1"),
            ("attr/eth1/ip", ""),
            ("data/os_name", "Debian GNU/Linux 7"),
            ("data/updated", "1"),
        ],
    ),
    // `XENSTORE_SCHEMA=std`: `publisher/xenstore/std.rs`. This agent creates an empty node for each
    // VIF, and leaves the node of the address family after removing the last address.
    (
        "the former agent in Rust, std",
        &[
            ("attr/PVAddons/BuildVersion", "proto-0.4.0"),
            ("attr/PVAddons/MajorVersion", "1"),
            ("attr/PVAddons/MicroVersion", "0"),
            ("attr/PVAddons/MinorVersion", "0"),
            ("attr/vif/0", ""),
            ("attr/vif/0/ipv4", ""),
            ("attr/vif/0/ipv6/9", "fe80::216:3eff:fe00:1"),
            ("attr/vif/1", ""),
            ("attr/vif/2", ""),
            ("attr/vif/2/ipv4", ""),
            ("control/feature-balloon", "1"),
            ("data/meminfo_free", "1400000"),
            ("data/meminfo_total", "2014140"),
            ("data/os_distro", "Debian"),
            ("data/os_majorver", "12"),
            ("data/os_minorver", "0"),
            ("data/os_name", "Debian 12.0.0"),
            ("data/os_uname", "6.1.0-17-amd64"),
        ],
    ),
    // `XENSTORE_SCHEMA=rfc`: `publisher/xenstore/rfc.rs`. Addresses are the names of empty nodes.
    (
        "the former agent in Rust, rfc",
        &[
            ("data/net/2", "00:16:3e:00:00:71"),
            ("data/net/2/ipv4/192_0_2_2", ""),
            ("data/net/2/ipv6/fe80__216_3eff_fe00_1", ""),
            ("data/net/9", "eth7"),
            ("data/net/9/ipv4/192_0_2_99", ""),
            ("data/os/class", "unix"),
            ("data/os/name", "Debian 12.0.0"),
            ("data/os/unix/kernel-version", "6.1.0-17-amd64"),
            ("data/os/version", "12.0.0"),
            ("data/os_distro", "debian"),
            ("data/xen-guest-agent", "0.4.0"),
        ],
    ),
    // A later version, with the version number in parts.
    (
        "the former agent in Rust, rfc in parts",
        &[
            ("data/net/0", ""),
            ("data/net/0/ipv4/192_0_2_2", ""),
            ("data/os_distro", "debian"),
            ("data/xen-guest-agent", "0.5.0"),
            ("data/xen-guest-agent/channel", "stable"),
            ("data/xen-guest-agent/major", "0"),
            ("data/os_buildver", "1"),
            ("data/xen-guest-agent/minor", "5"),
            ("data/xen-guest-agent/patch", "0"),
            ("data/xen-guest-agent/vendor", "xcp-ng"),
        ],
    ),
];

/// Foreign nodes below the same parents and beside them.
pub(crate) const OTHERS: Values = &[
    ("attr/PVAddonsX", "1"),
    ("attr/os/spmajor", "0"),
    ("attr/ethics", ""),
    ("attr/viff/0", "1"),
    ("control/feature-poweroff", "1"),
    ("control/feature-reboot", "1"),
    ("control/feature-s3", "1"),
    ("control/feature-static-ip-setting", "1"),
    ("control/feature-suspend", "1"),
    ("control/feature-vcpu-hotplug", "1"),
    ("control/laptop-slate-mode", ""),
    ("control/shutdown", ""),
    ("data/cant_suspend_reason", "no memory"),
    ("data/os_", "x"),
    ("data/pvs_target/target_installed", "0"),
    ("data/report_clipboard", ""),
    ("data/service/backup/state", "running"),
    ("data/ts", "1"),
    ("data/volume", "x"),
    ("device/vbd/51712/ring-ref", "8"),
    ("device/vbd/51712/state", "4"),
    ("device/vif/0/backend", "/local/domain/0/backend/vif/5/0"),
    ("device/vif/0/mac", "00:16:3e:00:00:01"),
    ("device/vif/0/request-rx-copy", "1"),
    ("device/vif/0/state", "4"),
    ("drivers/0", "XenServer XENBUS 9.1.0"),
    ("error/device/vif/0/error", "none"),
    ("feature/hotplug/other", "1"),
    ("feature/suspend", "1"),
    ("hvmloader/bios", "ovmf"),
    ("memory/initial-reservation", "1048576"),
    ("messages/1", "hello"),
    ("rrd/source", "x"),
    ("vm-data/attr/vif/0/ipv4/0", "192.0.2.200"),
    ("vm-data/role", "web"),
    ("xenserver/attr/other", "1"),
    ("xenserver/device/vif/0/static-ip-setting/enabled", "0"),
    ("xenserver/device/vif/0/static-ip-setting/error-code", "0"),
];

#[test]
fn stale_nodes_of_earlier_agents_are_removed_and_foreign_nodes_kept() {
    // A guest with all kinds of nodes, one without IPv4, and one with few nodes.
    let is_meant = |sample: &Sample| ["debian", "tumbleweed", "unknown"].contains(&sample.name);
    for Sample { guest, .. } in sample_guests::all().into_iter().filter(is_meant) {
        for (name, nodes) in AGENTS {
            for schema in [Name::Std, Name::Rfc] {
                let [mut fresh, mut harness] =
                    [(); 2].map(|()| Harness::with_schema(guest.clone(), schema));
                for harness in [&mut fresh, &mut harness] {
                    for (path, value) in OTHERS {
                        harness.write(path, value);
                    }
                }
                fresh.connect();
                for (path, value) in nodes {
                    harness.write(path, value);
                }
                harness.connect();
                check(&format!("{name}, {schema:?}"), schema, &harness, &fresh);
            }
        }
    }
}

/// Checks that the tree is the same as without the earlier agent.
fn check(what: &str, schema: Name, harness: &Harness, fresh: &Harness) {
    let (found, expected) = (
        without_indices(harness.tree()),
        without_indices(fresh.tree()),
    );
    let differing: Vec<_> = found.symmetric_difference(&expected).collect();

    // Dates and memory figures stay until there are new ones, which a guest may lack.
    let stays = |node: &&&String| {
        let is_date = schema == Name::Rfc && node.starts_with("data/updated = ");
        is_date
            || (node.starts_with("data/meminfo_")
                && !expected.iter().any(|own| own.starts_with("data/meminfo_")))
    };
    assert!(
        differing.iter().all(|node| stays(&node)),
        "{what}: {differing:?}"
    );
    let empty = harness.empty_nodes();
    assert_eq!(empty, fresh.empty_nodes(), "{what}");
    assert!(
        empty
            .iter()
            .all(|path| !path.starts_with("attr/vif/") && !path.starts_with("data/net")),
        "{empty:?}"
    );
}

/// Lists the nodes without slot numbers, because an address keeps the slot from an earlier agent.
fn without_indices(tree: Nodes) -> BTreeSet<String> {
    let one = |(path, value): (String, String)| {
        let is_slot = |part: &str| part.parse::<u32>().is_ok();
        let parts: Vec<_> = path.split('/').collect();
        let is_address =
            |at: usize| at > 0 && matches!(parts[at - 1], "ipv4" | "ipv6") && is_slot(parts[at]);
        let shown: Vec<_> = (0..parts.len())
            .map(|at| if is_address(at) { "n" } else { parts[at] })
            .collect();
        format!("{} = {value}", shown.join("/"))
    };
    tree.into_iter().map(one).collect()
}
