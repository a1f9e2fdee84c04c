//! Results of ioctl(2) on a bridge, a lagg and a VLAN.

use super::super::stacking::{bridge_members, lagg_ports, vlan_parent};
use super::capture::{FREEBSD_12, FREEBSD_13, from_hex, others};

#[test]
fn ports_members_and_parent_are_found() {
    for name in [FREEBSD_12, FREEBSD_13] {
        let results = |kind| {
            let calls = others(name, kind).into_iter();
            calls.map(|fields| from_hex(fields.last().unwrap()))
        };
        let ports: Vec<_> = results("SIOCGLAGG")
            .map(|bytes| lagg_ports(&bytes))
            .collect();
        assert_eq!(ports, [["wan0", "tap1"], ["port0", "tap1"]]);
        let members: Vec<_> = results("BRDGGIFS")
            .map(|bytes| bridge_members(&bytes))
            .collect();
        assert_eq!(members, [["wan0"]]);
        let parents: Vec<_> = results("SIOCGETVLAN")
            .map(|bytes| vlan_parent(&bytes))
            .collect();
        assert_eq!(parents, [Some("epair0a".into())]);
    }
}

#[test]
fn incomplete_results_have_no_names() {
    let port = others(FREEBSD_12, "SIOCGLAGG").remove(0).pop().unwrap();
    let bytes = from_hex(&port);
    assert_eq!(lagg_ports(&bytes[..143]).len(), 1);
    assert_eq!(lagg_ports(&bytes[..71]), [""; 0]);
    assert_eq!(vlan_parent(&[b'a'; 15]), None);
    assert_eq!(vlan_parent(&[0; 18]), None);
}
