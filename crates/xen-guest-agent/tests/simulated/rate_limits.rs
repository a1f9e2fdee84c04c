//! What waits, what does not, and for how long.

use std::time::{Duration, SystemTime};

use xenstore::embedded::{Refusal, Toolstack};
use xenstore::wire::Kind;
use xenstore::{ErrorCode, Path};

use crate::harness::{DOMAIN, Harness};
use crate::{FUNCTION, with_function};

const MOMENT: Duration = Duration::from_millis(1);

/// Publishes until the limit holds the next one back.
fn exhaust(harness: &mut Harness) {
    let mut last = 0;
    while harness
        .agent
        .deadline()
        .is_none_or(|deadline| deadline <= harness.now)
    {
        last += 1;
        harness.set_address(last);
        harness.settle();
    }
    assert_eq!(last, 21, "twenty at once");
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.20")
    );
    assert_eq!(
        harness.agent.deadline(),
        Some(harness.now + Duration::from_millis(200))
    );
}

#[test]
fn after_a_resume_nothing_is_held_back() {
    let mut harness = Harness::new(Toolstack::Xapi);
    exhaust(&mut harness);
    for node in ["attr", "data"] {
        harness.remove(node);
    }
    harness.store().introduce_guest(DOMAIN, Toolstack::Xapi);
    harness.store().resume(DOMAIN);
    harness.server.process();
    harness.settle();
    assert_eq!(
        (harness.agent.resumes(), harness.agent.is_published()),
        (1, true)
    );
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.21")
    );
    assert_eq!(harness.read("data/os_uname").as_deref(), Some("6.1.0"));
    // But what follows is.
    harness.set_address(50);
    harness.settle();
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.21")
    );
}

#[test]
fn a_first_publication_and_one_after_a_resume_are_not_counted() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.now += Duration::from_secs(1000);
    harness.store().resume(DOMAIN);
    harness.server.process();
    harness.settle();
    // Though all was as it should be, it is another domain that is told of.
    assert_eq!(
        harness.read("data/updated").as_deref(),
        Some("Thu Jan  1 00:18:20 1970")
    );
    exhaust(&mut harness);
    harness.pass(Duration::from_secs(1));
    // Nor is what finds all as it should be.
    harness.restart();
    exhaust(&mut harness);
}

#[test]
fn another_agents_or_programs_work_is_looked_at_with_the_same_limit() {
    let mut harness = Harness::new(Toolstack::Xapi);
    exhaust(&mut harness);
    let reads = harness.requests(Kind::READ);
    harness.remove("attr/vif/0/name");
    harness.server.process();
    harness.settle();
    assert_eq!(harness.requests(Kind::READ), reads);
    harness.pass(Duration::from_secs(1));
    assert_eq!(harness.read("attr/vif/0/name").as_deref(), Some("eth0"));
    // A look counts, though nothing is to be done after it.
    harness.agent.update(|guest| {
        guest.memory = None;
        true
    });
    harness.pass(Duration::from_secs(60));
    for _ in 0..20 {
        harness.agent.compare();
        harness.settle();
    }
    let reads = harness.requests(Kind::READ);
    harness.agent.compare();
    harness.settle();
    assert_eq!(
        (harness.requests(Kind::READ), harness.agent.is_published()),
        (reads, false)
    );
    assert_eq!(
        harness.agent.deadline(),
        Some(harness.now + Duration::from_millis(200))
    );
    harness.pass(Duration::from_millis(200));
    assert!(harness.requests(Kind::READ) > reads);
}

#[test]
fn an_own_event_that_does_not_come_has_the_store_read_after_two_seconds() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.pass(Duration::from_secs(10));
    harness.store().faults.drop_events = true;
    harness.set_address(7);
    harness.settle();
    harness.store().faults.drop_events = false;
    let reads = harness.requests(Kind::READ);
    assert_eq!(
        harness.agent.deadline(),
        Some(harness.now + Duration::from_secs(2))
    );
    harness.pass(Duration::from_millis(1999));
    assert_eq!(harness.requests(Kind::READ), reads);
    harness.pass(MOMENT);
    let looked = harness.requests(Kind::READ);
    assert!(looked > reads);
    assert_eq!(harness.agent.deadline(), None);
    // It is not waited for any more.
    harness.remove("attr/vif/0/ipv4/0");
    harness.server.process();
    harness.settle();
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.7")
    );
}

#[test]
fn a_server_is_given_up_after_a_minute_without_a_word() {
    let minute = Duration::from_secs(60);
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.pass(minute);
    harness.store().faults.hold_replies = true;
    harness.set_address(7);
    harness.settle();
    assert_eq!(harness.agent.deadline(), Some(harness.now + minute));
    harness.pass(minute / 2);
    // An event is a word.
    harness.write("attr/vif/0/name", "theirs");
    harness.settle();
    assert_eq!(harness.agent.deadline(), Some(harness.now + minute));
    let date = SystemTime::UNIX_EPOCH;
    harness.now += Duration::from_millis(59_999);
    harness.agent.advance(harness.now, date);
    assert!(harness.agent.connection().is_some());
    harness.now += MOMENT;
    harness.agent.advance(harness.now, date);
    assert!(harness.agent.connection().is_none());
    // The next one has a minute, too.
    harness.now = harness.agent.deadline().unwrap();
    harness.connect();
    assert_eq!(harness.agent.deadline(), Some(harness.now + minute));
    assert!(
        harness.agent.nodes().count() > 10,
        "what is known is forgotten"
    );
    harness.store().faults.hold_replies = false;
    harness.settle();
    assert!(harness.agent.is_published());
    assert_eq!(harness.agent.deadline(), None);
}

#[test]
fn what_is_news_is_published_once_nothing_is_under_way() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.store().faults.hold_replies = true;
    harness.set_address(7);
    harness.settle();
    let (writes, silence) = (
        harness.requests(Kind::WRITE),
        harness.now + Duration::from_secs(60),
    );
    assert!(!harness.agent.is_published());
    harness.agent.update(|guest| {
        guest.host_name = Some("web2".to_owned());
        true
    });
    harness.set_address(8);
    harness.settle();
    assert_eq!(
        (harness.requests(Kind::WRITE), harness.agent.deadline()),
        (writes, Some(silence))
    );
    harness.store().faults.hold_replies = false;
    harness.settle();
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.8")
    );
    assert_eq!(harness.read("data/host_name_dns").as_deref(), Some("web2"));
    assert!(harness.agent.is_published());
}

#[test]
fn nothing_is_published_before_the_virtual_functions_are_known() {
    let mut harness = with_function(Toolstack::Xapi);
    harness
        .server
        .store_mut()
        .write(format!("{FUNCTION}/mac"), "02:00:00:00:00:09")
        .unwrap();
    harness.store().keep_requests(true);
    harness.connect();
    let requests = harness.store().take_requests();
    let written: Vec<_> = requests
        .iter()
        .filter(|request| request.kind == Kind::WRITE)
        .collect();
    let place = |node: &str| {
        written
            .iter()
            .position(|request| request.path.ends_with(node))
            .unwrap()
    };
    assert!(
        place("net-sriov-vf/4/ipv4/0") < place("attr/vif/0/name"),
        "{written:?}"
    );
    harness.pass(Duration::from_secs(60));
    harness.store().faults.hold_replies = true;
    harness
        .server
        .store_mut()
        .write(format!("{FUNCTION}/mac"), "02:00:00:00:00:08")
        .unwrap();
    harness.set_address(7);
    harness.server.process();
    harness.agent.on_readable(harness.now);
    harness.settle();
    assert_eq!(
        harness.agent.deadline(),
        Some(harness.now + Duration::from_secs(60))
    );
    harness.store().faults.hold_replies = false;
    harness.settle();
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.7")
    );
}

#[test]
fn a_virtual_function_that_could_not_be_read_is_with_the_next_comparison() {
    let mut harness = with_function(Toolstack::Xapi);
    harness
        .server
        .store_mut()
        .write(format!("{FUNCTION}/mac"), "02:00:00:00:00:09")
        .unwrap();
    let path = Path::new("xenserver/device/net-sriov-vf/4/mac").unwrap();
    harness.store().faults.refuse = vec![Refusal {
        domain: DOMAIN,
        kind: None,
        path,
        code: ErrorCode::EIO,
    }];
    harness.connect();
    harness.store().faults.refuse.clear();
    harness.pass(Duration::from_secs(10));
    assert_eq!(harness.read("xenserver/attr/net-sriov-vf/4/ipv4/0"), None);
    harness.agent.compare();
    harness.settle();
    assert_eq!(
        harness
            .read("xenserver/attr/net-sriov-vf/4/ipv4/0")
            .as_deref(),
        Some("10.0.9.1")
    );
}
