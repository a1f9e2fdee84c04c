//! Clients of a hostile or broken server: their errors, and the memory that they allocate at most.
//!
//! Most servers here are threads of this program with one buffer, so that almost all memory is the
//! client's. `HOSTILE_SECONDS` is the duration of the tests with random input.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

use std::collections::BTreeMap;
use std::env;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use tokio::runtime;
use xenstore::wire::{self, Decoder, Message, MessageKind, PAYLOAD_MAX};
use xenstore::{AsyncClient, AsyncNodes, Client, Error, Nodes, Transport};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Runs one test at a time, and asserts that it allocates at most so many bytes at once.
fn within<T>(most: usize, test: impl FnOnce() -> T) -> T {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);

    ALLOCATOR.reset_peak_usage();
    let (before, begin) = (ALLOCATOR.current_usage(), Instant::now());
    let result = test();
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    println!("{} KiB at most, {:?}", peak / KIB, begin.elapsed());
    assert!(
        peak <= most,
        "{peak} bytes allocated at once, {most} allowed"
    );
    result
}

/// Returns a socket for a client, whose server runs `serve` in a thread.
fn server(serve: impl FnOnce(UnixStream) + Send + 'static) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    thread::spawn(move || serve(theirs));
    ours
}

fn random_seconds() -> Duration {
    let seconds = env::var("HOSTILE_SECONDS");
    Duration::from_secs(seconds.map_or(1, |seconds| seconds.parse().expect("a number")))
}

/// Pseudorandom numbers (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn bytes(&mut self, limit: usize) -> Vec<u8> {
        let len = self.below(limit);
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// Replies to each request with what `reply` returns for it, until the client closes.
fn reply_to_all(mut socket: UnixStream, mut reply: impl FnMut(&Message) -> Vec<u8>) {
    let (mut decoder, mut buffer) = (Decoder::default(), [0; 4096]);
    while let Ok(len @ 1..) = socket.read(&mut buffer) {
        decoder.extend(&buffer[..len]);
        let mut replies = Vec::new();
        while let Some(request) = decoder.next_message().unwrap() {
            let payload = reply(&request);
            wire::encode(request.kind, request.request_id, 0, &payload, &mut replies).unwrap();
        }
        if socket.write_all(&replies).is_err() {
            return;
        }
    }
}

/// Sends a reply to WATCH, and then its event without end.
fn flood(mut socket: UnixStream) {
    let mut request = [0; 4096];
    let len = socket.read(&mut request).unwrap();
    let mut decoder = Decoder::default();
    decoder.extend(&request[..len]);
    let watch = decoder.next_message().unwrap().expect("a whole request");
    let mut reply = Vec::new();
    wire::encode(watch.kind, watch.request_id, 0, b"OK\0", &mut reply).unwrap();
    socket.write_all(&reply).unwrap();

    let mut events = Vec::new();
    for _ in 0..100 {
        wire::encode(MessageKind::WATCH_EVENT, 0, 0, &watch.payload, &mut events).unwrap();
    }
    while socket.write_all(&events).is_ok() {}
}

fn kind_of(error: &Error) -> &'static str {
    match error {
        Error::Protocol { .. } => "Protocol",
        Error::Closed { .. } => "Closed",
        Error::Io { .. } => "Io",
        Error::Refused { .. } => "Refused",
        Error::InvalidReply { .. } => "InvalidReply",
        Error::InvalidPath(_) => "InvalidPath",
        error => panic!("unexpected error: {error:?}"),
    }
}

/// Connects again and again to a server that sends what `reply` returns, and then hangs up.
fn call_random(mut reply: impl FnMut(&mut Random) -> Vec<u8>) -> BTreeMap<&'static str, u32> {
    let (mut random, mut results) = (Random(0x9E37_79B9_7F4A_7C15), BTreeMap::new());
    let deadline = Instant::now() + random_seconds();
    while Instant::now() < deadline {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&reply(&mut random)).unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();

        let mut client = Client::new(ours.into());
        let result = match random.below(4) {
            0 => client.read("data").map(drop),
            1 => client.list("data").map(drop),
            2 => client.walk("data").map(drop),
            _ => client.transaction(|transaction| transaction.write("data", "value")),
        };
        let result = result.as_ref().map_or_else(kind_of, |()| "Ok");
        *results.entry(result).or_default() += 1;
    }
    println!("{results:?}");
    results
}

#[test]
fn random_bytes_close_the_connection() {
    let results = within(MIB, || call_random(|random| random.bytes(256)));
    assert!(results["Protocol"] > 100, "{results:?}");
}

#[test]
fn random_messages_have_errors() {
    let kinds = [
        MessageKind::READ,
        MessageKind::DIRECTORY,
        MessageKind::DIRECTORY_PART,
        MessageKind::TRANSACTION_START,
        MessageKind::TRANSACTION_END,
        MessageKind::WRITE,
        MessageKind::WATCH_EVENT,
        MessageKind::ERROR,
    ];
    let payloads: [&[u8]; 6] = [
        b"OK\0",
        b"1\0",
        b"E2BIG\0",
        b"EAGAIN\0",
        b"7\0a\0b\0",
        b"a\0b\0",
    ];
    let results = within(MIB, || {
        call_random(|random| {
            let mut bytes = Vec::new();
            for id in 1..=u32::try_from(random.below(8)).unwrap() {
                let kind = kinds[random.below(kinds.len())];
                let payload = match payloads.get(random.below(9)) {
                    Some(payload) => payload.to_vec(),
                    None => random.bytes(PAYLOAD_MAX),
                };
                wire::encode(kind, id, 0, &payload, &mut bytes).unwrap();
            }
            bytes.truncate(bytes.len() - random.below(4).min(bytes.len()));
            bytes
        })
    });
    for expected in ["Protocol", "Closed", "Refused"] {
        assert!(results[expected] > 10, "{results:?}");
    }
}

#[test]
fn flood_of_events_ends_a_blocking_call() {
    let error = within(64 * MIB, || {
        let mut client = Client::new(server(flood).into());
        client.watch("data").unwrap();
        client.read("data").unwrap_err()
    });
    assert!(matches!(error, Error::EventsNotTaken { .. }), "{error:?}");
}

fn on_tokio<F: Future>(future: F) -> F::Output {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future)
}

#[test]
fn flood_of_events_ends_an_async_connection() {
    let error = within(64 * MIB, || {
        on_tokio(async {
            let client = AsyncClient::new(server(flood).into()).unwrap();
            let _events = client.watch("data").await.unwrap();
            client.read("data").await.unwrap_err()
        })
    });
    assert!(matches!(error, Error::EventsNotTaken { .. }), "{error:?}");
}

#[test]
fn flood_of_unknown_events_delays_no_other_task() {
    let late = within(4 * MIB, || {
        on_tokio(async {
            let client = AsyncClient::new(server(flood).into()).unwrap();
            drop(client.watch("data").await.unwrap());
            let end = Instant::now() + random_seconds();
            let mut late = Vec::new();
            while Instant::now() < end {
                let begin = Instant::now();
                tokio::time::sleep(Duration::from_millis(10)).await;
                late.push(begin.elapsed().saturating_sub(Duration::from_millis(10)));
            }
            late
        })
    });
    println!(
        "{} timers, at most {:?} late",
        late.len(),
        late.iter().max()
    );
    assert!(late.len() > 3, "{late:?}");
}

/// Walks a tree in which each node has these children.
fn walk_endless(children: Vec<u8>) {
    let error = within(24 * MIB, || {
        let reply = move |request: &Message| match request.kind {
            MessageKind::READ => b"a value like others".to_vec(),
            _ => children.clone(),
        };
        let socket = server(move |socket| reply_to_all(socket, reply));
        Client::new(socket.into()).walk("data").unwrap_err()
    });
    println!("{error}");
    assert!(matches!(error, Error::InvalidReply { .. }), "{error:?}");
}

#[test]
fn endless_deep_tree_is_refused() {
    walk_endless(b"a\0b\0".to_vec());
}

#[test]
fn endless_wide_tree_is_refused() {
    let names = (0..PAYLOAD_MAX / 5).flat_map(|number| format!("{number:04}\0").into_bytes());
    walk_endless(names.collect());
}

/// Gives up reads of a server that never replies.
fn give_up(transport: Transport) {
    on_tokio(async {
        let client = AsyncClient::new(transport).unwrap();
        for number in 0..10_000 {
            let mut read = Box::pin(client.read(format!("data/{number}")));
            let started = poll_fn(|context| Poll::Ready(read.as_mut().poll(context).is_pending()));
            assert!(started.await);
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn futures_given_up_leave_nothing_on_a_device() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    within(MIB, || {
        give_up(Transport::from_device(ours.into(), "a device"));
    });
}

/// The socket and the buffer for output take requests until both are full.
#[test]
fn futures_given_up_leave_little_on_a_socket() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    within(4 * MIB, || give_up(ours.into()));
}

#[test]
fn half_a_message_ends_a_call_at_its_time_limit() {
    const LIMIT: Duration = Duration::from_millis(200);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut client = Client::new(ours.into());
    client.set_time_limit(Some(LIMIT));
    let mut message = Vec::new();
    for id in [1, 2] {
        wire::encode(MessageKind::READ, id, 0, b"late\0", &mut message).unwrap();
    }
    let (half, rest) = message.split_at(18);

    within(MIB, || {
        theirs.write_all(half).unwrap();
        let begin = Instant::now();
        let error = client.read("data").unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
        assert!(begin.elapsed() >= LIMIT, "{:?}", begin.elapsed());

        // The connection stays open, and drops the reply that comes late.
        theirs.write_all(rest).unwrap();
        assert_eq!(client.read("data").unwrap(), b"late\0");
    });
}
