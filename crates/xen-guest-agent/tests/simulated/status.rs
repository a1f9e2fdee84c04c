//! Status of the agent.

use std::io::Write;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, SystemTime};

use xenstore::embedded::Toolstack;
use xenstore::wire::{self, MessageKind};
use xenstore::{Connection, DomId, Transport};

use crate::harness::{DOMAIN, Harness, guest};

#[test]
fn resumes_and_disconnects_are_counted() {
    let mut harness = Harness::new(Toolstack::Xapi);
    let start = harness.agent.events();
    assert!(start > 0 && harness.agent.is_published());
    assert_eq!(
        (harness.agent.problem(), harness.agent.domain_id()),
        (None, Some(DOMAIN))
    );
    harness.set_address(7);
    harness.settle();
    assert_eq!(harness.agent.events(), start + 1);
    harness.agent.compare();
    assert!(!harness.agent.is_published(), "the comparison is pending");
    harness.settle();
    assert!(harness.agent.is_published());
    let before = harness.agent.events();
    harness.disconnect_after(0);
    harness.agent.compare();
    harness.settle();
    assert_eq!(harness.agent.events(), before + 1);
    assert!(harness.agent.problem().is_some() && !harness.agent.is_published());
    harness.pass(Duration::from_secs(1));
    assert!(harness.agent.is_published());
    // The reconnect delay starts from the beginning.
    harness.disconnect_after(0);
    harness.agent.compare();
    harness.settle();
    assert_eq!(
        harness.agent.deadline(),
        Some(harness.now + Duration::from_secs(1))
    );
}

#[test]
fn domain_id_changes_after_migration() {
    let mut harness = Harness::new(Toolstack::Xapi);
    let migrated = DomId::new(6);
    harness.store().introduce_guest(migrated, Toolstack::Xapi);
    harness.server.migrate(DOMAIN, migrated);
    harness.domain = migrated;
    harness.settle();
    assert_eq!(
        (harness.agent.resumes(), harness.agent.domain_id()),
        (1, Some(migrated))
    );
}

#[test]
fn device_that_rejects_every_request_is_not_retried() {
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
    // Every send on this device fails, but the connection stays.
    let device = Transport::from_device(UnixDatagram::unbound().unwrap().into(), "a device");
    harness
        .agent
        .connect(Ok(Connection::new(device)), harness.now);
    harness.agent.advance(harness.now, SystemTime::UNIX_EPOCH);
    assert!(harness.agent.connection().is_some());
    assert!(harness.unpublished().count() > 10 && harness.agent.is_published());
    assert_eq!(harness.agent.deadline(), None);
}

#[test]
fn disconnect_is_counted_once() {
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
    let (stream, mut server) = UnixStream::pair().unwrap();
    stream.set_nonblocking(true).unwrap();
    harness
        .agent
        .connect(Ok(Connection::new(stream.into())), harness.now);
    // A resume, which triggers a request, and an invalid reply.
    let mut bytes = Vec::new();
    for _ in 0..2 {
        wire::encode(
            MessageKind::WATCH_EVENT,
            0,
            0,
            b"domid\0domid\0",
            &mut bytes,
        )
        .unwrap();
    }
    bytes.extend([0xff; 16]);
    server.write_all(&bytes).unwrap();
    harness.agent.on_readable(harness.now);
    assert_eq!((harness.agent.events(), harness.agent.resumes()), (1, 1));
    assert_eq!(
        harness.agent.deadline(),
        Some(harness.now + Duration::from_secs(1))
    );
}

#[test]
fn announcement_survives_two_disconnects() {
    for second in 0..30 {
        let mut harness = Harness::new(Toolstack::Xapi);
        harness.agent.update(|guest| {
            guest.kernel = "6.2.0".to_owned();
            true
        });
        // The distribution is written, but not announced.
        harness.disconnect_after(1);
        harness.settle();
        harness.disconnect_after(second);
        harness.pass(Duration::from_secs(1));
        harness.cancel_disconnect();
        harness.pass(Duration::from_secs(5));
        assert_eq!(harness.read("data/os_uname").as_deref(), Some("6.2.0"));
        assert_ne!(
            harness.read("data/updated").as_deref(),
            Some("Thu Jan  1 00:01:40 1970"),
            "{second}"
        );
    }
}
