//! What waits, what does not, and for how long.

use std::time::{Duration, SystemTime};

use xen_guest_agent::agent::News;
use xenstore::embedded::{Refusal, Toolstack};
use xenstore::wire::Kind;
use xenstore::{ErrorCode, Path};

use crate::world::{DOMAIN, World};
use crate::{FUNCTION, with_function};

const MOMENT: Duration = Duration::from_millis(1);

/// Publishes until the limit holds the next one back.
fn exhaust(world: &mut World) {
    let mut last = 0;
    while world.agent.deadline().is_none_or(|deadline| deadline <= world.now) {
        last += 1;
        world.set_address(last);
        world.settle();
    }
    assert_eq!(last, 21, "twenty at once");
    assert_eq!(world.read("attr/vif/0/ipv4/0").as_deref(), Some("10.0.1.20"));
    assert_eq!(world.agent.deadline(), Some(world.now + Duration::from_millis(200)));
}

#[test]
fn after_a_resume_nothing_is_held_back() {
    let mut world = World::new(Toolstack::Xapi);
    exhaust(&mut world);
    for node in ["attr", "data"] {
        world.remove(node);
    }
    world.store().introduce_guest(DOMAIN, Toolstack::Xapi);
    world.store().resume(DOMAIN);
    world.server.process();
    world.settle();
    assert_eq!((world.agent.resumes(), world.agent.is_published()), (1, true));
    assert_eq!(world.read("attr/vif/0/ipv4/0").as_deref(), Some("10.0.1.21"));
    assert_eq!(world.read("data/os_uname").as_deref(), Some("6.1.0"));
    // But what follows is.
    world.set_address(50);
    world.settle();
    assert_eq!(world.read("attr/vif/0/ipv4/0").as_deref(), Some("10.0.1.21"));
}

#[test]
fn a_first_publication_and_one_after_a_resume_are_not_counted() {
    let mut world = World::new(Toolstack::Xapi);
    world.now += Duration::from_secs(1000);
    world.store().resume(DOMAIN);
    world.server.process();
    world.settle();
    // Though all was as it should be, it is another domain that is told of.
    assert_eq!(world.read("data/updated").as_deref(), Some("Thu Jan  1 00:18:20 1970"));
    exhaust(&mut world);
    world.pass(Duration::from_secs(1));
    // Nor is what finds all as it should be.
    world.restart();
    exhaust(&mut world);
}

#[test]
fn another_agents_or_programs_work_is_looked_at_with_the_same_limit() {
    let mut world = World::new(Toolstack::Xapi);
    exhaust(&mut world);
    let reads = world.requests(Kind::READ);
    world.remove("attr/vif/0/name");
    world.server.process();
    world.settle();
    assert_eq!(world.requests(Kind::READ), reads);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.read("attr/vif/0/name").as_deref(), Some("eth0"));
    // A look counts, though nothing is to be done after it.
    world.agent.guest.memory = None;
    world.pass(Duration::from_secs(60));
    for _ in 0..20 {
        world.agent.compare();
        world.settle();
    }
    let reads = world.requests(Kind::READ);
    world.agent.compare();
    world.settle();
    assert_eq!((world.requests(Kind::READ), world.agent.is_published()), (reads, false));
    assert_eq!(world.agent.deadline(), Some(world.now + Duration::from_millis(200)));
    world.pass(Duration::from_millis(200));
    assert!(world.requests(Kind::READ) > reads);
}

#[test]
fn an_own_event_that_does_not_come_has_the_store_read_after_two_seconds() {
    let mut world = World::new(Toolstack::Xapi);
    world.pass(Duration::from_secs(10));
    world.store().faults.drop_events = true;
    world.set_address(7);
    world.settle();
    world.store().faults.drop_events = false;
    let reads = world.requests(Kind::READ);
    assert_eq!(world.agent.deadline(), Some(world.now + Duration::from_secs(2)));
    world.pass(Duration::from_millis(1999));
    assert_eq!(world.requests(Kind::READ), reads);
    world.pass(MOMENT);
    let looked = world.requests(Kind::READ);
    assert!(looked > reads);
    assert_eq!(world.agent.deadline(), None);
    // It is not waited for any more.
    world.remove("attr/vif/0/ipv4/0");
    world.server.process();
    world.settle();
    assert_eq!(world.read("attr/vif/0/ipv4/0").as_deref(), Some("10.0.1.7"));
}

#[test]
fn a_server_is_given_up_after_a_minute_without_a_word() {
    let minute = Duration::from_secs(60);
    let mut world = World::new(Toolstack::Xapi);
    world.pass(minute);
    world.store().faults.hold_replies = true;
    world.set_address(7);
    world.settle();
    assert_eq!(world.agent.deadline(), Some(world.now + minute));
    world.pass(minute / 2);
    // An event is a word.
    world.write("attr/vif/0/name", "theirs");
    world.settle();
    assert_eq!(world.agent.deadline(), Some(world.now + minute));
    let date = SystemTime::UNIX_EPOCH;
    world.now += Duration::from_millis(59_999);
    world.agent.advance(world.now, date);
    assert!(world.agent.connection().is_some());
    world.now += MOMENT;
    world.agent.advance(world.now, date);
    assert!(world.agent.connection().is_none());
    // The next one has a minute, too.
    world.now = world.agent.deadline().unwrap();
    world.connect();
    assert_eq!(world.agent.deadline(), Some(world.now + minute));
    assert!(world.agent.nodes().count() > 10, "what is known is forgotten");
    world.store().faults.hold_replies = false;
    world.settle();
    assert!(world.agent.is_published());
    assert_eq!(world.agent.deadline(), None);
}

#[test]
fn what_is_news_is_published_once_nothing_is_under_way() {
    let mut world = World::new(Toolstack::Xapi);
    world.store().faults.hold_replies = true;
    world.set_address(7);
    world.settle();
    let (writes, silence) = (world.requests(Kind::WRITE), world.now + Duration::from_secs(60));
    assert!(!world.agent.is_published());
    world.agent.guest.host_name = Some("web2".to_owned());
    world.agent.on_news(News::All);
    world.set_address(8);
    world.settle();
    assert_eq!((world.requests(Kind::WRITE), world.agent.deadline()), (writes, Some(silence)));
    world.store().faults.hold_replies = false;
    world.settle();
    assert_eq!(world.read("attr/vif/0/ipv4/0").as_deref(), Some("10.0.1.8"));
    assert_eq!(world.read("data/host_name_dns").as_deref(), Some("web2"));
    assert!(world.agent.is_published());
}

#[test]
fn nothing_is_published_before_the_virtual_functions_are_known() {
    let mut world = with_function(Toolstack::Xapi);
    world.server.store_mut().write(format!("{FUNCTION}/mac"), "02:00:00:00:00:09").unwrap();
    world.store().keep_requests(true);
    world.connect();
    let requests = world.store().take_requests();
    let written: Vec<_> = requests.iter().filter(|request| request.kind == Kind::WRITE).collect();
    let place = |node: &str| written.iter().position(|request| request.path.ends_with(node)).unwrap();
    assert!(place("net-sriov-vf/4/ipv4/0") < place("attr/vif/0/name"), "{written:?}");
    world.pass(Duration::from_secs(60));
    world.store().faults.hold_replies = true;
    world.server.store_mut().write(format!("{FUNCTION}/mac"), "02:00:00:00:00:08").unwrap();
    world.set_address(7);
    world.server.process();
    world.agent.on_readable(world.now);
    world.settle();
    assert_eq!(world.agent.deadline(), Some(world.now + Duration::from_secs(60)));
    world.store().faults.hold_replies = false;
    world.settle();
    assert_eq!(world.read("attr/vif/0/ipv4/0").as_deref(), Some("10.0.1.7"));
}

#[test]
fn a_virtual_function_that_could_not_be_read_is_with_the_next_comparison() {
    let mut world = with_function(Toolstack::Xapi);
    world.server.store_mut().write(format!("{FUNCTION}/mac"), "02:00:00:00:00:09").unwrap();
    let path = Path::new("xenserver/device/net-sriov-vf/4/mac").unwrap();
    world.store().faults.refuse = vec![Refusal { domain: DOMAIN, kind: None, path, code: ErrorCode::EIO }];
    world.connect();
    world.store().faults.refuse.clear();
    world.pass(Duration::from_secs(10));
    assert_eq!(world.read("xenserver/attr/net-sriov-vf/4/ipv4/0"), None);
    world.agent.compare();
    world.settle();
    assert_eq!(world.read("xenserver/attr/net-sriov-vf/4/ipv4/0").as_deref(), Some("10.0.9.1"));
}
