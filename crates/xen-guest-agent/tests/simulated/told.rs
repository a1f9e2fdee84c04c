//! What the agent tells of itself.

use std::io::Write;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, SystemTime};

use xen_guest_agent::agent::News;
use xenstore::embedded::Toolstack;
use xenstore::wire::{self, Kind};
use xenstore::{Connection, Transport};

use crate::world::{DOMAIN, World, guest};

#[test]
fn what_happens_is_counted() {
    let mut world = World::new(Toolstack::Xapi);
    let start = world.agent.events();
    assert!(start > 0 && world.agent.is_published());
    assert_eq!((world.agent.problem(), world.agent.domain_id()), (None, Some(DOMAIN)));
    world.set_address(7);
    world.settle();
    assert_eq!(world.agent.events(), start + 1);
    world.agent.compare();
    assert!(!world.agent.is_published(), "about to look");
    world.settle();
    assert!(world.agent.is_published());
    let before = world.agent.events();
    world.store().faults.drop_after = Some((DOMAIN, 0));
    world.agent.compare();
    world.settle();
    assert_eq!(world.agent.events(), before + 1);
    assert!(world.agent.problem().is_some() && !world.agent.is_published());
    world.pass(Duration::from_secs(1));
    assert!(world.agent.is_published());
    // The pauses begin anew.
    world.store().faults.drop_after = Some((DOMAIN, 0));
    world.agent.compare();
    world.settle();
    assert_eq!(world.agent.deadline(), Some(world.now + Duration::from_secs(1)));
}

#[test]
fn a_domain_that_moved_has_another_number() {
    let mut world = World::new(Toolstack::Xapi);
    world.store().introduce_guest(DOMAIN + 1, Toolstack::Xapi);
    world.server.migrate(DOMAIN, DOMAIN + 1);
    world.domain += 1;
    world.settle();
    assert_eq!((world.agent.resumes(), world.agent.domain_id()), (1, Some(DOMAIN + 1)));
}

#[test]
fn a_system_that_takes_no_request_is_left_in_peace() {
    let mut world = World::unconnected(Toolstack::Xapi, guest());
    // Sending anything on it fails, and ends nothing.
    let device = Transport::from_device(UnixDatagram::unbound().unwrap().into(), "a device");
    world.agent.connect(Ok(Connection::new(device)), world.now);
    world.agent.advance(world.now, SystemTime::UNIX_EPOCH);
    assert!(world.agent.connection().is_some());
    assert!(world.agent.left_out().count() > 10 && world.agent.is_published());
    assert_eq!(world.agent.deadline(), None);
}

#[test]
fn one_end_is_one_loss() {
    let mut world = World::unconnected(Toolstack::Xapi, guest());
    let (stream, mut server) = UnixStream::pair().unwrap();
    stream.set_nonblocking(true).unwrap();
    world.agent.connect(Ok(Connection::new(stream.into())), world.now);
    // A resume, which asks for an answer, and what no server says.
    let mut bytes = Vec::new();
    for _ in 0..2 {
        wire::encode(Kind::WATCH_EVENT, 0, 0, b"domid\0domid\0", &mut bytes).unwrap();
    }
    bytes.extend([0xff; 16]);
    server.write_all(&bytes).unwrap();
    world.agent.on_readable(world.now);
    assert_eq!((world.agent.events(), world.agent.resumes()), (1, 1));
    assert_eq!(world.agent.deadline(), Some(world.now + Duration::from_secs(1)));
}

#[test]
fn an_announcement_is_not_forgotten_over_two_losses() {
    for second in 0..30 {
        let mut world = World::new(Toolstack::Xapi);
        world.agent.guest.kernel = "6.2.0".to_owned();
        world.agent.on_news(News::All);
        // The system is written, and that it was is not.
        world.store().faults.drop_after = Some((DOMAIN, 1));
        world.settle();
        world.store().faults.drop_after = Some((DOMAIN, second));
        world.pass(Duration::from_secs(1));
        world.store().faults.drop_after = None;
        world.pass(Duration::from_secs(5));
        assert_eq!(world.read("data/os_uname").as_deref(), Some("6.2.0"));
        assert_ne!(world.read("data/updated").as_deref(), Some("Thu Jan  1 00:01:40 1970"), "{second}");
    }
}
