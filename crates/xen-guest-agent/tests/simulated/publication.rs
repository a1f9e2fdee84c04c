//! Publication of nodes, resynchronisation and schema changes.

use std::time::Duration;

use xen_guest_agent::agent::Agent;
use xen_guest_agent::guest::Volume;
use xen_guest_agent::schema::topology::Filter;
use xen_guest_agent::schema::{Name, Schema};
use xenstore::embedded::Toolstack;
use xenstore::wire::MessageKind;

use crate::harness::{DOMAIN, Harness, address};

#[test]
fn initial_publication_is_complete_and_then_idle() {
    let mut harness = Harness::new(Toolstack::Xapi);
    assert_eq!(
        harness.read("attr/vif/0/ipv4/1").as_deref(),
        Some("10.0.0.2")
    );
    assert_eq!(
        harness.read("data/updated").as_deref(),
        Some("Thu Jan  1 00:01:40 1970")
    );
    let before = harness.server.store().request_count(DOMAIN);
    harness.agent.update(|_| true);
    harness.pass(Duration::from_secs(30));
    assert_eq!(harness.server.store().request_count(DOMAIN), before);
}

#[test]
fn watched_nodes_are_restored_and_own_events_ignored() {
    let mut harness = Harness::new(Toolstack::Xapi);
    let reads = harness.requests(MessageKind::READ);
    for last in 1..10 {
        harness.set_address(last);
        harness.settle();
    }
    assert_eq!(
        harness.requests(MessageKind::READ),
        reads,
        "an own event caused a read"
    );
    for path in ["attr/vif", "data/os_name", "attr/PVAddons/MajorVersion"] {
        harness.remove(path);
        harness.server.process();
        harness.settle();
    }
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.9")
    );
    assert_eq!(
        harness.read("attr/PVAddons/MajorVersion").as_deref(),
        Some("1")
    );
}

#[test]
fn comparison_restores_unwatched_nodes_and_rewrites_memory() {
    let mut harness = Harness::new(Toolstack::Xapi);

    // The first comparison includes watched nodes, because all nodes were just written.
    harness.agent.compare();
    harness.settle();
    harness.remove("data/host_name_dns");
    harness.write("feature/hotplug/vif", "0");
    harness.settle();
    assert_eq!(harness.read("data/host_name_dns"), None);
    harness.server.store_mut().keep_requests(true);
    harness.agent.compare();
    harness.settle();
    assert_eq!(harness.read("data/host_name_dns").as_deref(), Some("web1"));
    assert_eq!(harness.read("feature/hotplug/vif").as_deref(), Some("1"));
    let requests = harness.server.store_mut().take_requests();
    let written: Vec<_> = requests
        .iter()
        .filter(|request| request.kind == MessageKind::WRITE)
        .map(|request| &request.path)
        .collect();
    let of = |name: &str| {
        written
            .iter()
            .position(|path| path.ends_with(name))
            .unwrap_or_else(|| panic!("{written:?}"))
    };
    assert!(
        of("data/meminfo_free") < of("attr/PVAddons/Installed"),
        "{written:?}"
    );
    assert!(
        of("data/host_name_dns") < of("attr/PVAddons/Installed"),
        "a watched node is last: {written:?}"
    );
    assert!(
        requests
            .iter()
            .all(|request| !request.path.contains("attr/vif"))
    );
}

#[test]
fn resume_republishes_and_keeps_slots() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.set_addresses(["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(address).into());
    harness.settle();
    // A new agent would assign index 0 to the first address and index 2 to none.
    harness.set_addresses(["10.0.0.3", "10.0.0.1"].map(address).into());
    harness.settle();
    let slots =
        |harness: &Harness| [0, 1, 2].map(|slot| harness.read(&format!("attr/vif/0/ipv4/{slot}")));
    let expected = [Some("10.0.0.1"), None, Some("10.0.0.3")].map(|ip| ip.map(str::to_owned));
    assert_eq!(slots(&harness), expected);
    for path in ["data", "attr", "feature"] {
        harness.remove(path);
    }
    harness
        .server
        .store_mut()
        .introduce_guest(DOMAIN, Toolstack::Xapi);
    harness.server.store_mut().resume(DOMAIN);
    harness.server.process();
    harness.now += Duration::from_secs(1000);
    harness.settle();
    assert_eq!(slots(&harness), expected);
    assert_eq!(
        harness.read("data/updated").as_deref(),
        Some("Thu Jan  1 00:18:20 1970")
    );
}

#[test]
fn schema_change_replaces_nodes() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.agent.set_schema(Name::Rfc, Filter::default());
    harness.settle();
    assert_eq!(
        (
            harness.read("attr/vif/0/ipv4/0"),
            harness.read("data/net/2").as_deref()
        ),
        (None, Some("eth0"))
    );
    harness.agent.set_schema(
        Name::Std,
        Filter {
            without_interfaces: vec!["eth*".parse().unwrap()],
            ..Filter::default()
        },
    );
    harness.settle();
    assert_eq!(
        (harness.read("attr/vif/0/name"), harness.read("data/net/2")),
        (None, None)
    );
    harness.agent.set_schema(Name::Std, Filter::default());
    harness.settle();
    assert_eq!(
        harness.read("attr/vif/0/ipv4/1").as_deref(),
        Some("10.0.0.2")
    );
}

pub(crate) fn volume(name: &str, free: u64) -> Volume {
    Volume {
        name: name.to_owned(),
        size: 1 << 30,
        free: Some(free),
        file_system: Some("ext4".to_owned()),
        mount_point: Some(format!("/{name}")),
        disk: None,
    }
}

#[test]
fn volume_added_or_removed_keeps_other_slots() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.write("data/volumes/9/name", "of a withdrawn agent");
    harness.agent.update(|guest| {
        guest.volumes = vec![volume("a", 1), volume("b", 2), volume("c", 3)];
        true
    });
    harness.agent.compare();
    harness.settle();
    assert_eq!(harness.read("data/volumes/2/free").as_deref(), Some("3"));
    assert_eq!(harness.read("data/volumes/9/name"), None);
    let changes = |harness: &mut Harness, volumes: Vec<Volume>| {
        harness.server.store_mut().keep_requests(true);
        harness.server.store_mut().take_requests();
        harness.agent.update(|guest| {
            guest.volumes = volumes;
            true
        });
        harness.settle();
        let requests = harness.server.store_mut().take_requests();
        requests
            .into_iter()
            .map(|request| (request.kind, request.path.replace("/local/domain/5", "")))
            .collect::<Vec<_>>()
    };
    let removed = changes(&mut harness, vec![volume("b", 2), volume("c", 3)]);
    assert_eq!(
        removed.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
        [MessageKind::RM],
        "{removed:?}"
    );
    let written = changes(&mut harness, vec![volume("b", 20), volume("c", 3)]);
    assert_eq!(written.len(), 1, "{written:?}");
    assert_eq!(harness.read("data/volumes/1/free").as_deref(), Some("20"));

    // A new agent finds everything in its slot.
    let guest = harness.agent.guest().clone();
    harness.agent = Agent::new(guest, Schema::default());
    let writes = harness.requests(MessageKind::WRITE) + harness.requests(MessageKind::RM);
    harness.connect();
    assert_eq!(
        harness.requests(MessageKind::WRITE) + harness.requests(MessageKind::RM),
        writes
    );
    assert_eq!(harness.read("data/volumes/2/name").as_deref(), Some("c"));
}
