//! Checks that bytes of a BSD kernel are decoded without a panic, that a prefix of a message is
//! refused, and that bytes behind a message do not change it.
//!
//! Input: the number of a layout, and then messages.

#![no_main]

// The agent's other modules and their dependencies would take minutes to compile.
#[allow(dead_code)]
#[path = "../../crates/xen-guest-agent/src/platform/bsd/mod.rs"]
mod bsd;
#[allow(dead_code)]
#[path = "../../crates/xen-guest-agent/src/guest.rs"]
mod guest;

use bsd::digest::Digest;
use bsd::driver::Driver;
use bsd::layout::Layout;
use bsd::link_list;
use bsd::message::Message;
use bsd::{stacking, sysctl};
use libfuzzer_sys::fuzz_target;

const LAYOUTS: [&Layout; 6] = [
    &Layout::FREEBSD,
    &Layout::FREEBSD_LIST,
    &Layout::FREEBSD_I386,
    &Layout::FREEBSD_I386_LIST,
    &Layout::NETBSD,
    &Layout::OPENBSD,
];

fuzz_target!(|input: &[u8]| {
    let Some((number, bytes)) = input.split_first() else {
        return;
    };
    let layout = LAYOUTS[usize::from(*number) % LAYOUTS.len()];

    let mut rest = bytes;
    let mut digest = Digest::new(layout);
    while let Ok((message, next)) = Message::split(rest, layout) {
        let len = rest.len() - next.len();
        let alone = Message::split(&rest[..len], layout).expect("the message is complete");
        assert_eq!(alone, (message, &[][..]), "the bytes behind it matter");
        assert!(
            Message::split(&rest[..len - 1], layout).is_err(),
            "a prefix is accepted"
        );

        if let Ok(addresses) = message.socket_addresses(layout) {
            assert!(addresses.padded_len() <= 32 * 256);
        }
        digest.add(&rest[..len]);
        rest = next;
    }

    if let Ok(links) = link_list::parse(bytes, layout) {
        assert!(
            rest.is_empty(),
            "a list with an invalid message is accepted"
        );
        for address in links.iter().flat_map(|link| &link.addresses) {
            let bits = if address.ip.is_ipv4() { 32 } else { 128 };
            assert!(address.prefix <= bits);
        }
    }

    let names = stacking::lagg_ports(bytes)
        .into_iter()
        .chain(stacking::bridge_members(bytes))
        .chain(stacking::vlan_parent(bytes));
    for name in names {
        assert!((1..=16).contains(&name.len()));
    }
    sysctl::number(bytes);
    sysctl::vif_number(bytes);
    Driver::parse(bytes);
    sysctl::is_xen(bytes);
    assert!(!sysctl::text(bytes).contains('\0'));
});
