//! Log records of the library. A process has only one logger, so that this file has only one test.

#![allow(
    clippy::unwrap_used,
    reason = "clippy does not recognise helpers of integration tests"
)]

use std::sync::Mutex;

use log::{Level, LevelFilter, Log, Metadata, Record};
use xenstore::embedded::{Server, Store, Toolstack};
use xenstore::{Client, Connection, Error, Nodes, Request};

/// A logger that keeps all records.
struct Capture(Mutex<Vec<(Level, String)>>);

static CAPTURE: Capture = Capture(Mutex::new(Vec::new()));

impl Log for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        assert_eq!(record.target(), "xenstore");
        let message = record.args().to_string();
        self.0.lock().unwrap().push((record.level(), message));
    }

    fn flush(&self) {}
}

/// Returns the records since the last call.
fn take() -> Vec<(Level, String)> {
    std::mem::take(&mut *CAPTURE.0.lock().unwrap())
}

fn records(expected: &[(Level, &str)]) -> Vec<(Level, String)> {
    expected
        .iter()
        .map(|(level, message)| (*level, (*message).to_owned()))
        .collect()
}

#[test]
fn connections_requests_replies_and_events_are_logged() {
    log::set_logger(&CAPTURE).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let mut store = Store::new();
    store.introduce_guest(5, Toolstack::Xapi);
    let server = Server::new(store).spawn().unwrap();

    let mut client = Client::new(server.connect(5).unwrap().into());
    assert_eq!(take(), records(&[(Level::Debug, "connected to a socket")]));

    client.write("data/secret", "hunter2").unwrap();
    client.read("data/secret").unwrap();
    client.read("data/missing").unwrap_err();
    client.watch("data").unwrap();
    client.next_watch_event(None).unwrap();
    client.call(Request::domain_path(5)).unwrap();
    assert_eq!(
        take(),
        records(&[
            (Level::Trace, "request 1: WRITE data/secret (19 bytes)"),
            (Level::Trace, "reply 1: 3 bytes"),
            (Level::Trace, "request 2: READ data/secret (12 bytes)"),
            (Level::Trace, "reply 2: 7 bytes"),
            (Level::Trace, "request 3: READ data/missing (13 bytes)"),
            (
                Level::Trace,
                "reply 3: READ data/missing: the node does not exist (ENOENT)"
            ),
            (Level::Trace, "request 4: WATCH data (7 bytes)"),
            (Level::Trace, "reply 4: 3 bytes"),
            (Level::Trace, "event: data (token 1)"),
            (Level::Trace, "request 5: GET_DOMAIN_PATH (2 bytes)"),
            (Level::Trace, "reply 5: 16 bytes"),
        ])
    );

    drop(client);
    let closed = (
        Level::Debug,
        "disconnected from a socket: closed by this program",
    );
    assert_eq!(take(), records(&[closed]));

    let mut connection = Connection::new(server.connect(5).unwrap().into());
    let watch = Request::watch("data", "a token\n").unwrap();
    connection.submit(watch).unwrap();
    connection.flush().unwrap();
    for _ in 0..2 {
        while connection.next_event().is_none() {
            let _ = connection.on_readable().unwrap();
        }
    }
    server.with(|server| server.store_mut().release(5));
    let error = connection.on_readable().unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    drop(connection);
    let reason = format!("disconnected from a socket: {error}");
    assert_eq!(
        take(),
        records(&[
            (Level::Debug, "connected to a socket"),
            (Level::Trace, "request 1: WATCH data (14 bytes)"),
            (Level::Trace, "reply 1: 3 bytes"),
            (Level::Trace, "event: data (token a token\\u000a)"),
            (Level::Debug, &reason)
        ])
    );

    log::set_max_level(LevelFilter::Debug);
    let mut client = Client::new(server.connect(0).unwrap().into());
    client.read("domid").unwrap();
    assert_eq!(take(), records(&[(Level::Debug, "connected to a socket")]));
}
