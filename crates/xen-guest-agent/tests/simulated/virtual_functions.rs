//! SR-IOV virtual functions.

use std::time::Duration;

use xen_guest_agent::guest::{Device, Mac};
use xenstore::embedded::Toolstack;
use xenstore::wire::MessageKind;

use crate::harness::{DOMAIN, Harness, address, guest, interface};

/// A guest with a virtual function that the toolstack assigned.
pub(crate) fn with_function(toolstack: Toolstack) -> Harness {
    let mut guest = guest();
    let mut function = interface(Device::Physical, &["10.0.9.1"]);
    function.mac = Some(Mac([2, 0, 0, 0, 0, 9]));
    guest.interfaces.insert(3, function);
    Harness::unconnected(toolstack, guest)
}

const HOME: &str = "/local/domain/5";

pub(crate) const FUNCTION: &str = "/local/domain/5/xenserver/device/net-sriov-vf/4";

#[test]
fn virtual_functions_are_read_before_the_first_publication() {
    let mut harness = with_function(Toolstack::Xapi);
    harness
        .server
        .store_mut()
        .write(format!("{FUNCTION}/mac"), "02:00:00:00:00:09")
        .unwrap();
    // An earlier run of the agent used other slots than a new one would choose.
    harness.agent.update(|guest| {
        let function = guest.interfaces.get_mut(&3).unwrap();
        function.addresses.push(address("10.0.9.2"));
        true
    });
    for (slot, ip) in [(0, "10.0.9.2"), (3, "10.0.9.1")] {
        let node = format!("{HOME}/xenserver/attr/net-sriov-vf/4/ipv4/{slot}");
        harness.server.store_mut().write(&node, ip).unwrap();
    }
    harness.connect();
    assert_eq!(
        harness
            .read("xenserver/attr/net-sriov-vf/4/ipv4/0")
            .as_deref(),
        Some("10.0.9.2")
    );
    assert_eq!(
        harness
            .read("xenserver/attr/net-sriov-vf/4/ipv4/3")
            .as_deref(),
        Some("10.0.9.1")
    );
    assert_eq!(
        harness.requests(MessageKind::RM),
        0,
        "a valid node was removed as stale"
    );
    harness.server.store_mut().remove(FUNCTION).unwrap();
    harness.settle();
    assert_eq!(harness.read("xenserver/attr/net-sriov-vf/4/ipv4/3"), None);

    // The node changes again while it is read.
    for last in [8, 9] {
        harness
            .server
            .store_mut()
            .write(format!("{FUNCTION}/mac"), format!("02:00:00:00:00:0{last}"))
            .unwrap();
        harness.agent.on_readable(harness.now);
    }
    harness.settle();
    assert_eq!(
        harness
            .read("xenserver/attr/net-sriov-vf/4/ipv4/0")
            .as_deref(),
        Some("10.0.9.1")
    );
}

/// Number of requests of one kind in ten seconds that a storm of events may cause: a burst of ten,
/// and one each second.
const STORM_LIMIT: usize = 20;

/// Writes a node every five milliseconds for ten seconds, and changes an address meanwhile. Returns
/// the requests of the agent.
fn storm(harness: &mut Harness, path: &str, value: &str) -> Vec<(MessageKind, String)> {
    harness.take_requests();
    for step in 0..2000 {
        harness.write(path, value);
        harness.pass(Duration::from_millis(5));
        if step == 1000 {
            harness.set_address(9);
        }
    }
    harness.take_requests()
}

fn count(requests: &[(MessageKind, String)], kind: MessageKind, path: &str) -> usize {
    let request = (kind, path.to_owned());
    requests.iter().filter(|other| **other == request).count()
}

#[test]
fn storm_of_function_events_is_rate_limited_and_does_not_stop_publication() {
    let mut harness = with_function(Toolstack::Xapi);
    harness.store().keep_requests(true);
    harness.connect();
    let mac = "xenserver/device/net-sriov-vf/4/mac";
    let requests = storm(&mut harness, mac, "02:00:00:00:00:09");
    let lists = count(
        &requests,
        MessageKind::DIRECTORY,
        "xenserver/device/net-sriov-vf",
    );
    assert!((10..=STORM_LIMIT).contains(&lists), "{lists} lists");
    let reads = count(&requests, MessageKind::READ, mac);
    assert!((10..=STORM_LIMIT).contains(&reads), "{reads} reads");
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.9")
    );

    // A change at the end of the storm is found after it.
    harness.write(mac, "02:00:00:00:00:08");
    harness.settle();
    harness.pass(Duration::from_secs(1));
    assert_eq!(
        harness.agent.guest().virtual_functions[&4],
        Mac([2, 0, 0, 0, 0, 8])
    );
    assert_eq!(harness.agent.deadline(), None);
}

#[test]
fn storm_of_resumes_reads_the_domain_id_slowly() {
    let mut harness = with_function(Toolstack::Xapi);
    harness.store().keep_requests(true);
    harness.connect();
    let requests = storm(&mut harness, "domid", "5");
    let reads = count(&requests, MessageKind::READ, "domid");
    assert!((10..=STORM_LIMIT).contains(&reads), "{reads} reads");
    assert_eq!(harness.agent.domain_id(), Some(DOMAIN));
}

#[test]
fn at_most_256_functions_are_read() {
    let mut harness = with_function(Toolstack::Xapi);
    for number in 0..300 {
        let path = format!("xenserver/device/net-sriov-vf/{number}/mac");
        harness.write(&path, "02:00:00:00:00:09");
    }
    harness.connect();
    assert_eq!(harness.agent.guest().virtual_functions.len(), 256);
    assert!(harness.agent.is_published());
}

#[test]
fn list_of_more_than_64_kib_is_rejected_and_the_rest_is_published() {
    let mut harness = with_function(Toolstack::Xapi);
    harness.write("xenserver/device/net-sriov-vf/4/mac", "02:00:00:00:00:09");
    for number in 0..400 {
        let path = format!("xenserver/device/net-sriov-vf/{number:0>200}");
        harness.write(&path, "");
    }
    harness.connect();
    assert!(harness.agent.guest().virtual_functions.is_empty());
    assert!(harness.agent.is_published());
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.0.1")
    );
}
