//! Injected faults.

use super::*;
use crate::path::Path;

fn path(text: &str) -> Path {
    Path::new(text).unwrap()
}

fn send(store: &mut Store, id: ConnectionId, request_id: u32, kind: MessageKind, payload: &str) {
    store.handle(
        id,
        &Message {
            kind,
            request_id,
            transaction_id: 0,
            payload: payload.as_bytes().to_vec(),
        },
    );
}

/// Returns the request ids of the queued messages. Events have id 0.
fn ids(store: &mut Store, id: ConnectionId) -> Vec<u32> {
    let output = store.take_output(id);
    output.iter().map(|message| message.request_id).collect()
}

#[test]
fn refuse_replies_with_the_given_error() {
    let (mut store, host, guest) = guest(Toolstack::Libxl);
    let denied = Fault::refuse(ErrorCode::EACCES)
        .of(5)
        .of_kind(MessageKind::WRITE)
        .at(path("data/a"));
    store.inject(denied);
    let any_kind = Fault::refuse(ErrorCode::from("ENEW"))
        .of(5)
        .at(path("attr"));
    store.inject(any_kind);
    for (kind, payload, expected) in [
        (MessageKind::WRITE, "data/a\0", error("EACCES")),
        (MessageKind::WRITE, "data/a/b\0", error("EACCES")),
        (MessageKind::WRITE, "data/ab\0", ok()),
        (MessageKind::READ, "data/a\0", error("ENOENT")),
        (MessageKind::READ, "attr\0", error("ENEW")),
        (MessageKind::WATCH, "attr/x\0t\0", error("ENEW")),
        (MessageKind::WRITE, "//\0", error("EINVAL")),
    ] {
        assert_eq!(
            ask(&mut store, guest, kind, payload),
            expected,
            "{kind} {payload:?}"
        );
    }
    assert_eq!(ask(&mut store, host, MessageKind::WRITE, "data/a\0"), ok());
    store.clear_faults();
    assert_eq!(ask(&mut store, guest, MessageKind::WRITE, "data/a\0"), ok());
}

#[test]
fn after_and_times_limit_how_often_a_fault_applies() {
    let (mut store, host, guest) = guest(Toolstack::Libxl);
    let third = Fault::refuse(ErrorCode::EIO)
        .of(5)
        .of_kind(MessageKind::READ)
        .after(2)
        .times(1);
    let third = store.inject(third);
    store.inject(Fault::refuse(ErrorCode::EBUSY).after(8));
    let mut read = |id| ask(&mut store, id, MessageKind::READ, "/local/domain/5/data\0");
    let value = || Ok(Vec::new());
    assert_eq!(
        [guest, host, guest, guest, guest].map(&mut read),
        [value(), value(), value(), error("EIO"), value()]
    );
    assert_eq!(store.times_applied(third), 1);

    // A refused request is no occasion for a later fault.
    let mut read = |id| ask(&mut store, id, MessageKind::READ, "/local/domain/5/data\0");
    assert_eq!(
        [host; 6].map(&mut read),
        [
            value(),
            value(),
            value(),
            value(),
            error("EBUSY"),
            error("EBUSY")
        ]
    );
    store.remove_fault(third);
    store.remove_fault(third);
    assert_eq!(store.times_applied(third), 0);
}

#[test]
fn conflicts_and_nodes_full() {
    let (mut store, host, guest) = guest(Toolstack::Libxl);
    store.inject(Fault::conflict().of(5).times(2));
    for (id, commit, expected) in [
        (guest, "T\0", error("EAGAIN")),
        (host, "T\0", ok()),
        (guest, "F\0", ok()),
        (guest, "T\0", error("EAGAIN")),
        (guest, "T\0", ok()),
    ] {
        let transaction = start(&mut store, id);
        assert_eq!(
            ask_in(
                &mut store,
                id,
                transaction,
                MessageKind::TRANSACTION_END,
                commit
            ),
            expected
        );
    }
    let full = store.inject(Fault::fill_node_quota());
    assert_eq!(
        ask(&mut store, guest, MessageKind::WRITE, "data/a\0"),
        error("ENOSPC")
    );
    assert_eq!(
        ask(&mut store, guest, MessageKind::WRITE, "data\0value"),
        ok()
    );
    assert_eq!(ask(&mut store, host, MessageKind::WRITE, "data/a\0"), ok());
    store.remove_fault(full);
    store.inject(Fault::fill_node_quota().of(6));
    assert_eq!(ask(&mut store, guest, MessageKind::WRITE, "data/a\0"), ok());
}

#[test]
fn disconnect_closes_the_connection() {
    let (mut store, host, guest) = guest(Toolstack::Libxl);
    let fault = store.inject(Fault::disconnect().of(5).after(1).times(1));
    ask(&mut store, host, MessageKind::READ, "name\0").unwrap();
    ask(&mut store, guest, MessageKind::WRITE, "data/a\0").unwrap();
    assert_eq!(store.times_applied(fault), 0);
    send(&mut store, guest, 1, MessageKind::WRITE, "data/b\0");
    assert!(!store.is_connected(guest));
    assert_eq!(store.times_applied(fault), 1);
    assert_eq!(
        (store.read(format!("{HOME}/data/b")), store.request_count(5)),
        (None, 1)
    );
    let again = store.connect(5);
    assert_eq!(ask(&mut store, again, MessageKind::WRITE, "data/b\0"), ok());
}

#[test]
fn hold_replies_delays_replies_but_not_events() {
    let (mut store, host, guest) = guest(Toolstack::Libxl);
    let held = store.inject(Fault::hold_replies().of(5));
    send(&mut store, guest, 1, MessageKind::WATCH, "data\0t\0");
    send(&mut store, guest, 2, MessageKind::WRITE, "data/x\0");
    assert_eq!(ids(&mut store, guest), [0, 0]);
    assert_eq!(store.output_len(guest), None);
    assert!(store.read(format!("{HOME}/data/x")).is_some());
    send(&mut store, host, 1, MessageKind::READ, "name\0");
    assert_eq!(ids(&mut store, host), [1]);
    store.remove_fault(held);
    assert!(store.output_len(guest).is_some());
    send(&mut store, guest, 3, MessageKind::READ, "data\0");
    assert_eq!(ids(&mut store, guest), [1, 2, 3]);

    // The fault that holds a reply is exhausted, but still there.
    let held = store.inject(Fault::hold_replies().times(1));
    send(&mut store, guest, 4, MessageKind::READ, "data\0");
    send(&mut store, guest, 5, MessageKind::READ, "data\0");
    assert_eq!(ids(&mut store, guest), [5]);
    store.remove_fault(held);
    assert_eq!(ids(&mut store, guest), [4]);
}

#[test]
fn delayed_replies_follow_later_messages() {
    let (mut store, _, guest) = guest(Toolstack::Libxl);
    let reads = |delay| Fault::delay_replies(delay).of_kind(MessageKind::READ);
    for (fault, expected) in [
        (reads(0), vec![1, 2, 0, 3, 4, 5]),
        (reads(1), vec![1, 0, 2, 3, 4]),
        (reads(2).times(1), vec![2, 0, 1, 3, 4, 5]),
        (reads(9), vec![0, 3, 4]),
    ] {
        ask(&mut store, guest, MessageKind::WATCH, "data\0t\0").unwrap();
        store.take_output(guest);
        let id = store.inject(fault.clone());
        for (request, kind, payload) in [
            (1, MessageKind::READ, "data\0"),
            (2, MessageKind::READ, "data\0"),
            (3, MessageKind::WRITE, "data/x\0"),
            (4, MessageKind::GET_PERMS, "data\0"),
            (5, MessageKind::READ, "data\0"),
        ] {
            send(&mut store, guest, request, kind, payload);
        }
        assert_eq!(ids(&mut store, guest), expected, "{fault:?}");
        store.remove_fault(id);
        let rest: Vec<_> = [1, 2, 5]
            .into_iter()
            .filter(|id| !expected.contains(id))
            .collect();
        assert_eq!(ids(&mut store, guest), rest, "{fault:?}");
        ask(&mut store, guest, MessageKind::UNWATCH, "data\0t\0").unwrap();
    }
}

#[test]
fn reversed_replies_are_sent_in_groups() {
    let (mut store, _, guest) = guest(Toolstack::Libxl);
    let reversed = store.inject(Fault::reverse_replies(3).of_kind(MessageKind::READ));
    for id in 1..=7 {
        let kind = if id == 2 {
            MessageKind::GET_PERMS
        } else {
            MessageKind::READ
        };
        send(&mut store, guest, id, kind, "data\0");
    }
    assert_eq!(ids(&mut store, guest), [2, 4, 3, 1, 7, 6, 5]);
    send(&mut store, guest, 8, MessageKind::READ, "data\0");
    assert_eq!(ids(&mut store, guest), []);
    store.remove_fault(reversed);
    assert_eq!(ids(&mut store, guest), [8]);
}

#[test]
fn cut_reply_ends_the_connection() {
    let (mut store, host, guest) = guest(Toolstack::Libxl);
    ask(&mut store, guest, MessageKind::WATCH, "data\0t\0").unwrap();
    store.take_output(guest);
    store.inject(Fault::cut_reply(20).of(5).of_kind(MessageKind::READ));
    send(&mut store, guest, 1, MessageKind::WRITE, "data/x\0");
    send(&mut store, guest, 2, MessageKind::READ, "name\0");
    send(
        &mut store,
        guest,
        3,
        MessageKind::WRITE,
        "data/x\0not performed",
    );
    assert_eq!(
        store.read(format!("{HOME}/data/x")),
        Some(b"".as_slice()),
        "a request after the cut reply"
    );
    store.write(format!("{HOME}/data/x"), "no event").unwrap();
    assert!(store.is_connected(guest) && store.last_bytes(guest).is_none());
    assert_eq!(ids(&mut store, guest), [0, 1]);
    assert!(!store.is_connected(guest));
    assert_eq!(
        ask(&mut store, host, MessageKind::READ, "name\0"),
        Ok(b"Domain-0".to_vec())
    );
}

#[test]
fn watch_replies_without_id() {
    let (mut store, _, guest) = guest(Toolstack::Libxl);
    store.inject(Fault::watch_replies_without_id());
    for (kind, payload, id) in [
        (MessageKind::WATCH, "data\0t\0", 0),
        (MessageKind::WATCH, "data\0t\0", 9),
        (MessageKind::UNWATCH, "data\0t\0", 0),
        (MessageKind::READ, "data\0", 9),
    ] {
        send(&mut store, guest, 9, kind, payload);
        let output = store.take_output(guest);
        let is_refused = output[0].kind == MessageKind::ERROR;
        assert_eq!(output[0].request_id, id, "{kind}");
        assert!(is_refused || output[0].kind == kind);
    }
}

#[test]
fn drop_events_fires_no_watch() {
    let (mut store, host, guest) = guest(Toolstack::Libxl);
    for id in [host, guest] {
        let watch = format!("{HOME}/data\0t\0");
        ask(&mut store, id, MessageKind::WATCH, watch).unwrap();
        store.take_output(id);
    }
    let all = Fault::drop_events();
    for (fault, expected) in [
        (Some(all.clone()), [0, 0]),
        (Some(all.clone().of(5)), [1, 0]),
        (Some(all.clone().at(path("/local/domain/5/data/x"))), [0, 0]),
        (Some(all.at(path("/local/domain/5/data/y"))), [1, 1]),
        (None, [1, 1]),
    ] {
        store.clear_faults();
        if let Some(fault) = fault {
            store.inject(fault);
        }
        store.write(format!("{HOME}/data/x"), "").unwrap();
        assert_eq!(
            [host, guest].map(|id| store.take_output(id).len()),
            expected
        );
    }
}
