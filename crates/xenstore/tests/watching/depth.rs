//! Watches of a depth, over servers and transports that can limit it and that cannot. The
//! conformance suite tests what they have in common, with all clients and real servers.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use xenstore::embedded::{Fault, Model, Server, Store, StoreChannel, Toolstack};
use xenstore::protocol::Capabilities;
use xenstore::wire::{Decoder, MessageKind};
use xenstore::{Channel, Client, Depth, ErrorCode, Features, Nodes, SharedClient};

use crate::{GUEST, MODELS, store};

/// Maximum time for anything that happens soon.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Kinds and payloads of sent requests.
type Sent = Arc<Mutex<Vec<(MessageKind, Vec<u8>)>>>;

/// A channel to a store that may carry no depth, like the device of a kernel, and that records
/// requests.
struct TestChannel {
    inner: StoreChannel,
    carries_depth: bool,
    sent: Sent,
}

impl TestChannel {
    fn new(store: &Arc<Mutex<Store>>, carries_depth: bool) -> Self {
        TestChannel {
            inner: StoreChannel::new(store.clone(), GUEST),
            carries_depth,
            sent: Arc::default(),
        }
    }
}

impl Channel for TestChannel {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.watch_depth = self.carries_depth;
        capabilities
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut decoder = Decoder::default();
        decoder.extend(bytes);
        while let Some(request) = decoder.next_message().unwrap() {
            let mut sent = self.sent.lock().unwrap();
            sent.push((request.kind, request.payload));
        }
        self.inner.send(bytes)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.receive(buffer)
    }
}

/// Returns the paths of the events that have arrived.
fn event_paths<C: Channel>(client: &mut Client<C>) -> Vec<String> {
    let mut paths = Vec::new();
    while let Some(event) = client.next_watch_event(None).unwrap() {
        paths.push(event.path.to_string());
    }
    paths
}

#[test]
fn watch_of_a_depth_has_the_same_events_everywhere() {
    let changes = ["data/a/b/c", "data/a/b", "data/a", "data"];
    let depths: [(_, &[&str]); 4] = [
        (Depth::NODE, &["data"]),
        (Depth::CHILDREN, &["data/a", "data"]),
        (Depth::levels(2), &["data/a/b", "data/a", "data"]),
        (Depth::levels(u32::MAX), &changes),
    ];
    for (model, carries_depth) in MODELS
        .into_iter()
        .flat_map(|model| [(model, true), (model, false)])
    {
        let store = store(model);
        let mut client = Client::with_channel(TestChannel::new(&store, carries_depth));
        for path in changes {
            client.write(path, "").unwrap();
        }
        for (depth, expected) in depths {
            let case = format!("{model:?} {carries_depth} {depth:?}");
            let watch = client.watch_to("data", depth).unwrap();
            assert_eq!(event_paths(&mut client), ["data"], "{case}");
            for path in changes {
                client.write(path, "").unwrap();
            }
            assert_eq!(event_paths(&mut client), expected, "{case}");
            client.unwatch(watch).unwrap();
        }

        // The removal of a node above concerns the watched node itself.
        client.watch_to("data/a/b", Depth::NODE).unwrap();
        event_paths(&mut client);
        client.remove("data/a").unwrap();
        assert_eq!(event_paths(&mut client), ["data/a/b"], "{model:?}");
    }
}

#[test]
fn server_limits_the_depth_if_server_and_transport_can() {
    let (feature, watch) = (MessageKind::GET_FEATURE, MessageKind::WATCH);
    let question = [(feature, &b"\0"[..])];
    // C xenstored refuses the first form of the question to a guest.
    let questions = [(feature, &b"\0"[..]), (feature, b"")];
    let plain = [(watch, &b"data\x001\0"[..]), (watch, b"data\x002\0")];
    let limited = [
        (watch, &b"data\x001\x001\0"[..]),
        (watch, b"data\x002\x000\0"),
    ];
    for (model, carries_depth, expected) in [
        (
            Model::CXenstored4_22,
            true,
            [&questions[..], &limited].concat(),
        ),
        (Model::CXenstored4_22, false, plain.to_vec()),
        (
            Model::CXenstored4_17,
            true,
            [&question[..], &plain].concat(),
        ),
        (Model::CXenstored4_17, false, plain.to_vec()),
    ] {
        let store = store(model);
        let channel = TestChannel::new(&store, carries_depth);
        let sent = channel.sent.clone();
        let mut client = Client::with_channel(channel);
        client.watch_to("data", Depth::CHILDREN).unwrap();
        client.watch_to("data", Depth::NODE).unwrap();
        let sent = sent.lock().unwrap();
        let sent: Vec<_> = sent
            .iter()
            .map(|(kind, payload)| (*kind, payload.as_slice()))
            .collect();
        assert_eq!(sent, expected, "{model:?} {carries_depth}");
    }
}

#[test]
fn client_limits_the_depth_if_the_question_fails() {
    let store = store(Model::CXenstored4_22);
    let fault = Fault::refuse(ErrorCode::EIO).of_kind(MessageKind::GET_FEATURE);
    store.lock().unwrap().inject(fault);
    let mut client = Client::with_channel(StoreChannel::new(store.clone(), GUEST));
    client.features().unwrap_err();
    client.watch_to("data", Depth::CHILDREN).unwrap();
    for path in ["data/a/b", "data/a"] {
        client.write(path, "").unwrap();
    }
    let mut paths = Vec::new();
    while let Some(event) = client.next_watch_event(None).unwrap() {
        paths.push(event.path.to_string());
    }
    paths.dedup();
    assert_eq!(paths, ["data", "data/a"]);
}

#[test]
fn watch_without_a_depth_sends_one_request() {
    let store = store(Model::CXenstored4_22);
    let mut client = Client::with_channel(StoreChannel::new(store.clone(), GUEST));
    client.watch("data").unwrap();
    assert_eq!(store.lock().unwrap().request_count(GUEST), 1);
}

#[test]
fn shared_client_limits_the_depth() {
    for model in MODELS {
        let mut store = Store::with_model(model);
        store.introduce_guest(GUEST, Toolstack::Xapi);
        let server = Server::new(store).spawn().unwrap();
        let client = Client::new(server.connect(GUEST).unwrap().into());
        let client = SharedClient::new(client).unwrap();
        let has_depth = model == Model::CXenstored4_22;
        let features = client.features().unwrap();
        assert_eq!(features.contains(Features::WATCH_DEPTH), has_depth);
        client.watch_to("data", Depth::CHILDREN).unwrap();
        for path in ["data/a/b", "data/a"] {
            (&client).write(path, "").unwrap();
        }
        let next = || {
            client
                .next_watch_event(Some(TIMEOUT))
                .unwrap()
                .unwrap()
                .path
        };
        assert_eq!([next(), next()].map(String::from), ["data", "data/a"]);
    }
}
