//! Lost connections and unresponsive servers.

use std::time::Duration;

use xenstore::embedded::{Server, Store, Toolstack};
use xenstore::wire::MessageKind;

use crate::harness::{DOMAIN, Harness, guest};
use crate::log;
use crate::restart::guest_with_stale_nodes;

#[test]
fn connection_lost_at_any_request_is_recovered() {
    let mut whole = guest_with_stale_nodes();
    whole.connect();
    let (expected, requests) = (whole.published(), whole.all_requests());
    for after in 0..=requests {
        let mut harness = guest_with_stale_nodes();
        harness.disconnect_after(after);
        harness.connect();
        harness.pass(Duration::from_secs(3));
        let mut published = harness.published();
        published.insert("data/updated".to_owned(), expected["data/updated"].clone());
        assert_eq!(published, expected, "after {after} requests");
        assert!(
            harness.requests(MessageKind::WATCH) <= 2 * 6,
            "more than eight watches per connection"
        );
    }
}

#[test]
fn late_reply_is_awaited_until_the_timeout() {
    log::take();
    for is_device in [false, true] {
        let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
        harness.is_device = is_device;
        harness.connect();
        harness.hold_replies(true);
        harness.set_address(7);
        harness.pass(Duration::from_secs(50));
        harness.hold_replies(false);
        harness.settle();
        assert_eq!(
            (harness.server.client_count(), log::take().len()),
            (1, 0),
            "a late reply"
        );
        let reads = harness.requests(MessageKind::READ);
        harness.pass(Duration::from_secs(5));
        assert_eq!(
            harness.requests(MessageKind::READ),
            reads,
            "an own event was handled as a foreign one"
        );

        // A device has only this way to read.
        harness.hold_replies(true);
        harness.set_address(8);
        harness.settle();
        let watches = harness.requests(MessageKind::WATCH);
        harness.pass(Duration::from_secs(61));
        let lines = log::take();
        assert_eq!(lines.len(), usize::from(!is_device), "{lines:?}");
        harness.hold_replies(false);
        harness.pass(Duration::from_secs(10));
        assert_eq!(harness.requests(MessageKind::WATCH) > watches, !is_device);
        assert_eq!(
            harness.read("attr/vif/0/ipv4/0").as_deref(),
            Some("10.0.1.8")
        );
        log::take();
    }
}

#[test]
fn unavailable_server_is_logged_once() {
    log::take();
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.disconnect_after(0);
    harness.set_address(7);
    harness.settle();
    for _ in 0..20 {
        harness.now = harness.agent.deadline().unwrap();
        harness
            .agent
            .connect(Err(xenstore::Error::no_server("no socket")), harness.now);
    }
    let lines = log::take();
    assert!(
        lines.len() == 1 && lines[0].contains("trying again"),
        "{lines:?}"
    );
    harness.pass(Duration::from_secs(120));
    let lines = log::take();
    assert!(
        lines.len() == 1 && lines[0].contains("connected"),
        "{lines:?}"
    );
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.7")
    );
}

#[test]
fn changes_before_a_disconnect_are_announced() {
    for after in 0..10 {
        let mut harness = Harness::new(Toolstack::Xapi);
        harness.store().keep_requests(true);
        harness.disconnect_after(after);
        harness.agent.update(|guest| {
            guest.kernel = "6.2.0".to_owned();
            true
        });
        harness.settle();
        harness.pass(Duration::from_secs(3));
        let requests = harness.store().take_requests();
        let writes: Vec<_> = requests
            .iter()
            .filter(|request| request.kind == MessageKind::WRITE)
            .collect();
        let last = |node: &str| {
            writes
                .iter()
                .rposition(|request| request.path.ends_with(node))
        };
        assert!(
            last("data/os_uname") < last("attr/PVAddons/Installed"),
            "after {after}: {writes:?}"
        );
    }
}

#[test]
fn reconnect_delay_doubles_up_to_a_minute() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.server = Server::new({
        let mut store = Store::new();
        store.introduce_guest(DOMAIN, Toolstack::Xapi);
        store
    });
    harness.agent.on_readable(harness.now);
    assert!(harness.agent.connection().is_none() && !harness.agent.is_published());
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let deadline = harness.agent.deadline().unwrap();
        pauses.push(deadline.saturating_sub(harness.now).as_secs());
        assert!(!harness.agent.wants_connection(harness.now));
        harness.now = deadline;
        assert!(harness.agent.wants_connection(harness.now));
        harness
            .agent
            .connect(Err(xenstore::Error::no_server("no socket")), harness.now);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    harness.now = harness.agent.deadline().unwrap();
    harness.connect();
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.0.1")
    );
}
