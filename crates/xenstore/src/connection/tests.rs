use std::os::unix::net::UnixStream;

use super::*;
use crate::error::ErrorCode;
use crate::event::WatchEvent;
use crate::path::Path;
use crate::peer::Peer;
use crate::request::TransactionId;
use crate::wire::MessageKind;

fn socket() -> (Connection, Peer) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Connection::new(ours.into()), Peer::new(theirs))
}

fn device() -> (Connection, Peer) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (
        Connection::new(Transport::from_device(ours.into(), "a device")),
        Peer::new(theirs),
    )
}

fn submit<T>(
    connection: &mut Connection,
    requests: impl IntoIterator<Item = Request<T>>,
) -> Vec<RequestId> {
    let ids = requests
        .into_iter()
        .map(|request| connection.submit(request).unwrap().id())
        .collect();
    connection.flush().unwrap();
    ids
}

fn reply(connection: &mut Connection) -> (RequestId, Result<Vec<u8>>) {
    match connection.next_event() {
        Some(Event::Reply { id, result }) => (id, result),
        other => panic!("expected a reply: {other:?}"),
    }
}

#[test]
fn socket_has_many_requests_in_flight() {
    let (mut connection, mut peer) = socket();
    let ids = submit(
        &mut connection,
        ["a", "b", "c"].map(|path| Request::read(path).unwrap()),
    );
    let sent: Vec<_> = (0..3).map(|_| peer.receive()).collect();
    assert_eq!(
        sent.iter()
            .map(|message| &message.payload[..])
            .collect::<Vec<_>>(),
        [b"a\0", b"b\0", b"c\0"]
    );
    // A server may reply out of order.
    for index in [2, 0, 1] {
        peer.send(
            MessageKind::READ,
            sent[index].request_id,
            sent[index].payload.as_slice(),
        );
    }
    let _ = connection.on_readable().unwrap();
    let got: Vec<_> = (0..3)
        .map(|_| reply(&mut connection))
        .map(|(id, result)| (id, result.unwrap()))
        .collect();
    assert_eq!(
        got,
        [
            (ids[2], b"c\0".to_vec()),
            (ids[0], b"a\0".to_vec()),
            (ids[1], b"b\0".to_vec())
        ]
    );
    assert!(!connection.is_waiting());
}

#[test]
fn device_has_one_request_in_flight() {
    let (mut connection, mut peer) = device();
    let ids = submit(
        &mut connection,
        (0..20).map(|number| Request::read(format!("n/{number}")).unwrap()),
    );
    for (number, id) in ids.into_iter().enumerate() {
        let message = peer.receive();
        assert_eq!(message.payload, format!("n/{number}\0").as_bytes());
        connection.flush().unwrap();
        assert!(
            !peer.has_more(),
            "a second request before the reply to the first"
        );
        // A watch event is not a reply.
        peer.send(MessageKind::WATCH_EVENT, 99, b"data\0token\0");
        let _ = connection.on_readable().unwrap();
        assert!(matches!(connection.next_event(), Some(Event::Watch(_))));
        assert!(!peer.has_more(), "the watch event was treated as a reply");
        peer.send(MessageKind::READ, message.request_id, b"value");
        let _ = connection.on_readable().unwrap();
        let (of, result) = reply(&mut connection);
        assert_eq!((of, result.unwrap()), (id, b"value".to_vec()));
    }
}

#[test]
fn reply_to_watch_with_id_0_is_accepted() {
    let (mut connection, mut peer) = device();
    let ids = submit(&mut connection, [Request::watch("data", "t").unwrap()]);
    peer.receive();
    peer.send(MessageKind::WATCH_EVENT, 0, b"data\0t\0");
    peer.send(MessageKind::WATCH, 0, b"OK\0");
    let _ = connection.on_readable().unwrap();
    let event = WatchEvent {
        path: Path::new("data").unwrap(),
        token: "t".to_owned(),
    };
    assert!(matches!(connection.next_event(), Some(Event::Watch(got)) if got == event));
    assert_eq!(reply(&mut connection).0, ids[0]);
}

#[test]
fn long_list_is_fetched_in_parts_and_restarted_after_a_change() {
    let (mut connection, mut peer) = socket();
    let ids = submit(&mut connection, [Request::list("d").unwrap()]);
    let mut exchange = |expected: (MessageKind, &[u8]), kind, payload: &[u8]| {
        let message = peer.receive();
        assert_eq!((message.kind, message.payload.as_slice()), expected);
        peer.send(kind, message.request_id, payload);
        let _ = connection.on_readable().unwrap();
    };
    exchange(
        (MessageKind::DIRECTORY, b"d\0"),
        MessageKind::ERROR,
        b"E2BIG\0",
    );
    exchange(
        (MessageKind::DIRECTORY_PART, b"d\x000\0"),
        MessageKind::DIRECTORY_PART,
        b"7\0a\0b\0",
    );
    exchange(
        (MessageKind::DIRECTORY_PART, b"d\x004\0"),
        MessageKind::DIRECTORY_PART,
        b"8\0d\0",
    );
    exchange(
        (MessageKind::DIRECTORY_PART, b"d\x000\0"),
        MessageKind::DIRECTORY_PART,
        b"8\0b\0c\0",
    );
    exchange(
        (MessageKind::DIRECTORY_PART, b"d\x004\0"),
        MessageKind::DIRECTORY_PART,
        b"8\0d\0\0",
    );
    let (id, names) = reply(&mut connection);
    assert_eq!(
        (id, names.unwrap().as_slice()),
        (ids[0], b"b\0c\0d\0".as_slice())
    );
}

#[test]
fn long_list_without_directory_part_is_e2big() {
    let (mut connection, mut peer) = socket();
    submit(&mut connection, [Request::list("d").unwrap()]);
    for error in [b"E2BIG\0".as_slice(), b"ENOSYS\0"] {
        let message = peer.receive();
        peer.send(MessageKind::ERROR, message.request_id, error);
        let _ = connection.on_readable().unwrap();
    }
    assert_eq!(
        reply(&mut connection).1.unwrap_err().to_string(),
        "DIRECTORY d: the list of children is longer than a reply (E2BIG)"
    );
}

#[test]
fn features_and_quota_names_are_asked_for_again_without_payload() {
    for kind in [MessageKind::GET_FEATURE, MessageKind::GET_QUOTA] {
        for (first, second) in [
            ("ENOSYS", None),
            ("EINVAL", Some("EINVAL")),
            ("EACCES", Some("EACCES")),
            ("EACCES", Some("")),
        ] {
            let (mut connection, mut peer) = socket();
            let request = match kind {
                MessageKind::GET_FEATURE => Request::features().untyped(),
                _ => Request::quota_names().untyped(),
            };
            submit(&mut connection, [request]);
            let asked = peer.receive();
            assert_eq!((asked.kind, asked.payload), (kind, b"\0".to_vec()));
            let code = format!("{first}\0");
            peer.send(MessageKind::ERROR, asked.request_id, code.as_bytes());
            let _ = connection.on_readable().unwrap();
            connection.flush().unwrap();

            if let Some(second) = second {
                let asked = peer.receive();
                assert_eq!((asked.kind, asked.payload), (kind, Vec::new()));
                let (kind, payload) = match second {
                    "" => (kind, "14\0".to_owned()),
                    code => (MessageKind::ERROR, format!("{code}\0")),
                };
                peer.send(kind, asked.request_id, payload.as_bytes());
                let _ = connection.on_readable().unwrap();
            }
            let (_, result) = reply(&mut connection);
            match second {
                Some("") => assert_eq!(result.unwrap(), b"14\0"),
                code => assert_eq!(
                    result.unwrap_err().code().map(ErrorCode::name),
                    code.or(Some(first))
                ),
            }
        }
    }
}

#[test]
fn list_limit_can_be_lowered() {
    for (limit, is_accepted) in [(4, true), (3, false)] {
        let (mut connection, mut peer) = socket();
        connection.set_list_limit(limit);
        submit(&mut connection, [Request::list("d").unwrap()]);
        let id = peer.receive().request_id;
        peer.send(MessageKind::ERROR, id, b"E2BIG\0");
        let _ = connection.on_readable().unwrap();
        peer.receive();
        peer.send(MessageKind::DIRECTORY_PART, id, b"7\0bc\0\0");
        let _ = connection.on_readable().unwrap();
        match reply(&mut connection).1 {
            Ok(names) => assert!(is_accepted && names == b"bc\0"),
            Err(error) => assert!(
                !is_accepted && error.to_string().ends_with("list of more than 3 bytes"),
                "{error}"
            ),
        }
    }
}

#[test]
fn endless_list_is_rejected_without_closing_the_connection() {
    let (mut connection, mut peer) = socket();
    submit(&mut connection, [Request::list("d").unwrap()]);
    let id = peer.receive().request_id;
    peer.send(MessageKind::ERROR, id, b"E2BIG\0");
    let part = [b"7\0".as_slice(), &b"n\0".repeat(2000)].concat();
    let refused = loop {
        let _ = connection.on_readable().unwrap();
        if let Some(event) = connection.next_event() {
            break event;
        }
        peer.receive();
        peer.send(MessageKind::DIRECTORY_PART, id, &part);
    };
    assert!(
        matches!(
            refused,
            Event::Reply {
                result: Err(Error::InvalidReply { .. }),
                ..
            }
        ),
        "{refused:?}"
    );
    submit(&mut connection, [Request::read("a").unwrap()]);
    assert_eq!(peer.receive().kind, MessageKind::READ);
}

#[test]
fn raw_list_too_long_for_parts_is_rejected_without_closing_the_connection() {
    let (mut connection, mut peer) = socket();
    submit(
        &mut connection,
        [Request::raw(MessageKind::DIRECTORY, vec![b'x'; 4096]).unwrap()],
    );
    let id = peer.receive().request_id;
    peer.send(MessageKind::ERROR, id, b"E2BIG\0");
    let _ = connection.on_readable().unwrap();
    assert!(matches!(
        reply(&mut connection).1,
        Err(Error::InvalidRequest { .. })
    ));
    submit(&mut connection, [Request::read("a").unwrap()]);
    assert_eq!(peer.receive().kind, MessageKind::READ);
}

#[test]
fn every_call_after_a_fatal_error_returns_that_error() {
    type Action = fn(&mut Peer);
    let cases: [(Action, &str); 7] = [
        (
            |peer| peer.send(MessageKind::READ, 77, b""),
            "violated the protocol: reply READ without a request (id 77)",
        ),
        (
            |peer| peer.send(MessageKind::WRITE, 1, b"OK\0"),
            "violated the protocol: reply of type WRITE to READ",
        ),
        (
            |peer| peer.send(MessageKind::WATCH_EVENT, 0, b"no such path\0t\0"),
            "violated the protocol: watch event: ",
        ),
        (
            |peer| peer.send(MessageKind::WATCH_EVENT, 0, b""),
            "violated the protocol: watch event without a path and a token",
        ),
        (
            |peer| peer.send(MessageKind::WATCH_EVENT, 0, b"a\0\xff\0"),
            "watch event without a path and a token",
        ),
        (
            |peer| peer.write(&[0xff; 16]),
            "violated the protocol: the payload is too long: 4294967295 bytes",
        ),
        (Peer::hang_up, "closed the connection"),
    ];
    for (action, cause) in cases {
        for (mut connection, mut peer) in [socket(), device()] {
            submit(
                &mut connection,
                ["a", "b"].map(|path| Request::read(path).unwrap()),
            );
            peer.send(MessageKind::WATCH_EVENT, 0, b"data\0before\0");
            action(&mut peer);
            for id in [77, 1, 2] {
                peer.send_if_open(MessageKind::WATCH_EVENT, 0, b"data\0after\0");
                peer.send_if_open(MessageKind::READ, id, b"");
            }
            let first = loop {
                if let Err(error) = connection.on_readable() {
                    break error;
                }
            };
            let message = first.to_string();
            assert!(
                first.is_fatal() && message.contains(cause),
                "{message}, not {cause}"
            );
            assert!(
                !connection.is_waiting() && !connection.wants_write(),
                "{cause}"
            );
            for _ in 0..2 {
                let later = [
                    connection.on_readable().unwrap_err(),
                    connection.flush().unwrap_err(),
                    connection.submit(Request::read("a").unwrap()).unwrap_err(),
                ];
                assert!(
                    later
                        .iter()
                        .all(|error| error.is_fatal() && error.to_string() == message),
                    "{later:?}"
                );
            }
            // Events from before the error are returned, and later ones are not.
            assert!(
                matches!(connection.next_event(), Some(Event::Watch(event)) if event.token == "before")
            );
            assert!(connection.next_event().is_none(), "{cause}");
        }
    }
}

#[test]
fn malformed_transaction_id_closes_the_connection() {
    let (mut connection, mut peer) = socket();
    submit(&mut connection, [Request::begin()]);
    let id = peer.receive().request_id;
    peer.send(MessageKind::TRANSACTION_START, id, b"x\0");
    let error = connection.on_readable().unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
    assert_eq!(
        connection.flush().unwrap_err().to_string(),
        error.to_string()
    );
}

#[test]
fn send_error_closes_the_connection() {
    for (mut connection, mut peer) in [socket(), device()] {
        peer.close();
        connection.submit(Request::read("a").unwrap()).unwrap();
        let message = connection.flush().unwrap_err().to_string();
        assert!(message.starts_with("write to a "), "{message}");
        assert_eq!(connection.on_readable().unwrap_err().to_string(), message);
        assert_eq!(
            connection
                .submit(Request::read("a").unwrap())
                .unwrap_err()
                .to_string(),
            message
        );
    }
}

#[test]
fn disallowed_request_is_rejected_without_closing_the_connection() {
    for ((mut connection, mut peer), limit) in [(socket(), 4096), (device(), 4080)] {
        let refused = connection
            .submit(Request::write("a", vec![b'x'; limit - 1]).unwrap())
            .unwrap_err();
        assert!(matches!(refused, Error::InvalidRequest { .. }) && !refused.is_fatal());
        let foreign = Request::read("a").unwrap().within(TransactionId(5));
        assert!(matches!(
            connection.submit(foreign),
            Err(Error::InvalidRequest { .. })
        ));
        assert_eq!(
            connection.submit(Request::reset_watches()).is_ok(),
            connection.channel().capabilities().pipelining
        );
        submit(
            &mut connection,
            [Request::write("a", vec![b'x'; limit - 2]).unwrap()],
        );
        if connection.channel().capabilities().pipelining {
            assert_eq!(peer.receive().kind, MessageKind::RESET_WATCHES);
        }
        assert_eq!(peer.receive().payload.len(), limit);
    }
}
