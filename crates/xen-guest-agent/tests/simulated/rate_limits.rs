//! Rate limits and timeouts.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use xenstore::ErrorCode;
use xenstore::embedded::Toolstack;
use xenstore::wire::MessageKind;

use crate::harness::{DOMAIN, Harness, guest, meaning};
use crate::log;
use crate::server_faults::Refusal;
use crate::virtual_functions::{FUNCTION, with_function};

const ONE_MS: Duration = Duration::from_millis(1);

/// Publishes until the rate limit delays the next change.
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
    assert_eq!(last, 21, "more than twenty at once");
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
fn resume_is_not_rate_limited() {
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

    // Later changes are limited.
    harness.set_address(50);
    harness.settle();
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.21")
    );
}

/// More rounds of requests would delay the publication, because each waits for the host.
#[test]
fn resume_costs_one_resynchronisation_and_one_round_of_writes() {
    let mut harness = Harness::new(Toolstack::Xapi);
    exhaust(&mut harness);
    let (nodes, events) = (harness.nodes(), harness.agent.events());
    for node in ["attr", "data", "feature"] {
        harness.remove(node);
    }
    harness.store().introduce_guest(DOMAIN, Toolstack::Xapi);
    harness.store().resume(DOMAIN);
    harness.store().keep_requests(true);
    harness.server.process();
    harness.settle();
    let requests = harness.take_requests();

    let writes: Vec<_> = requests
        .iter()
        .skip_while(|(kind, _)| *kind != MessageKind::WRITE)
        .collect();
    assert!(
        writes.iter().all(|(kind, _)| *kind == MessageKind::WRITE),
        "{requests:#?}"
    );
    let paths: BTreeSet<_> = writes.iter().map(|(_, path)| path).collect();
    assert_eq!(paths.len(), writes.len(), "{requests:#?}");
    assert_eq!(harness.nodes().len(), nodes.len());
    assert_eq!((writes.len(), requests.len() - writes.len()), (18, 7));
    assert_eq!(harness.agent.events(), events + 1, "more than one round");
}

#[test]
fn first_publication_and_resume_use_no_rate_limit_tokens() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.now += Duration::from_secs(1000);
    harness.store().resume(DOMAIN);
    harness.server.process();
    harness.settle();

    // Although all nodes are correct, the domain is another one and is announced.
    assert_eq!(
        harness.read("data/updated").as_deref(),
        Some("Thu Jan  1 00:18:20 1970")
    );
    exhaust(&mut harness);
    harness.pass(Duration::from_secs(1));

    // A publication that finds all nodes correct is not counted either.
    harness.restart();
    exhaust(&mut harness);
}

#[test]
fn reads_caused_by_foreign_writes_are_rate_limited() {
    let mut harness = Harness::new(Toolstack::Xapi);
    exhaust(&mut harness);
    let reads = harness.requests(MessageKind::READ);
    harness.remove("attr/vif/0/name");
    harness.server.process();
    harness.settle();
    assert_eq!(harness.requests(MessageKind::READ), reads);
    harness.pass(Duration::from_secs(1));
    assert_eq!(harness.read("attr/vif/0/name").as_deref(), Some("eth0"));

    // A read counts even if nothing has to be written.
    harness.agent.update(|guest| {
        guest.memory = None;
        true
    });
    harness.pass(Duration::from_secs(60));
    for _ in 0..20 {
        harness.agent.compare();
        harness.settle();
    }
    let reads = harness.requests(MessageKind::READ);
    harness.agent.compare();
    harness.settle();
    assert_eq!(
        (
            harness.requests(MessageKind::READ),
            harness.agent.is_published()
        ),
        (reads, false)
    );
    assert_eq!(
        harness.agent.deadline(),
        Some(harness.now + Duration::from_millis(200))
    );
    harness.pass(Duration::from_millis(200));
    assert!(harness.requests(MessageKind::READ) > reads);
}

#[test]
fn changes_without_effect_are_rate_limited() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.pass(Duration::from_secs(10));
    let mut changes = 0;
    while harness
        .agent
        .deadline()
        .is_none_or(|deadline| deadline <= harness.now)
    {
        harness.agent.update(|_| true);
        harness.settle();
        changes += 1;
    }
    assert_eq!(changes, 21, "more than twenty at once");
    harness.pass(Duration::from_millis(200));
    assert!(harness.agent.is_published());
}

#[test]
fn missing_own_event_causes_resync_after_2_s() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.pass(Duration::from_secs(10));
    harness.drop_events(true);
    harness.set_address(7);
    harness.settle();
    harness.drop_events(false);
    let reads = harness.requests(MessageKind::READ);
    assert_eq!(
        harness.agent.deadline(),
        Some(harness.now + Duration::from_secs(2))
    );
    harness.pass(Duration::from_millis(1999));
    assert_eq!(harness.requests(MessageKind::READ), reads);
    harness.pass(ONE_MS);
    let reads_after_timeout = harness.requests(MessageKind::READ);
    assert!(reads_after_timeout > reads);
    assert_eq!(harness.agent.deadline(), None);

    // The agent no longer waits for the event.
    harness.remove("attr/vif/0/ipv4/0");
    harness.server.process();
    harness.settle();
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.7")
    );
}

#[test]
fn unresponsive_server_is_disconnected_after_a_minute() {
    let minute = Duration::from_secs(60);
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.pass(minute);
    harness.hold_replies(true);
    harness.set_address(7);
    harness.settle();
    assert_eq!(harness.agent.deadline(), Some(harness.now + minute));
    harness.pass(minute / 2);

    // An event is no reply.
    harness.write("attr/vif/0/name", "theirs");
    harness.settle();
    assert_eq!(harness.agent.deadline(), Some(harness.now + minute / 2));
    let date = SystemTime::UNIX_EPOCH;
    harness.now += Duration::from_millis(29_999);
    harness.agent.advance(harness.now, date);
    assert!(harness.agent.connection().is_some());
    harness.now += ONE_MS;
    harness.agent.advance(harness.now, date);
    assert!(harness.agent.connection().is_none());

    // The next connection has a minute, too.
    harness.now = harness.agent.deadline().unwrap();
    harness.connect();
    assert_eq!(harness.agent.deadline(), Some(harness.now + minute));
    assert!(
        harness.agent.nodes().count() > 10,
        "the known state was forgotten"
    );
    harness.hold_replies(false);
    harness.settle();
    assert!(harness.agent.is_published());
    assert_eq!(harness.agent.deadline(), None);
}

#[test]
fn changes_are_published_after_pending_requests() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.hold_replies(true);
    harness.set_address(7);
    harness.settle();
    let (writes, silence) = (
        harness.requests(MessageKind::WRITE),
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
        (
            harness.requests(MessageKind::WRITE),
            harness.agent.deadline()
        ),
        (writes, Some(silence))
    );
    harness.hold_replies(false);
    harness.settle();
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.8")
    );
    assert_eq!(harness.read("data/host_name_dns").as_deref(), Some("web2"));
    assert!(harness.agent.is_published());
}

#[test]
fn publication_waits_for_virtual_functions() {
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
        .filter(|request| request.kind == MessageKind::WRITE)
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
    harness.hold_replies(true);
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
    harness.hold_replies(false);
    harness.settle();
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.7")
    );
}

#[test]
fn unreadable_virtual_function_is_read_at_the_next_comparison() {
    let mut harness = with_function(Toolstack::Xapi);
    harness
        .server
        .store_mut()
        .write(format!("{FUNCTION}/mac"), "02:00:00:00:00:09")
        .unwrap();
    let path = "xenserver/device/net-sriov-vf/4/mac";
    harness.set_refusals([Refusal::of(None, path, ErrorCode::EIO)]);
    harness.connect();
    harness.clear_refusals();
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

#[test]
fn rate_limit_publishes_the_final_state() {
    let mut harness = Harness::new(Toolstack::Xapi);
    let writes = harness.requests(MessageKind::WRITE);
    for millisecond in 0..10_000_u32 {
        harness.set_address(u8::try_from(millisecond % 250).unwrap());
        harness.pass(Duration::from_millis(1));
    }
    harness.set_address(250);
    harness.pass(Duration::from_secs(1));
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.250")
    );

    // A changed address in its slot takes one write, because its prefix stays.
    let publications = harness.requests(MessageKind::WRITE) - writes;
    assert!(
        (50..=80).contains(&publications),
        "{publications} publications"
    );
}

#[test]
fn storm_of_resume_events_is_rate_limited() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.pass(Duration::from_secs(60));
    log::take();
    let (domain, requests) = (harness.domain, harness.all_requests());

    for _ in 0..1000 {
        harness.store().resume(domain);
        harness.server.process();
        harness.pass(Duration::from_millis(10));
    }
    // Twenty at once, five per second, and one per second beyond the limit.
    let (lines, requests) = (log::take().len(), harness.all_requests() - requests);
    assert!((10..=100).contains(&lines), "{lines} lines in ten seconds");
    assert!(requests < 100 * 40, "{requests} requests in ten seconds");

    harness.set_address(7);
    harness.pass(Duration::from_secs(2));
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.7")
    );
}

#[test]
fn resynchronisation_of_a_huge_tree_is_bounded() {
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
    for directory in 0..50 {
        for node in 0..700 {
            harness.write(&format!("attr/vif/{directory}/{node}"), "x");
        }
    }
    harness.connect();
    harness.pass(Duration::from_secs(1));
    assert!(!harness.agent.is_published());
    let problem = harness.agent.problem().unwrap_or_default();
    assert!(
        problem.contains("the owned nodes need more than"),
        "{problem}"
    );

    harness.remove("attr/vif");
    harness.pass(Duration::from_secs(60));
    assert_eq!(
        meaning(&harness.published()),
        meaning(&harness.expected(&[].into()))
    );
}
