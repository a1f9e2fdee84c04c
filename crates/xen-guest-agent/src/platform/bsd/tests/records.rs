//! Every single record.

use super::super::digest::Digest;
use super::super::message::{Kind, Message};
use super::capture::{Capture, FREEBSD_12, FREEBSD_13, NETBSD, OPENBSD};

#[test]
fn every_record_is_decoded() {
    for (name, count) in [
        (FREEBSD_12, 2502),
        (FREEBSD_13, 2502),
        (NETBSD, 473),
        (OPENBSD, 1165),
    ] {
        let capture = Capture::read(name);
        assert_eq!(capture.records.len(), count, "{name}");
        for record in &capture.records {
            let context = || format!("{name} {}: {:02x?}", record.label, record.bytes);
            let decoded = Message::split(&record.bytes, &record.layout);
            let (message, rest) = decoded.unwrap_or_else(|error| panic!("{error}: {}", context()));
            assert!(rest.is_empty(), "{}", context());
            assert_eq!(record.kind, record.bytes[3]);
            assert_ne!(message.kind, Kind::Other, "{}", context());
            assert!(message.index <= 21, "{}", context());

            // All bytes are accounted for: at most a padding of the whole record is left.
            let addresses = message.socket_addresses(&record.layout);
            let addresses = addresses.unwrap_or_else(|error| panic!("{error}: {}", context()));
            let len = message.header().len() + addresses.padded_len();
            let is_whole = matches!(
                message.kind,
                Kind::Arrival | Kind::Departure | Kind::Overflow
            );
            if !is_whole && record.source != "written" {
                assert!(record.bytes.len().abs_diff(len) < 8, "{len} {}", context());
            }
        }
    }
}

/// Numbers of each kind that the kernels' own socket sent.
#[test]
fn kinds_of_events_are_told_apart() {
    let count = |name, kind: Kind| {
        let events = Capture::read(name)
            .records
            .iter()
            .filter(|record| record.is_event());
        events
            .filter(|record| {
                let (message, _) = Message::split(&record.bytes, &record.layout).unwrap();
                message.kind == kind
            })
            .count()
    };
    let kinds = [
        Kind::Route,
        Kind::Link,
        Kind::Address,
        Kind::AddressRemoved,
        Kind::Multicast,
        Kind::Arrival,
        Kind::Departure,
        Kind::Overflow,
    ];
    let counts = |name| kinds.map(|kind| count(name, kind));
    assert_eq!(counts(FREEBSD_12), [228, 195, 91, 90, 203, 37, 27, 0]);
    assert_eq!(counts(NETBSD), [55, 18, 60, 14, 0, 10, 5, 0]);
    assert_eq!(counts(OPENBSD), [98, 181, 29, 18, 0, 18, 9, 0]);
}

#[test]
fn rename_is_departure_and_arrival_of_one_index() {
    for name in [FREEBSD_12, FREEBSD_13] {
        let records = &Capture::read(name).records;
        let renamed = records
            .iter()
            .filter(|record| record.is_event() && record.label == "ifconfig name tap0 wan0");
        let events: Vec<_> = renamed
            .map(|record| Message::split(&record.bytes, &record.layout).unwrap().0)
            .map(|message| (message.kind, message.index))
            .collect();
        assert_eq!(events, [(Kind::Departure, 4), (Kind::Arrival, 4)]);
    }
}

#[test]
fn routes_need_no_snapshot() {
    for name in [FREEBSD_12, NETBSD, OPENBSD] {
        let capture = Capture::read(name);
        let route = capture
            .records
            .iter()
            .find(|record| record.kind == 1)
            .unwrap();
        let address = capture
            .records
            .iter()
            .find(|record| record.kind == 12)
            .unwrap();
        let mut digest = Digest::new(&route.layout);
        digest.add(&route.bytes);
        assert!(!digest.needs_snapshot(), "{name}");
        digest.add(&address.bytes);
        assert!(digest.needs_snapshot(), "{name}");
    }
}

#[test]
fn messages_that_may_hide_a_loss_need_a_snapshot() {
    let capture = Capture::read(FREEBSD_12);
    let route = capture
        .records
        .iter()
        .find(|record| record.kind == 1)
        .unwrap();
    let mut digest = Digest::new(&route.layout);
    let needed = (1..100).find(|_| {
        digest.add(&route.bytes);
        digest.needs_snapshot()
    });
    assert_eq!(needed, Some(4096 / route.bytes.len() + 1));

    let mut digest = Digest::new(&route.layout);
    digest.add(&route.bytes[..100]);
    assert!(digest.needs_snapshot());
}

/// `RTM_DESYNC` was seen with type 16 and 96 bytes.
#[test]
fn overflow_of_openbsd_needs_a_snapshot() {
    let capture = Capture::read(OPENBSD);
    let mut bytes = vec![0; 96];
    bytes[..6].copy_from_slice(&[96, 0, 5, 16, 96, 0]);
    let layout = capture.records[0].layout;
    let (message, _) = Message::split(&bytes, &layout).unwrap();
    assert_eq!(message.kind, Kind::Overflow);
    let mut digest = Digest::new(&layout);
    digest.add(&bytes);
    assert!(digest.needs_snapshot());
}
