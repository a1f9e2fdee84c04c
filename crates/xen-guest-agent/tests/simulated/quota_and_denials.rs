//! Denied writes and node quota.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use xen_guest_agent::guest::{Device, Mac};
use xen_guest_agent::schema::layout::LAYOUT;
use xen_guest_agent::settings::Settings;
use xen_guest_agent::show;
use xenstore::ErrorCode;
use xenstore::Path;
use xenstore::embedded::{Model, Toolstack};
use xenstore::wire::MessageKind;

use crate::harness::{DOMAIN, Harness, address, addresses, guest, interface, meaning};
use crate::log;
use crate::publication::volume;
use crate::sample_guests::distribution;
use crate::server_faults::Refusal;

fn refusal(path: &str, code: ErrorCode) -> Refusal {
    Refusal::of_writes(path, code)
}

fn writes_until_compared(harness: &mut Harness) -> usize {
    let writes = harness.requests(MessageKind::WRITE);
    harness.agent.compare();
    harness.pass(Duration::from_secs(10));
    harness.requests(MessageKind::WRITE) - writes
}

#[test]
fn denied_balloon_node_is_expected_under_libxl() {
    log::take();
    let mut harness = Harness::unconnected(Toolstack::Libxl, guest());
    harness.agent.update(|guest| {
        guest.balloon = true;
        true
    });
    harness.connect();
    writes_until_compared(&mut harness);
    let lines = log::take();
    assert!(
        lines.len() == 1
            && lines[0].starts_with("INFO: not publishing control/feature-balloon: ")
            && lines[0].contains("(EACCES); this is normal under libxl"),
        "{lines:?}"
    );
    let denied: Vec<_> = harness.agent.denied().map(Path::as_str).collect();
    assert_eq!(denied, [LAYOUT.optional]);

    // Another error of the same node is not expected.
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
    harness.agent.update(|guest| {
        guest.balloon = true;
        true
    });
    harness.set_refusals([refusal(LAYOUT.optional, ErrorCode::EIO)]);
    harness.connect();
    let lines = log::take();
    assert!(
        lines.len() == 1
            && lines[0]
                .starts_with("WARN: Xenstore rejected these nodes, so they are not published: "),
        "{lines:?}"
    );
}

#[test]
fn denied_writes_are_logged_once_in_one_line() {
    log::take();
    let mut harness = Harness::unconnected(Toolstack::Libxl, guest());
    harness.agent.update(|guest| {
        guest.balloon = true;
        true
    });
    let denied = ["data/domain", "data/os_uname", "feature", "attr/vif/0/name"];
    harness.set_refusals(denied.map(|path| refusal(path, ErrorCode::EACCES)));
    harness.agent.update(|guest| {
        guest.host_name = Some("web1.example.org".to_owned());
        true
    });
    harness.connect();
    let lines = log::take();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].starts_with("INFO: not publishing control/feature-balloon"),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("WRITE data/domain: no write access (EACCES)")
            && lines[1].ends_with(" and 2 more"),
        "{lines:?}"
    );
    let denied = harness.agent.denied().count();
    assert_eq!(denied, 6);
    for _ in 0..3 {
        assert_eq!(
            writes_until_compared(&mut harness),
            2 + denied,
            "memory and retries"
        );
    }
    // The network alone does not show whether the host denies everything.
    let writes = harness.requests(MessageKind::WRITE);
    harness.set_address(7);
    harness.settle();
    writes_until_compared(&mut harness);
    assert_eq!(
        harness.requests(MessageKind::WRITE) - writes,
        1 + 2 + denied
    );
    // All nodes are retried on a new connection, because it may lead to another host.
    harness.disconnect_after(0);
    harness.store().keep_requests(true);
    harness.agent.compare();
    harness.pass(Duration::from_secs(2));
    let requests = harness.store().take_requests();
    let tried = |node: &str| {
        requests
            .iter()
            .filter(|r| r.kind == MessageKind::WRITE && r.path.ends_with(node))
            .count()
    };
    assert_eq!(
        ["data/domain", "feature/hotplug/vif", "attr/vif/0/name"].map(tried),
        [1, 1, 1]
    );
    let lines = log::take();
    assert!(
        lines.len() == 2 && lines[0].contains("trying again") && lines[1].contains("connected"),
        "{lines:?}"
    );
    harness.clear_refusals();
    harness.agent.retry_failed_writes();
    harness.settle();
    assert_eq!(harness.read("data/domain").as_deref(), Some("example.org"));
    let lines = log::take();
    assert!(
        lines.len() == 1 && lines[0].contains("control/feature-balloon"),
        "{lines:?}"
    );
}

#[test]
fn failed_writes_and_removals_are_retried_at_comparison() {
    for (code, is_refusal) in [
        (ErrorCode::EACCES, true),
        (ErrorCode::EPERM, true),
        (ErrorCode::EROFS, true),
        (ErrorCode::EIO, false),
        (ErrorCode::E2BIG, false),
    ] {
        let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
        harness.write("attr/vif/1/name", "stale");
        let removal = Refusal {
            kind: Some(MessageKind::RM),
            ..refusal("attr/vif/1", code.clone())
        };
        harness.set_refusals([refusal("attr/vif/0/name", code.clone()), removal]);
        harness.connect();
        let unpublished: Vec<_> = harness.unpublished().map(ToString::to_string).collect();
        let refused: Vec<_> = harness.agent.denied().map(ToString::to_string).collect();
        let (some, none) = if is_refusal {
            (refused, unpublished)
        } else {
            (unpublished, refused)
        };
        assert_eq!(
            (some, none),
            (
                vec!["attr/vif/0/name".to_owned(), "attr/vif/1".to_owned()],
                vec![]
            ),
            "{code}"
        );
        harness.clear_refusals();
        writes_until_compared(&mut harness);
        assert!(harness.read("attr/vif/0/name").is_some(), "{code}");
        assert!(harness.read("attr/vif/1/name").is_none(), "{code}");
        assert_eq!(harness.agent.denied().count(), 0, "{code}");
    }
}

#[test]
fn host_that_denies_essential_nodes_denies_all() {
    let system = ["data/os_uname", "data/host_name_dns"].as_slice();
    for (denied, is_all_denied) in [
        (&["attr"][..], false),
        (system, false),
        (&["attr", "data/os_uname"], true),
        (&["data", "feature"], false),
    ] {
        log::take();
        let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
        let refusals = denied.iter().map(|path| refusal(path, ErrorCode::EACCES));
        harness.set_refusals(refusals);
        harness.connect();
        let lines = log::take();
        assert!(
            lines.len() == 1 && lines[0].starts_with("ERROR") == is_all_denied,
            "{denied:?}: {lines:?}"
        );
    }
}

#[test]
fn guest_without_any_write_permission_retries_slowly() {
    log::take();
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
    harness.set_refusals(["data", "attr"].map(|path| refusal(path, ErrorCode::EACCES)));
    harness.connect();
    let lines = log::take();
    assert!(
        lines.len() == 1 && lines[0].starts_with("ERROR: the host denies this guest all writes"),
        "{lines:?}"
    );
    for _ in 0..3 {
        let denied = harness.agent.denied().count();
        assert!((10..=32).contains(&denied));
        // The prefix waits for the address above it.
        let prefixes = harness.agent.denied();
        let prefixes = prefixes
            .filter(|path| path.as_str().ends_with("/prefix"))
            .count();
        assert_eq!(writes_until_compared(&mut harness), denied - prefixes);
    }
    harness.clear_refusals();
    assert!(writes_until_compared(&mut harness) > 10);
    assert_eq!(
        meaning(&harness.published()),
        meaning(&harness.expected(&[].into()))
    );
    assert_eq!(log::take(), [""; 0]);
    // From now on a denial concerns one node only.
    harness.set_refusals([refusal("attr/vif/0/ipv4/1", ErrorCode::EACCES)]);
    harness.set_addresses(["10.0.0.1", "10.0.0.3"].map(address).into());
    harness.settle();
    let writes = harness.requests(MessageKind::WRITE);
    harness.set_address(7);
    harness.settle();
    assert_eq!(harness.requests(MessageKind::WRITE) - writes, 1);
}

#[test]
fn node_budget_drops_nodes_by_priority_before_sending() {
    log::take();
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.agent.set_node_budget(60);
    harness.set_addresses(addresses(200));
    let base = harness.server.store().node_count(DOMAIN) - harness.published().len();
    harness.pass(Duration::from_secs(1));
    let lines = log::take();
    assert!(
        lines.len() == 1
            && lines[0].contains("node budget reached (60 nodes)")
            && lines[0].ends_with("; raise node-budget"),
        "{lines:?}"
    );
    let published = harness.published();
    assert!(harness.server.store().node_count(DOMAIN) <= base + 60);
    for node in [
        "attr/PVAddons/MajorVersion",
        "attr/vif/0/ipv4/0",
        "data/os_uname",
        "data/meminfo_free",
    ] {
        assert!(published.contains_key(node), "{node} of {published:?}");
    }
    assert!(
        !published.contains_key("attr/vif/0/name"),
        "lower priority than an address"
    );
    // The default limit is 700 nodes.
    harness.agent.set_node_budget(700);
    harness.set_addresses(addresses(400));
    harness.pass(Duration::from_secs(1));
    let owned = harness.server.store().node_count(DOMAIN);
    assert!((base + 680..=base + 700).contains(&owned), "{owned} nodes");
    assert_eq!(writes_until_compared(&mut harness), 2, "memory");
    assert_eq!(harness.server.store().node_count(DOMAIN), owned);
    // All nodes are published when there is space again.
    harness.set_addresses(addresses(3));
    harness.pass(Duration::from_secs(1));
    assert_eq!(
        meaning(&harness.published()),
        meaning(&harness.expected(&[].into()))
    );
}

#[test]
fn show_prints_the_nodes_that_are_published_within_the_budget() {
    let defaults = Settings::default();
    for (node_budget, count) in [(20, 3), (60, 200), (120, 200), (defaults.node_budget, 400)] {
        let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
        harness.agent.set_node_budget(node_budget);
        harness.set_addresses(addresses(count));
        harness.connect();
        let settings = Settings {
            node_budget,
            ..Settings::default()
        };
        let shown: BTreeMap<_, _> = show::nodes(&settings, harness.agent.guest())
            .into_iter()
            .map(|(path, value)| (path.to_string(), value))
            .collect();
        assert!(harness.agent.over_quota().next().is_some());
        assert_eq!(shown, harness.published(), "{node_budget}");
    }
}

#[test]
fn budget_of_120_nodes_keeps_essential_nodes_for_hosts_that_read_128() {
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
    harness.agent.set_node_budget(120);
    harness.set_addresses(addresses(200));
    harness.agent.update(|guest| {
        guest.distribution = Some(distribution("debian-12"));
        guest.volumes = (1..=22)
            .map(|number| volume(&number.to_string(), number))
            .collect();
        true
    });
    let base = harness.server.store().node_count(DOMAIN);
    harness.connect();
    let owned = harness.server.store().node_count(DOMAIN) - base;
    assert!((100..=120).contains(&owned), "{owned} nodes");
    let published = harness.published();
    for node in [
        "attr/PVAddons/MajorVersion",
        "attr/PVAddons/MinorVersion",
        "attr/PVAddons/MicroVersion",
        "attr/PVAddons/BuildVersion",
        "attr/vif/0/ipv4/0",
        "data/host_name_dns",
        "data/meminfo_free",
        "data/meminfo_total",
        "data/os_distro",
        "data/os_name",
        "data/os_uname",
        "data/updated",
        "feature/hotplug/vif",
    ] {
        assert!(published.contains_key(node), "{node} of {published:?}");
    }
}

#[test]
fn addresses_replace_nodes_of_lower_priority_at_the_quota() {
    log::take();
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
    harness.agent.set_node_budget(70);
    harness.agent.update(|guest| {
        guest.volumes = (1..=5)
            .map(|number| volume(&number.to_string(), number))
            .collect();
        true
    });
    let base = harness.server.store().node_count(DOMAIN);
    harness.connect();
    assert!(
        harness.read("data/volumes/4/name").is_some() && harness.unpublished().next().is_none()
    );
    // The first comparison covers only these nodes. The limit then requires the full tree.
    harness.set_addresses(addresses(15));
    harness.settle();
    assert_eq!(
        harness.read("attr/vif/0/ipv4/14").as_deref(),
        Some("10.1.0.15")
    );
    assert_eq!(harness.read("data/volumes/4/name"), None);
    let made = harness.server.store().node_count(DOMAIN) - base;
    assert!((65..=70).contains(&made), "{made} nodes");
    let lines = log::take();
    assert!(
        lines.len() == 1 && lines[0].contains("data/volumes") && !lines[0].contains("attr"),
        "{lines:?}"
    );
    harness.set_addresses(addresses(2));
    harness.settle();
    assert!(
        harness.read("data/volumes/4/name").is_some() && harness.unpublished().next().is_none()
    );
    // The shortage ends after a successful check, and a later one is logged again.
    for expected in [0, 1] {
        harness.set_addresses(addresses(15));
        harness.settle();
        assert_eq!(log::take().len(), expected);
        harness.set_addresses(addresses(2));
        harness.settle();
        writes_until_compared(&mut harness);
    }
    // Nodes that are not written need no quota.
    harness.set_refusals([refusal("attr/vif/0/ipv4", ErrorCode::EACCES)]);
    harness.set_addresses(addresses(15));
    harness.settle();
    assert_eq!(harness.unpublished().count(), 0);
    assert!(harness.read("data/volumes/4/name").is_some());
    // A smaller limit applies immediately, and denied nodes are retried.
    let most = base + 40;
    harness.agent.set_node_budget(40);
    harness.settle();
    assert!(harness.server.store().node_count(DOMAIN) <= most);
    harness.agent.retry_failed_writes();
    harness.settle();
    assert!(harness.server.store().node_count(DOMAIN) <= most);
    // A new connection does not log it again.
    log::take();
    harness.disconnect_after(0);
    harness.agent.compare();
    harness.pass(Duration::from_secs(2));
    assert_eq!(log::take().len(), 2, "lost and connected");
    assert!(harness.server.store().node_count(DOMAIN) <= most);
}

#[test]
fn full_quota_keeps_nodes_of_highest_priority() {
    for model in [Model::CXenstored4_17, Model::Oxenstored4_17] {
        log::take();
        let mut harness = Harness::with_model(model, Toolstack::Xapi, guest());
        let own = harness.server.store().node_count(DOMAIN);
        harness.store().quotas.nodes = own + 55;
        harness.set_addresses(addresses(100));
        harness.connect();
        harness.pass(Duration::from_secs(1));
        let lines = log::take();
        assert!(
            lines.len() == 1
                && lines[0].contains("node quota reached")
                && lines[0].ends_with("; free nodes or raise the quota on the host"),
            "{model:?}: {lines:?}"
        );
        let published = harness.published();
        for node in [
            "attr/PVAddons/MajorVersion",
            "attr/vif/0/ipv4/0",
            "data/os_uname",
            "data/meminfo_free",
        ] {
            assert!(
                published.contains_key(node),
                "{model:?}: {node} of {published:?}"
            );
        }
        // Nodes of higher priority replace published ones.
        let mut more = addresses(100);
        more.push(address("2001:db8::1"));
        harness.set_addresses(more);
        harness.agent.update(|guest| {
            guest.balloon = true;
            true
        });
        harness.store().keep_requests(true);
        harness.pass(Duration::from_secs(1));
        // Removals come first, so that no write fails.
        let kinds: Vec<_> = harness
            .store()
            .take_requests()
            .iter()
            .map(|request| request.kind)
            .collect();
        let removals = kinds
            .iter()
            .take_while(|kind| **kind == MessageKind::RM)
            .count();
        assert!(
            removals > 0
                && kinds[removals..]
                    .iter()
                    .all(|kind| *kind == MessageKind::WRITE),
            "{model:?}: {kinds:?}"
        );
        harness.store().keep_requests(false);
        assert_eq!(
            harness.read("attr/vif/0/ipv6/0").as_deref(),
            Some("2001:db8::1"),
            "{model:?}"
        );
        assert_eq!(
            harness.read("control/feature-balloon").as_deref(),
            Some("1"),
            "{model:?}"
        );
        // Probing for space costs little and logs nothing.
        for _ in 0..5 {
            let writes = writes_until_compared(&mut harness);
            assert!(writes <= 40, "{model:?}: {writes} writes");
        }
        assert_eq!(log::take(), [""; 0], "{model:?}");
        let writes = harness.requests(MessageKind::WRITE);
        harness.set_address(7);
        harness.settle();
        assert_eq!(
            harness.requests(MessageKind::WRITE) - writes,
            1,
            "{model:?}"
        );
        harness.store().quotas.nodes = 1000;
        assert!(writes_until_compared(&mut harness) > 40);
        assert_eq!(
            meaning(&harness.published()),
            meaning(&harness.expected(&[].into())),
            "{model:?}"
        );
        // The limit still holds.
        harness.set_addresses(addresses(400));
        harness.pass(Duration::from_secs(1));
        assert!(
            harness.server.store().node_count(DOMAIN) <= own + 700,
            "{model:?}"
        );
    }
}

#[test]
fn freed_quota_is_used_immediately() {
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
    let own = harness.server.store().node_count(DOMAIN);
    harness.store().quotas.nodes = own + 60;
    harness.set_addresses(addresses(100));
    harness.connect();
    harness.pass(Duration::from_secs(1));
    assert_eq!(harness.read("attr/vif/0/name"), None);
    harness.set_addresses(addresses(5));
    harness.pass(Duration::from_secs(1));
    assert_eq!(
        meaning(&harness.published()),
        meaning(&harness.expected(&[].into()))
    );
    // The agent learns that the nodes fit exactly, so removals must come first.
    harness.store().quotas.nodes = harness.server.store().node_count(DOMAIN);
    harness.set_addresses(addresses(6));
    harness.pass(Duration::from_secs(1));
    harness.store().keep_requests(true);
    harness.store().take_requests();
    let mut others = addresses(3);
    others.push(address("2001:db8::1"));
    harness.set_addresses(others);
    harness.pass(Duration::from_secs(1));
    let kinds: Vec<_> = harness
        .store()
        .take_requests()
        .iter()
        .map(|request| request.kind)
        .collect();
    assert_eq!(
        kinds,
        [
            MessageKind::RM,
            MessageKind::RM,
            MessageKind::WRITE,
            MessageKind::WRITE
        ]
    );
    // On demand all nodes are retried immediately, up to the limit.
    harness.store().quotas.nodes = 1000;
    harness.set_addresses(addresses(400));
    harness.agent.retry_failed_writes();
    harness.pass(Duration::from_secs(1));
    let made = harness.server.store().node_count(DOMAIN) - own;
    assert!((690..=700).contains(&made), "{made} nodes");
}

#[test]
fn oversized_value_affects_no_other_node() {
    log::take();
    let mut harness = Harness::new(Toolstack::Xapi);
    let before: BTreeSet<_> = meaning(&harness.published());
    for (name, code) in [
        ("x".repeat(2100), ErrorCode::ENOSPC),
        ("y".repeat(2100), ErrorCode::E2BIG),
    ] {
        if code == ErrorCode::E2BIG {
            harness.set_refusals([refusal("data/host_name_dns", code)]);
        }
        harness.agent.update(|guest| {
            guest.host_name = Some(name);
            true
        });
        harness.pass(Duration::from_secs(1));
        let left: BTreeSet<_> = meaning(&harness.published());
        let gone: Vec<_> = before.difference(&left).collect();
        assert_eq!(gone, ["data/host_name_dns = web1"]);
        // The error is not mistaken for a full quota.
        harness.set_addresses(addresses(5));
        harness.pass(Duration::from_secs(1));
        assert_eq!(
            harness.read("attr/vif/0/ipv4/4/prefix").as_deref(),
            Some("24")
        );
        harness.set_addresses(guest().interfaces[&2].addresses.clone());
        harness.pass(Duration::from_secs(1));
    }
    let lines = log::take();
    assert!(
        lines.len() == 1 && lines[0].contains("data/host_name_dns"),
        "{lines:?}"
    );
    harness.clear_refusals();
    harness.agent.update(|guest| {
        guest.host_name = Some("web1".to_owned());
        true
    });
    writes_until_compared(&mut harness);
    assert_eq!(meaning(&harness.published()), before);
}

#[test]
fn node_with_too_many_children_affects_no_other_node() {
    log::take();
    let mut harness = Harness::new(Toolstack::Xapi);
    // As in C xenstored, a node of 2 KiB cannot hold that many names.
    let requests = harness.all_requests();
    harness.set_addresses(addresses(800));
    harness.pass(Duration::from_secs(60));
    let requests = harness.all_requests() - requests;
    assert!(requests < 2 * 800, "{requests} requests");
    assert!(
        harness.published().len() > 500,
        "{} nodes",
        harness.published().len()
    );
    for _ in 0..3 {
        let writes = writes_until_compared(&mut harness);
        assert!(writes <= 40, "{writes} writes");
    }
    // The budget is logged once, and each rejected node once.
    let lines = log::take();
    assert!(lines[0].contains("node budget reached"), "{lines:#?}");
    let is_rejection = |line: &String| line.contains("directory full");
    assert!(lines[1..].iter().all(is_rejection), "{lines:#?}");
    assert!(lines.len() <= 3, "{lines:#?}");
}

#[test]
fn one_successful_write_does_not_end_the_denial_of_all() {
    let mut guest = guest();
    let mut function = interface(Device::Physical, &["10.0.9.1"]);
    function.mac = Some(Mac([2, 0, 0, 0, 0, 9]));
    guest.interfaces.insert(3, function);
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest);
    harness.write("xenserver/device/net-sriov-vf/4/mac", "02:00:00:00:00:09");
    harness.set_refusals(["data", "attr"].map(|path| refusal(path, ErrorCode::EACCES)));
    harness.connect();
    harness.pass(Duration::from_secs(60));
    assert!(
        harness
            .read("xenserver/attr/net-sriov-vf/4/ipv4/0")
            .is_some()
    );
    let before = harness.requests(MessageKind::WRITE);
    for last in 11..21 {
        harness.agent.update(|guest| {
            guest.interfaces.get_mut(&3).unwrap().addresses =
                vec![address(&format!("10.0.9.{last}"))];
            true
        });
        harness.pass(Duration::from_secs(5));
    }
    assert_eq!(harness.requests(MessageKind::WRITE) - before, 10);
}

#[test]
fn denied_node_is_forgotten_when_no_longer_desired() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.set_refusals([refusal("attr/vif/1", ErrorCode::EACCES)]);
    for _ in 0..3 {
        harness.agent.update(|guest| {
            guest
                .interfaces
                .insert(3, interface(Device::Vif(1), &["10.0.7.1"]));
            true
        });
        harness.pass(Duration::from_secs(1));
        assert!(harness.agent.denied().count() > 0);
        harness.agent.update(|guest| {
            guest.interfaces.remove(&3);
            true
        });
        harness.pass(Duration::from_secs(1));
        assert_eq!(harness.agent.denied().count(), 0);
    }
}

#[test]
fn write_denied_is_retried_after_resume() {
    let mut harness = Harness::new(Toolstack::Libxl);
    harness.agent.update(|guest| {
        guest.balloon = true;
        true
    });
    harness.server.store_mut().keep_requests(true);
    for _ in 0..5 {
        harness.agent.update(|_| true);
        harness.pass(Duration::from_secs(700));
        harness.agent.compare();
        harness.settle();
    }
    let asked = |harness: &mut Harness| {
        let requests = harness.server.store_mut().take_requests();
        let writes = requests
            .iter()
            .filter(|request| request.kind == MessageKind::WRITE);
        writes
            .filter(|request| request.path.ends_with("feature-balloon"))
            .count()
    };
    assert_eq!(asked(&mut harness), 1 + 5, "with five comparisons");
    harness.server.store_mut().resume(DOMAIN);
    harness.server.process();
    harness.settle();
    assert_eq!(asked(&mut harness), 1);

    // SIGHUP retries it, too.
    harness.agent.retry_failed_writes();
    harness.settle();
    assert_eq!(asked(&mut harness), 1);
}

#[test]
fn write_denied_while_a_retry_is_requested_is_sent_again() {
    type Cause = fn(&mut Harness);
    let causes: [Cause; 2] = [
        |harness| harness.agent.retry_failed_writes(),
        |harness| harness.store().resume(DOMAIN),
    ];
    for request_retry in causes {
        let mut harness = Harness::new(Toolstack::Xapi);
        let address = refusal("attr/vif/0/ipv4/0", ErrorCode::EACCES);
        harness.refuse(address);
        harness.hold_replies(true);
        harness.set_address(7);
        harness.settle();

        // The server has denied the write, but the agent does not know it yet.
        harness.clear_refusals();
        request_retry(&mut harness);
        harness.hold_replies(false);
        harness.server.process();
        harness.settle();
        let published = harness.read("attr/vif/0/ipv4/0");
        assert_eq!(published.as_deref(), Some("10.0.1.7"));
    }
}

#[test]
fn writes_over_quota_while_a_retry_is_requested_are_sent_again() {
    let mut harness = Harness::new(Toolstack::Xapi);
    for index in 1..20 {
        let path = format!("attr/vif/0/ipv4/{index}");
        let refused = refusal(&path, ErrorCode::ENOSPC);
        harness.refuse(refused);
    }
    harness.hold_replies(true);
    harness.set_addresses(addresses(20));
    harness.settle();

    // The host raised the quota after the server rejected the writes.
    harness.clear_refusals();
    harness.agent.retry_failed_writes();
    harness.hold_replies(false);
    harness.server.process();
    harness.settle();
    let unpublished: Vec<_> = harness.unpublished().collect();
    assert_eq!(unpublished, [] as [&Path; 0]);
}

#[test]
fn node_over_quota_is_published_at_the_next_comparison() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.set_refusals([refusal("attr/vif", ErrorCode::ENOSPC)]);
    harness.set_address(7);
    harness.settle();
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        None,
        "a stale value stayed"
    );
    harness.clear_refusals();
    harness.agent.compare();
    harness.settle();
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.7")
    );
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0/prefix").as_deref(),
        Some("24")
    );
}

/// Returns the paths of the nodes that the agent tried to write at a comparison.
fn written_at_comparison(harness: &mut Harness) -> Vec<String> {
    harness.store().keep_requests(true);
    harness.store().take_requests();
    writes_until_compared(harness);
    let requests = harness.store().take_requests();
    let writes = requests
        .iter()
        .filter(|request| request.kind == MessageKind::WRITE);
    writes
        .map(|request| request.path.replace("/local/domain/5/", ""))
        .collect()
}

#[test]
fn write_denied_at_start_is_retried_at_comparison() {
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
    harness.set_refusals([refusal("attr/vif/0/ipv4/0", ErrorCode::EACCES)]);
    harness.connect();
    harness.pass(Duration::from_secs(2));
    harness.clear_refusals();
    log::take();

    harness.pass(Duration::from_secs(500));
    assert_eq!(harness.read("attr/vif/0/ipv4/0"), None);
    assert_eq!(harness.agent.denied().count(), 2, "with its prefix");
    writes_until_compared(&mut harness);
    assert_eq!(
        meaning(&harness.published()),
        meaning(&harness.expected(&[].into()))
    );
    assert_eq!(harness.agent.denied().count(), 0);
    assert_eq!(log::take(), [""; 0]);
}

#[test]
fn denied_nodes_are_retried_by_priority_and_all_after_the_first_success() {
    log::take();
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
    harness.set_addresses(addresses(100));
    harness.set_refusals([refusal("attr/vif", ErrorCode::EACCES)]);
    harness.connect();
    let denied = harness.agent.denied().count();
    assert!(denied > 100, "{denied} denied nodes");
    assert_eq!(log::take().len(), 1);

    for _ in 0..3 {
        let written = written_at_comparison(&mut harness);
        assert_eq!(written.len(), 2 + 32, "{written:?}");
        assert!(written.iter().any(|path| path == "attr/vif/0/ipv4/0"));
        assert!(!written.iter().any(|path| path == "attr/vif/0/name"));
    }
    harness.clear_refusals();
    writes_until_compared(&mut harness);
    assert_eq!(
        meaning(&harness.published()),
        meaning(&harness.expected(&[].into()))
    );
    assert_eq!(log::take(), [""; 0]);

    // The set of denied nodes changes, so it is logged again.
    harness.set_refusals([refusal("attr/vif/0/ipv4/0", ErrorCode::EACCES)]);
    harness.set_address(7);
    harness.settle();
    assert_eq!(log::take().len(), 1);
}

#[test]
fn denied_cached_node_is_announced_when_a_retry_succeeds() {
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
    harness.set_refusals([refusal("data/os_uname", ErrorCode::EACCES)]);
    harness.connect();
    for _ in 0..3 {
        let written = written_at_comparison(&mut harness);
        let expected = ["data/meminfo_free", "data/meminfo_total", "data/os_uname"];
        assert_eq!(written, expected);
    }
    harness.clear_refusals();
    let written = written_at_comparison(&mut harness);
    assert_eq!(
        written[3..],
        ["attr/PVAddons/Installed", "data/updated"],
        "{written:?}"
    );
}

/// An agent in a domain that may create so many nodes.
fn with_quota(nodes: usize, guest: xen_guest_agent::guest::Guest) -> (Harness, usize) {
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest);
    let own = harness.server.store().node_count(DOMAIN);
    harness.store().quotas.nodes = own + nodes;
    harness.connect();
    harness.pass(Duration::from_secs(5));
    (harness, own)
}

fn poll(harness: &mut Harness) {
    harness.pass(Duration::from_secs(50));
    harness.agent.probe_quota();
    harness.pass(Duration::from_secs(10));
}

#[test]
fn node_quota_keeps_the_nodes_of_highest_priority() {
    for quota in 17..36 {
        let (harness, own) = with_quota(quota, guest());
        let published = harness.published();
        for node in [
            "attr/PVAddons/MajorVersion",
            "attr/PVAddons/BuildVersion",
            "attr/vif/0/ipv4/0",
            "data/os_uname",
        ] {
            assert!(
                published.contains_key(node),
                "{quota}: {node} of {published:?}"
            );
        }
        let used = harness.server.store().node_count(DOMAIN) - own;
        let missing = harness.unpublished().count();
        assert!(
            missing == 0 || used + 4 > quota,
            "{used} of {quota} nodes, {missing} missing"
        );
    }
}

#[test]
fn node_quota_room_is_used_within_a_minute() {
    for quota in [0, 1, 5, 21, 30, 35] {
        log::take();
        let mut balloon = guest();
        balloon.balloon = true;
        balloon.interfaces.get_mut(&2).unwrap().addresses = addresses(10);
        let (mut harness, own) = with_quota(quota, balloon);
        assert!(harness.unpublished().count() > 0, "{quota}");
        let lines = log::take();
        assert!(
            lines.len() == 1 && lines[0].contains("node quota reached"),
            "{quota}: {lines:?}"
        );

        // A poll costs one request while there is no room.
        for _ in 0..20 {
            harness.store().keep_requests(true);
            poll(&mut harness);
            let requests = harness.store().take_requests();
            // The date is always written together with the node that announces it.
            let is_date = requests[requests.len() - 1].path.ends_with("data/updated");
            assert!(
                requests.len() == 1 || (requests.len() == 2 && is_date),
                "{quota}: {requests:?}"
            );
        }
        harness.store().quotas.nodes = own + 1000;
        poll(&mut harness);
        assert_eq!(
            meaning(&harness.published()),
            meaning(&harness.expected(&[].into())),
            "{quota}"
        );
        assert_eq!(harness.unpublished().count(), 0);
        assert_eq!(log::take(), [""; 0], "{quota}");

        // Without a shortage a poll costs nothing.
        let requests = harness.all_requests();
        poll(&mut harness);
        assert_eq!(harness.all_requests(), requests);
    }
}

#[test]
fn parents_that_removals_leave_empty_are_removed_while_the_node_quota_is_short() {
    let (mut harness, own) = with_quota(40, guest());
    assert_eq!(harness.unpublished().count(), 0);
    let used = harness.server.store().node_count(DOMAIN) - own;
    harness.store().quotas.nodes = own + used;
    assert!(harness.read("feature/hotplug").is_some());

    // One address of another family needs two nodes, and an address needs three with its VIF.
    harness.agent.update(|guest| {
        let addresses = ["10.0.7.1", "2001:db8::7"];
        guest
            .interfaces
            .insert(3, interface(Device::Vif(1), &addresses));
        guest
            .interfaces
            .insert(4, interface(Device::Vif(2), &addresses));
        true
    });
    harness.pass(Duration::from_secs(5));
    writes_until_compared(&mut harness);
    for node in [
        "attr/vif/1/ipv4/0",
        "attr/vif/1/ipv6/0",
        "attr/vif/2/ipv4/0",
    ] {
        assert!(harness.read(node).is_some(), "{node}");
    }
    assert_eq!(harness.read("feature/hotplug/vif"), None);
    assert_eq!(harness.read("feature/hotplug"), None);
    let used_now = harness.server.store().node_count(DOMAIN) - own;
    assert!(used_now + 3 > used, "{used_now} of {used} nodes");
}

#[test]
fn parent_with_children_of_others_is_not_removed() {
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
    harness.write("feature/hotplug/theirs", "1");
    let own = harness.server.store().node_count(DOMAIN);
    harness.store().quotas.nodes = own + 22;
    harness.connect();
    harness.pass(Duration::from_secs(5));
    poll(&mut harness);
    assert!(harness.unpublished().count() > 0);
    assert_eq!(harness.read("feature/hotplug/theirs").as_deref(), Some("1"));
}

#[test]
fn parent_with_later_children_of_others_is_not_removed() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.agent.compare();
    harness.pass(Duration::from_secs(5));

    harness.write("feature/hotplug/theirs", "1");
    let own = harness.server.store().node_count(DOMAIN);
    harness.store().quotas.nodes = own;
    harness.agent.update(|guest| {
        let vif = interface(Device::Vif(1), &["10.0.7.1", "2001:db8::7"]);
        guest.interfaces.insert(3, vif);
        true
    });
    harness.pass(Duration::from_secs(5));
    poll(&mut harness);

    assert!(harness.unpublished().count() > 0);
    assert_eq!(harness.read("feature/hotplug/theirs").as_deref(), Some("1"));
}

#[test]
fn denied_probe_of_the_node_quota_costs_one_request_per_poll() {
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
    harness.set_addresses(addresses(100));
    let own = harness.server.store().node_count(DOMAIN);
    harness.store().quotas.nodes = own + 60;
    harness.connect();
    harness.pass(Duration::from_secs(5));
    let missing: Vec<_> = harness.unpublished().cloned().collect();
    harness.set_refusals(
        missing
            .iter()
            .map(|path| Refusal::of_writes(path, ErrorCode::EACCES)),
    );

    for _ in 0..50 {
        let before = harness.requests(MessageKind::WRITE);
        poll(&mut harness);
        let writes = harness.requests(MessageKind::WRITE) - before;
        assert!(writes <= 1, "{writes} writes");
    }
}

#[test]
fn half_of_a_thousand_addresses_are_all_published_once_the_others_are_gone() {
    for budget in [700, 10_000] {
        let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
        harness.agent.set_node_budget(budget);
        harness.set_addresses(addresses(1000));
        harness.connect();
        harness.pass(Duration::from_secs(60));
        for start in [0, 500] {
            let half = addresses(1000)[start..start + 500].to_vec();
            harness.set_addresses(half.clone());
            poll(&mut harness);
            let published: BTreeSet<_> = harness.published().into_values().collect();
            let missing = half
                .iter()
                .filter(|address| !published.contains(&address.ip.to_string()));
            assert_eq!(
                missing.count(),
                0,
                "of the addresses from {start}, {budget}"
            );
        }
    }
}

#[test]
fn value_over_the_size_limit_is_not_taken_for_a_full_node_quota() {
    for length in [90, 300] {
        log::take();
        let mut long = guest();
        long.kernel = "x".repeat(length);
        let mut harness = Harness::unconnected(Toolstack::Xapi, long);
        // A node with one permission needs 32 bytes besides its value.
        harness.store().quotas.node_size = 32 + length;
        harness.connect();
        harness.pass(Duration::from_secs(5));
        let missing: Vec<_> = harness.unpublished().map(ToString::to_string).collect();
        assert_eq!(missing, ["data/os_uname"], "{length} bytes");
        let mut expected = harness.expected(&[].into());
        expected.remove("data/os_uname");
        assert_eq!(meaning(&harness.published()), meaning(&expected));
        let lines = log::take();
        let cause = format!("value too long: {length} bytes");
        assert!(
            lines.len() == 1 && lines[0].contains(&cause),
            "{length}: {lines:?}"
        );
        if length > 256 {
            assert_eq!(harness.requests(MessageKind::RM), 0);
        }

        // It costs one request at a comparison, and a shorter value is published.
        assert_eq!(written_at_comparison(&mut harness).len(), 2 + 1);
        harness.agent.update(|guest| {
            guest.kernel = "x".repeat(length - 10);
            true
        });
        writes_until_compared(&mut harness);
        assert!(harness.read("data/os_uname").is_some());
    }
}

/// Has the agent resume and compare at a short quota, and returns the nodes that are missing two
/// minutes after there is room.
fn missing_after_a_shortage(mut harness: Harness, own: usize) -> Vec<String> {
    harness.agent.update(|guest| {
        let vif = interface(Device::Vif(1), &["10.0.7.1", "2001:db8::7"]);
        guest.interfaces.insert(3, vif);
        true
    });
    harness.pass(Duration::from_secs(60));
    harness.store().resume(DOMAIN);
    harness.pass(Duration::from_secs(60));
    writes_until_compared(&mut harness);
    harness.pass(Duration::from_secs(60));

    harness.store().quotas.nodes = own + 1000;
    poll(&mut harness);
    poll(&mut harness);
    harness.unpublished().map(ToString::to_string).collect()
}

#[test]
fn node_quota_room_after_resume_and_comparison_is_used_within_two_minutes() {
    for quota in 8..60 {
        let (harness, own) = with_quota(quota, guest());
        log::take();
        let missing = missing_after_a_shortage(harness, own);
        assert_eq!(missing, [""; 0], "{quota}");
        let lines = log::take();
        let is_too_long = |line: &String| line.contains("too long");
        assert!(!lines.iter().any(is_too_long), "{quota}: {lines:?}");
    }
}

#[test]
fn node_that_is_too_long_does_not_hide_room_from_others() {
    for quota in 8..48 {
        let mut long = guest();
        long.kernel = "x".repeat(90);
        let (mut harness, own) = with_quota(quota, long);
        harness.store().quotas.node_size = 32 + 90;
        harness.agent.retry_failed_writes();
        harness.pass(Duration::from_secs(5));
        let missing = missing_after_a_shortage(harness, own);
        assert!(
            missing.iter().all(|node| node == "data/os_uname"),
            "{quota}: {missing:?}"
        );
    }
}
