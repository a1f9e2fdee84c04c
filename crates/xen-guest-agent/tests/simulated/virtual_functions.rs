//! SR-IOV virtual functions.

use xen_guest_agent::guest::{Device, Mac};
use xenstore::embedded::Toolstack;
use xenstore::wire::Kind;

use crate::harness::{Harness, address, guest, interface};

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
        harness.requests(Kind::RM),
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
