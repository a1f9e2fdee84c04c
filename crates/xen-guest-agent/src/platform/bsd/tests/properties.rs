//! Properties of all bytes.

use proptest::prelude::*;

use super::super::digest::Digest;
use super::super::driver::Driver;
use super::super::layout::Layout;
use super::super::link_list;
use super::super::message::Message;
use super::super::{stacking, sysctl};
use super::capture::{Capture, Record, shown};

const LAYOUTS: [Layout; 6] = [
    Layout::FREEBSD,
    Layout::FREEBSD_LIST,
    Layout::FREEBSD_I386,
    Layout::FREEBSD_I386_LIST,
    Layout::NETBSD,
    Layout::OPENBSD,
];

#[test]
fn prefix_of_a_message_is_refused() {
    for capture in Capture::all() {
        for Record {
            bytes,
            layout,
            label,
            ..
        } in &capture.records
        {
            for len in 0..bytes.len() {
                let prefix = Message::split(&bytes[..len], layout);
                assert!(
                    prefix.is_err(),
                    "{} {label}: {len} of {bytes:02x?}",
                    capture.name
                );
            }
        }
    }
}

/// Even if the length in the frame is that of the prefix, no interface or address is misread.
#[test]
fn shortened_entry_of_a_list_is_refused_or_loses_only_padding() {
    for capture in Capture::all() {
        let is_list = |record: &&Record| record.label.starts_with("NET_RT_IFLIST");
        let links = capture
            .records
            .iter()
            .filter(is_list)
            .filter(|record| record.kind != 12);
        for Record {
            bytes,
            layout,
            label,
            ..
        } in links
        {
            let whole = link_list::parse(bytes, layout).unwrap();
            for len in 0..bytes.len() {
                let mut prefix = bytes[..len].to_vec();
                if let Some(frame) = prefix.get_mut(..2) {
                    frame.copy_from_slice(&u16::try_from(len).unwrap().to_ne_bytes());
                }
                match link_list::parse(&prefix, layout) {
                    Ok(links) if len == 0 => assert!(links.is_empty()),
                    Ok(links) => assert_eq!(links, whole, "{} {label} {len}", capture.name),
                    Err(_) => {}
                }
            }
        }
    }
}

/// Returns the offsets of all bytes between the socket addresses of a message of a list.
fn padding(record: &Record) -> Vec<usize> {
    let (message, _) = Message::split(&record.bytes, &record.layout).unwrap();
    let mut offset = message.header().len();
    let mut padding = Vec::new();
    let end = offset
        + message
            .socket_addresses(&record.layout)
            .unwrap()
            .padded_len();
    while offset < end {
        let len = usize::from(record.bytes[offset]);
        // The first byte of an empty address is its length.
        let step = len.max(1).next_multiple_of(record.layout.alignment);
        padding.extend((offset + len.max(1))..(offset + step).min(record.bytes.len()));
        offset += step;
    }
    padding.extend(end..record.bytes.len());
    padding
}

#[test]
fn padding_does_not_matter() {
    for capture in Capture::all() {
        let mut padded = 0;
        for group in capture
            .records
            .chunk_by(|a, b| (&a.label, &a.context) == (&b.label, &b.context))
        {
            if !group[0].label.starts_with("NET_RT_IFLIST") {
                continue;
            }
            let list = |records: &[Record]| {
                let bytes: Vec<u8> = records
                    .iter()
                    .flat_map(|record| record.bytes.clone())
                    .collect();
                link_list::parse(&bytes, &records[0].layout).unwrap()
            };
            let expected = list(group);
            for value in [0x00, 0x1c, 0xff] {
                let mut group = group.to_vec();
                for record in &mut group {
                    for offset in padding(record) {
                        record.bytes[offset] = value;
                        padded += 1;
                    }
                }
                assert_eq!(
                    list(&group),
                    expected,
                    "{} {}",
                    capture.name,
                    group[0].label
                );
            }
        }
        assert!(padded > 1000, "{}", capture.name);
    }
}

fn decode_everything(bytes: &[u8]) {
    for layout in LAYOUTS {
        let mut rest = bytes;
        while let Ok((message, next)) = Message::split(rest, &layout) {
            assert!(next.len() < rest.len());
            let _ = message.socket_addresses(&layout);
            rest = next;
        }
        for link in link_list::parse(bytes, &layout).unwrap_or_default() {
            assert!(link.addresses.iter().all(|address| address.prefix <= 128));
            let _ = shown(&link);
        }
        let mut digest = Digest::new(&layout);
        digest.add(bytes);
        let _ = digest.needs_snapshot();
    }
    let _ = stacking::lagg_ports(bytes);
    let _ = stacking::bridge_members(bytes);
    let _ = stacking::vlan_parent(bytes);
    let _ = sysctl::text(bytes);
    let _ = sysctl::number(bytes);
    let _ = sysctl::vif_number(bytes);
    let _ = Driver::parse(bytes);
    let _ = sysctl::is_xen(bytes);
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        decode_everything(&bytes);
    }
}

#[test]
fn changed_bytes_are_decoded_without_a_panic() {
    for capture in Capture::all() {
        for record in capture.records.iter().step_by(7) {
            let mut bytes = record.bytes.clone();
            for offset in 0..bytes.len() {
                for value in [0, 1, 0x7f, 0xff] {
                    let original = std::mem::replace(&mut bytes[offset], value);
                    let _ = link_list::parse(&bytes, &record.layout);
                    bytes[offset] = original;
                }
            }
        }
    }
}
