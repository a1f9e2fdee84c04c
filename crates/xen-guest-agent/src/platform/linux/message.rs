//! Messages of rtnetlink(7) about links and addresses.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt as _;

use netlink_packet_core::{NlaBuffer, NlasIterator};

use crate::guest::{Address, Mac};

// Constants of linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h and linux/if.h.
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_WIRELESS: u16 = 11;
const IFLA_LINKINFO: u16 = 18;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_PERM_ADDRESS: u16 = 54;
const IFLA_INFO_KIND: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
// The same bit means "secondary" for IPv4 and "temporary" for IPv6.
const IFA_F_SECONDARY: u32 = 0x1;
const IFA_F_OPTIMISTIC: u32 = 0x4;
const IFA_F_DADFAILED: u32 = 0x8;
const IFA_F_DEPRECATED: u32 = 0x20;
pub(super) const IFA_F_TENTATIVE: u32 = 0x40;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Kinds of links whose own addresses are reached through the link below them. The link below a
/// veth is its peer, often in a container. Addresses behind a tunnel (vxlan) belong to another
/// network.
const STACKED_KINDS: [&[u8]; 6] = [
    b"vlan", b"macvlan", b"macvtap", b"ipvlan", b"ipvtap", b"macsec",
];

/// A message about a link or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A link exists or changed.
    Link { index: u32, link: Link },
    /// A link was removed.
    NoLink { index: u32 },
    /// A link has an address, or the address changed.
    Address { index: u32, address: Address },
    /// A link lost an address. It may still have the address with another peer.
    NoAddress {
        index: u32,
        ip: IpAddr,
        prefix: u8,
        has_peer: bool,
    },
}

/// State of a link. Each message about a link has all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: OsString,
    pub(super) mac: Option<Mac>,
    pub(super) permanent_mac: Option<Mac>,
    pub(super) is_up: bool,
    pub(super) is_loopback: bool,
    pub(super) master: Option<u32>,
    pub(super) parent: Option<u32>,
}

/// Returns an address with the state that the kernel's flags describe.
pub(super) fn address_with_flags(ip: IpAddr, prefix: u8, flags: u32) -> Address {
    let has = |flag| flags & flag != 0;
    let is_tentative = has(IFA_F_TENTATIVE) && !has(IFA_F_OPTIMISTIC);
    Address {
        ip,
        prefix,
        is_secondary: ip.is_ipv4() && has(IFA_F_SECONDARY),
        is_temporary: ip.is_ipv6() && has(IFA_F_SECONDARY),
        is_deprecated: has(IFA_F_DEPRECATED),
        is_usable: !is_tentative && !has(IFA_F_DADFAILED),
    }
}

/// Parses the few attributes of a message that matter. A full parser (netlink-packet-route) rejects
/// the whole message if one attribute has an unexpected form, and kernels do change them.
pub(super) fn parse(kind: u16, payload: &[u8]) -> Option<Message> {
    match kind {
        RTM_NEWLINK | RTM_DELLINK => parse_link(kind, payload),
        RTM_NEWADDR | RTM_DELADDR => parse_address(kind, payload),
        _ => None,
    }
}

/// `struct ifinfomsg`: family (1 byte), padding (1), type (2), index (4), flags (4), change mask
/// (4).
fn parse_link(kind: u16, payload: &[u8]) -> Option<Message> {
    let (header, attributes) = payload.split_first_chunk::<16>()?;
    let [family, _, _, _, index @ .., _, _, _, _, _, _, _, _] = *header;
    let [_, _, _, _, _, _, _, _, flags @ .., _, _, _, _] = *header;
    let (index, flags) = (u32::from_ne_bytes(index), u32::from_ne_bytes(flags));
    // A message of another family has another subject. AF_BRIDGE reports that a port left a bridge.
    if family != 0 {
        return None;
    }
    if kind == RTM_DELLINK {
        return Some(Message::NoLink { index });
    }

    let mut link = Link {
        is_up: flags & IFF_UP != 0,
        is_loopback: flags & IFF_LOOPBACK != 0,
        ..Link::default()
    };
    let (mut lower, mut is_stacked, mut is_in_other_namespace) = (None, false, false);
    for attribute in attributes_of(attributes) {
        let value = attribute.value();
        match attribute.kind() {
            IFLA_IFNAME => link.name = OsString::from_vec(text(value).to_vec()),
            IFLA_ADDRESS => link.mac = value.try_into().ok().map(Mac),
            IFLA_PERM_ADDRESS => link.permanent_mac = value.try_into().ok().map(Mac),
            IFLA_MASTER => link.master = number(value),
            IFLA_LINK => lower = number(value),
            // Then IFLA_LINK is an index in another network namespace.
            IFLA_LINK_NETNSID => is_in_other_namespace = true,
            // This event of a wireless card lacks most of the link's state.
            IFLA_WIRELESS => return None,
            IFLA_LINKINFO => is_stacked = is_stacked_kind(value),
            _ => {}
        }
    }

    link.parent = lower.filter(|_| is_stacked && !is_in_other_namespace);
    (!link.name.is_empty()).then_some(Message::Link { index, link })
}

fn is_stacked_kind(info: &[u8]) -> bool {
    let kind = attributes_of(info).find(|attribute| attribute.kind() == IFLA_INFO_KIND);
    kind.is_some_and(|kind| STACKED_KINDS.contains(&text(kind.value())))
}

/// `struct ifaddrmsg`: family, prefix length, flags, scope (1 byte each), index (4).
fn parse_address(kind: u16, payload: &[u8]) -> Option<Message> {
    let (header, attributes) = payload.split_first_chunk::<8>()?;
    let [family, prefix, flags, _scope, index @ ..] = *header;
    let index = u32::from_ne_bytes(index);
    let (mut local, mut other, mut flags) = (None, None, u32::from(flags));
    let mut has_no_lifetime = false;
    for attribute in attributes_of(attributes) {
        let value = attribute.value();
        match attribute.kind() {
            // On a point-to-point link IFA_ADDRESS is the peer's address.
            IFA_LOCAL => local = ip(family, value),
            IFA_ADDRESS => other = ip(family, value),
            // The header has room for only eight bits of the flags.
            IFA_FLAGS => flags = value.try_into().map_or(flags, u32::from_ne_bytes),
            // `struct ifa_cacheinfo` begins with the preferred lifetime in seconds.
            IFA_CACHEINFO => has_no_lifetime = value.starts_with(&[0; 4]),
            _ => {}
        }
    }

    let ip = local.or(other)?;
    if kind == RTM_DELADDR {
        let has_peer = other.is_some_and(|other| other != ip);
        return Some(Message::NoAddress {
            index,
            ip,
            prefix,
            has_peer,
        });
    }
    let mut address = address_with_flags(ip, prefix, flags);
    // After a router advertisement the kernel reports the lifetime 0 first, and the flag later.
    address.is_deprecated |= has_no_lifetime;
    Some(Message::Address { index, address })
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

/// Returns the attributes before the first malformed one.
fn attributes_of(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(Result::ok)
}

fn text(value: &[u8]) -> &[u8] {
    value.strip_suffix(b"\0").unwrap_or(value)
}

fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => value.try_into().ok().map(|bytes: [u8; 4]| bytes.into()),
        AF_INET6 => value.try_into().ok().map(|bytes: [u8; 16]| bytes.into()),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Encodes an attribute with its header and padding.
    pub(in crate::platform::linux) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4)
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    pub(in crate::platform::linux) fn link(
        index: u32,
        flags: u32,
        attributes: &[&[u8]],
    ) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend(index.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(attributes.concat());
        bytes
    }

    pub(in crate::platform::linux) fn address(
        family: u8,
        flags: u8,
        attributes: &[&[u8]],
    ) -> Vec<u8> {
        let mut bytes = vec![family, 24, flags, 0];
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend(attributes.concat());
        bytes
    }

    #[test]
    fn link_messages_are_parsed() {
        let name = attribute(IFLA_IFNAME, b"eth0\0");
        let mac = attribute(IFLA_ADDRESS, &[0, 0x16, 0x3e, 1, 2, 3]);
        let eth0 = Link {
            name: "eth0".into(),
            ..Link::default()
        };
        let expected = |link| Some(Message::Link { index: 7, link });
        let cases = [
            (
                link(7, IFF_UP, &[&name, &mac]),
                expected(Link {
                    mac: Some(Mac([0, 0x16, 0x3e, 1, 2, 3])),
                    is_up: true,
                    ..eth0.clone()
                }),
            ),
            // An unknown or empty attribute does not affect the others.
            (
                link(
                    7,
                    0,
                    &[&attribute(26, &[]), &attribute(999, &[1; 7]), &name],
                ),
                expected(eth0.clone()),
            ),
            // A hardware address of Infiniband is longer.
            (
                link(7, 0, &[&name, &attribute(IFLA_ADDRESS, &[1; 20])]),
                expected(eth0.clone()),
            ),
            (
                link(
                    7,
                    0,
                    &[
                        &attribute(IFLA_PERM_ADDRESS, &[2; 6]),
                        &attribute(IFLA_MASTER, &4_u32.to_ne_bytes()),
                        &name,
                    ],
                ),
                expected(Link {
                    permanent_mac: Some(Mac([2; 6])),
                    master: Some(4),
                    ..eth0.clone()
                }),
            ),
            (
                link(7, IFF_UP | IFF_LOOPBACK, &[&name]),
                expected(Link {
                    is_up: true,
                    is_loopback: true,
                    ..eth0.clone()
                }),
            ),
            // The kernel accepts names that are not UTF-8.
            (
                link(7, 0, &[&attribute(IFLA_IFNAME, b"abc\xff\0")]),
                expected(Link {
                    name: OsString::from_vec(b"abc\xff".to_vec()),
                    ..Link::default()
                }),
            ),
            (link(7, 0, &[&mac]), None),
            (
                link(7, 0, &[&name, &attribute(IFLA_WIRELESS, &[0; 8])]),
                None,
            ),
            (vec![0; 15], None),
        ];
        for (bytes, message) in cases {
            assert_eq!(parse(RTM_NEWLINK, &bytes), message, "{bytes:?}");
        }
        assert_eq!(
            parse(RTM_DELLINK, &link(7, 0, &[])),
            Some(Message::NoLink { index: 7 })
        );
        let mut of_a_bridge = link(7, IFF_UP, &[&name]);
        of_a_bridge[0] = 7;
        assert_eq!(parse(RTM_DELLINK, &of_a_bridge), None);
    }

    #[test]
    fn parent_is_parsed_for_stacked_kinds_only() {
        let kind =
            |kind: &str| attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, kind.as_bytes()));
        let (name, lower) = (
            attribute(IFLA_IFNAME, b"x\0"),
            attribute(IFLA_LINK, &3_u32.to_ne_bytes()),
        );
        let other_namespace = attribute(IFLA_LINK_NETNSID, &0_u32.to_ne_bytes());
        let cases: [(&[&[u8]], Option<u32>); 6] = [
            (&[&name, &lower, &kind("vlan\0")], Some(3)),
            (&[&name, &kind("macvlan"), &lower], Some(3)),
            (&[&name, &kind("ipvlan\0"), &lower, &other_namespace], None),
            (&[&name, &lower, &kind("veth\0")], None),
            (&[&name, &lower], None),
            (&[&name, &kind("vlan\0"), &attribute(IFLA_LINK, &[3])], None),
        ];
        for (attributes, parent) in cases {
            match parse(RTM_NEWLINK, &link(7, 0, attributes)) {
                Some(Message::Link { link, .. }) => {
                    assert_eq!(link.parent, parent, "{attributes:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn address_messages_are_parsed() {
        let v4 = |kind, last| attribute(kind, &[10, 0, 0, last]);
        let shown = |bytes: Vec<u8>| match parse(RTM_NEWADDR, &bytes) {
            Some(Message::Address { index: 7, address }) => {
                let states = [
                    (address.is_secondary, " secondary"),
                    (address.is_temporary, " temporary"),
                    (address.is_deprecated, " deprecated"),
                    (!address.is_usable, " unusable"),
                ];
                let set = states.into_iter().filter(|(is_set, _)| *is_set);
                let states: String = set.map(|(_, name)| name).collect();
                format!("{}/{}{states}", address.ip, address.prefix)
            }
            other => format!("{other:?}"),
        };
        let flags = |flags: u32| attribute(IFA_FLAGS, &flags.to_ne_bytes());
        // The attributes of a point-to-point link may come in either order.
        assert_eq!(
            shown(address(
                AF_INET,
                0,
                &[&v4(IFA_ADDRESS, 2), &v4(IFA_LOCAL, 1)]
            )),
            "10.0.0.1/24"
        );
        assert_eq!(
            shown(address(
                AF_INET,
                1,
                &[&v4(IFA_LOCAL, 1), &v4(IFA_ADDRESS, 2)]
            )),
            "10.0.0.1/24 secondary"
        );
        let v6 = attribute(
            IFA_ADDRESS,
            &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        );
        assert_eq!(shown(address(AF_INET6, 0x80, &[&v6])), "fe80::1/24");
        assert_eq!(
            shown(address(AF_INET6, 0xc0, &[&v6])),
            "fe80::1/24 unusable"
        );
        assert_eq!(
            shown(address(AF_INET6, 0, &[&v6, &flags(IFA_F_DADFAILED)])),
            "fe80::1/24 unusable"
        );
        let optimistic = flags(IFA_F_TENTATIVE | IFA_F_OPTIMISTIC);
        assert_eq!(
            shown(address(AF_INET6, 0x40, &[&v6, &optimistic])),
            "fe80::1/24"
        );
        let old_temporary = flags(IFA_F_SECONDARY | IFA_F_DEPRECATED);
        assert_eq!(
            shown(address(AF_INET6, 0x21, &[&v6, &old_temporary])),
            "fe80::1/24 temporary deprecated"
        );
        assert_eq!(
            shown(address(AF_INET, 0x20, &[&v4(IFA_LOCAL, 1)])),
            "10.0.0.1/24 deprecated"
        );
        for (preferred, expected) in [
            (0, "fe80::1/24 deprecated"),
            (1, "fe80::1/24"),
            (u32::MAX, "fe80::1/24"),
        ] {
            let [valid, created, changed] = [7200_u32, 1, 2].map(u32::to_ne_bytes);
            let lifetimes = [preferred.to_ne_bytes(), valid, created, changed].concat();
            let lifetimes = attribute(IFA_CACHEINFO, &lifetimes);
            assert_eq!(shown(address(AF_INET6, 0, &[&v6, &lifetimes])), expected);
        }
        for broken in [
            address(AF_INET, 0, &[&v6]),
            address(99, 0, &[&v4(IFA_LOCAL, 1)]),
            address(AF_INET, 0, &[]),
            vec![2],
        ] {
            assert_eq!(parse(RTM_NEWADDR, &broken), None);
        }
    }

    proptest! {
        #[test]
        fn parse_never_panics(kind in 15u16..25, bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(kind, &bytes);
        }
    }
}
