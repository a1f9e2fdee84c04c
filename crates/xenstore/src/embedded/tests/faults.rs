//! Injected faults.

use super::*;
use crate::path::Path;

#[test]
fn refuse_replies_with_the_given_error() {
    let (mut store, host, guest) = guest(Toolstack::Libxl);
    let refusal = |kind, path: &str, code| Refusal {
        domain: DomId::new(5),
        kind,
        path: Path::new(path).unwrap(),
        code,
    };
    store.faults.refuse = vec![
        refusal(Some(MessageKind::WRITE), "data/a", ErrorCode::EACCES),
        refusal(None, "attr", ErrorCode::from_name("ENEW")),
    ];
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
    store.faults.refuse.clear();
    assert_eq!(ask(&mut store, guest, MessageKind::WRITE, "data/a\0"), ok());
}

#[test]
fn conflicts_and_nodes_full() {
    let (mut store, _, guest) = guest(Toolstack::Libxl);
    store.faults.conflicts = 2;
    for (commit, expected) in [
        ("T\0", error("EAGAIN")),
        ("F\0", ok()),
        ("T\0", error("EAGAIN")),
        ("T\0", ok()),
    ] {
        let transaction = start(&mut store, guest);
        assert_eq!(
            ask_in(
                &mut store,
                guest,
                transaction,
                MessageKind::TRANSACTION_END,
                commit
            ),
            expected
        );
    }
    store.faults.nodes_full = true;
    assert_eq!(
        ask(&mut store, guest, MessageKind::WRITE, "data/a\0"),
        error("ENOSPC")
    );
    assert_eq!(
        ask(&mut store, guest, MessageKind::WRITE, "data\0value"),
        ok()
    );
    store.faults.nodes_full = false;
    assert_eq!(ask(&mut store, guest, MessageKind::WRITE, "data/a\0"), ok());
}

#[test]
fn drop_after_closes_the_connection() {
    let (mut store, host, guest) = guest(Toolstack::Libxl);
    store.faults.drop_after = Some((DomId::new(5), 1));
    ask(&mut store, host, MessageKind::READ, "name\0").unwrap();
    ask(&mut store, guest, MessageKind::WRITE, "data/a\0").unwrap();
    let payload = b"data/b\0".to_vec();
    store.handle(
        guest,
        &Message {
            kind: MessageKind::WRITE,
            request_id: 1,
            transaction_id: 0,
            payload,
        },
    );
    assert!(!store.is_connected(guest));
    assert_eq!(
        (store.read(format!("{HOME}/data/b")), store.requests(5)),
        (None, 1)
    );
    let again = store.connect(5);
    assert_eq!(ask(&mut store, again, MessageKind::WRITE, "data/b\0"), ok());
}

#[test]
fn hold_replies_delays_replies_but_not_events() {
    let (mut store, _, guest) = guest(Toolstack::Libxl);
    let request = |kind, payload: &str| Message {
        kind,
        request_id: 9,
        transaction_id: 0,
        payload: payload.as_bytes().to_vec(),
    };
    let kinds = |store: &mut Store| {
        store
            .take_output(guest)
            .iter()
            .map(|message| message.kind)
            .collect::<Vec<_>>()
    };
    store.faults.hold_replies = true;
    store.handle(guest, &request(MessageKind::WATCH, "data\0t\0"));
    store.handle(guest, &request(MessageKind::WRITE, "data/x\0"));
    assert_eq!(
        kinds(&mut store),
        [MessageKind::WATCH_EVENT, MessageKind::WATCH_EVENT]
    );
    assert_eq!(store.output_len(guest), None);
    assert!(store.read(format!("{HOME}/data/x")).is_some());
    store.faults.hold_replies = false;
    assert!(store.output_len(guest).is_some());
    store.handle(guest, &request(MessageKind::READ, "data\0"));
    assert_eq!(
        kinds(&mut store),
        [MessageKind::WATCH, MessageKind::WRITE, MessageKind::READ]
    );
}

#[test]
fn watch_replies_without_id() {
    let (mut store, _, guest) = guest(Toolstack::Libxl);
    store.faults.watch_replies_without_id = true;
    for (kind, payload, id) in [
        (MessageKind::WATCH, "data\0t\0", 0),
        (MessageKind::UNWATCH, "data\0t\0", 0),
        (MessageKind::READ, "data\0", 9),
    ] {
        let payload = payload.as_bytes().to_vec();
        store.handle(
            guest,
            &Message {
                kind,
                request_id: 9,
                transaction_id: 0,
                payload,
            },
        );
        let output = store.take_output(guest);
        assert_eq!((output[0].kind, output[0].request_id), (kind, id));
    }
}

#[test]
fn drop_events_fires_no_watch() {
    let (mut store, _, guest) = guest(Toolstack::Libxl);
    ask(&mut store, guest, MessageKind::WATCH, "data\0t\0").unwrap();
    store.take_output(guest);
    for (drop, events) in [(true, 0), (false, 1)] {
        store.faults.drop_events = drop;
        store.write(format!("{HOME}/data/x"), "").unwrap();
        assert_eq!(store.take_output(guest).len(), events);
    }
}
