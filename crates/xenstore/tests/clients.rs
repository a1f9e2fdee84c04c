//! Behaviour of the blocking clients and of the core beyond the conformance suite, which runs the
//! calls that all clients have in common against real servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code"
)]

use std::error::Error as StdError;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use xenstore::embedded::{Fault, Server, ServerHandle, Store, StoreChannel, Toolstack};
use xenstore::wire::{self, Decoder, MessageKind};
use xenstore::{
    Client, Connection, DomId, Error, ErrorCode, Event, Nodes, Received, Request, RequestId,
    SharedClient, Transport, WatchEvent,
};

/// Maximum time for anything that happens soon.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Time limit of a client whose server does not reply.
const TIME_LIMIT: Duration = Duration::from_millis(50);

const GUEST: DomId = DomId::new(5);

fn server() -> ServerHandle {
    let mut store = Store::new();
    store.introduce_guest(GUEST, Toolstack::Xapi);
    Server::new(store).spawn().unwrap()
}

fn transport(server: &ServerHandle) -> Transport {
    server.connect(GUEST).unwrap().into()
}

/// Returns the number of open transactions of the guest.
fn open_transactions(server: &ServerHandle) -> usize {
    server.with(|server| server.store().transaction_count(GUEST))
}

#[test]
fn edge_triggered_mio_loop_receives_all_replies() {
    const REQUESTS: u32 = 1000;
    let server = server();
    let mut connection = Connection::new(transport(&server));
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(4));
    let fd = connection.as_fd().as_raw_fd();
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry()
        .register(&mut SourceFd(&fd), Token(0), interest)
        .unwrap();
    for number in 0..REQUESTS {
        let request = Request::write(format!("data/{}", number % 10), number.to_string());
        connection.submit(request.unwrap()).unwrap();
    }

    connection.flush().unwrap();
    let mut replies = 0;
    while replies < REQUESTS {
        poll.poll(&mut events, Some(TIMEOUT)).unwrap();
        assert!(!events.is_empty(), "stalled after {replies} replies");
        connection.flush().unwrap();
        while connection.on_readable().unwrap() == Received::MaybeMore {
            while let Some(event) = connection.next_event() {
                let Event::Reply { result, .. } = event else {
                    panic!("{event:?}");
                };
                result.unwrap();
                replies += 1;
            }
        }
    }
    assert!(!connection.is_waiting());
}

#[test]
fn transaction_on_a_connection_is_begun_and_committed_by_requests() {
    fn call<T>(connection: &mut Connection, request: Request<T>) -> xenstore::Result<T> {
        let request = connection.submit(request)?;
        connection.flush()?;
        loop {
            let _ = connection.on_readable()?;
            match connection.next_event() {
                Some(Event::Reply { id, result }) if id == request.id() => {
                    return request.parse(result);
                }
                Some(event) => panic!("{event:?}"),
                None => {}
            }
        }
    }

    let server = server();
    let mut connection = Connection::new(transport(&server));
    let transaction = call(&mut connection, Request::begin()).unwrap();
    let write = Request::write("data/x", "1").unwrap().within(transaction);
    call(&mut connection, write).unwrap();
    let read = || Request::read("data/x").unwrap();
    assert!(call(&mut connection, read()).unwrap_err().is_not_found());
    call(&mut connection, Request::commit(transaction)).unwrap();
    assert_eq!(call(&mut connection, read()).unwrap(), b"1");

    // An ended transaction is unknown.
    let late = connection.submit(read().within(transaction));
    assert!(matches!(late, Err(Error::InvalidRequest { .. })));
}

#[test]
fn cancelled_request_has_no_event_and_leaves_nothing_open() {
    let server = server();
    let mut connection = Connection::new(transport(&server));
    let unsent = connection
        .submit(Request::write("data/x", "1").unwrap())
        .unwrap();
    connection.cancel(unsent.id());
    for _ in 0..20 {
        let begin = connection.submit(Request::begin()).unwrap();
        let watch = connection
            .submit(Request::watch("data", "token").unwrap())
            .unwrap();
        connection.flush().unwrap();
        connection.cancel(begin.id());
        connection.cancel(watch.id());
        while connection.is_waiting() {
            let _ = connection.on_readable().unwrap();
        }
    }

    assert_eq!(open_transactions(&server), 0);
    assert_eq!(server.with(|server| server.store().watch_count(GUEST)), 0);
    let value = server.with(|server| server.store().read("/local/domain/5/data/x").is_some());
    assert!(!value, "the request was sent");
    while let Some(event) = connection.next_event() {
        // The server sent the first event of the watch before the watch ended.
        assert!(matches!(event, Event::Watch(_)), "{event:?}");
    }
}

#[test]
fn request_cancelled_after_its_reply_has_no_event_and_leaves_nothing_open() {
    let server = server();
    let mut connection = Connection::new(transport(&server));
    let begin = connection.submit(Request::begin()).unwrap();
    let kept = connection.submit(Request::begin()).unwrap();
    let request = Request::watch("data", "token").unwrap();
    let watch = connection.submit(request).unwrap();
    let read = connection.submit(Request::read("domid").unwrap()).unwrap();
    let receive = |connection: &mut Connection| {
        while connection.is_waiting() {
            connection.flush().unwrap();
            let _ = connection.on_readable().unwrap();
        }
    };
    receive(&mut connection);
    for id in [read.id(), watch.id(), begin.id()] {
        connection.cancel(id);
    }
    receive(&mut connection);

    assert_eq!(open_transactions(&server), 1);
    assert_eq!(server.with(|server| server.store().watch_count(GUEST)), 0);
    let mut replies = Vec::new();
    while let Some(event) = connection.next_event() {
        if let Event::Reply { id, .. } = event {
            replies.push(id);
        }
    }
    assert_eq!(replies, [kept.id()]);
}

#[test]
fn time_limit_is_an_error_of_one_call_only() {
    let server = server();
    let mut client = Client::new(transport(&server));
    client.write("data/x", "1").unwrap();
    client.set_time_limit(Some(TIME_LIMIT));
    let hold = server.with(|server| server.store_mut().inject(Fault::hold_replies()));
    let error = client.read("data/x").unwrap_err();
    assert!(
        matches!(error, Error::TimedOut { .. }) && !error.is_fatal(),
        "{error}"
    );
    assert!(error.to_string().starts_with("READ data/x: "), "{error}");
    let late = client.transaction(|_| Ok::<_, Error>(()));
    assert!(matches!(late, Err(Error::TimedOut { .. })), "{late:?}");
    assert!(matches!(client.watch("data"), Err(Error::TimedOut { .. })));

    server.with(|server| server.store_mut().remove_fault(hold));
    client.set_time_limit(Some(TIMEOUT));
    assert_eq!(client.read("data/x").unwrap(), b"1");
    assert_eq!(client.next_watch_event(Some(TIME_LIMIT)).unwrap(), None);
    client.read("data/x").unwrap();
    let left = server.with(|server| server.store().watch_count(GUEST));
    assert_eq!((open_transactions(&server), left), (0, 0));
}

#[test]
fn no_event_of_a_watch_is_returned_after_unwatch() {
    let server = server();
    let mut client = Client::new(transport(&server));
    for round in 0..20 {
        let first = client.watch("data").unwrap();
        client.write("data/x", round.to_string()).unwrap();
        client.unwatch(first).unwrap();
        assert!(client.unwatch(first).unwrap_err().is_not_found());

        let second = client.watch("data").unwrap();
        let event = client.next_watch_event(Some(TIMEOUT)).unwrap().unwrap();
        assert_eq!((event.path.as_str(), event.watch()), ("data", Some(second)));
        assert_eq!(client.next_watch_event(Some(Duration::ZERO)).unwrap(), None);
        client.unwatch(second).unwrap();
    }
}

#[test]
fn refused_reset_keeps_the_watches() {
    let server = server();
    let refusal = Fault::refuse(ErrorCode::ENOSYS).of_kind(MessageKind::RESET_WATCHES);
    let refusal = server.with(|server| server.store_mut().inject(refusal));
    let mut client = Client::new(transport(&server));
    let watch = client.watch("data").unwrap();
    client.reset_watches().unwrap_err();
    client.write("data/x", "1").unwrap();
    for path in ["data", "data/x"] {
        let event = client.next_watch_event(Some(TIMEOUT)).unwrap().unwrap();
        assert_eq!((event.path.as_str(), event.watch()), (path, Some(watch)));
    }

    server.with(|server| server.store_mut().remove_fault(refusal));
    client.write("data/x", "2").unwrap();
    client.reset_watches().unwrap();
    client.write("data/x", "3").unwrap();
    assert_eq!(client.next_watch_event(Some(Duration::ZERO)).unwrap(), None);
    assert!(client.unwatch(watch).unwrap_err().is_not_found());
}

#[test]
fn transaction_whose_body_panics_is_aborted() {
    let server = server();
    let mut client = Client::new(transport(&server));
    for _ in 0..20 {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            client.transaction(|transaction| -> Result<(), Error> {
                transaction.write("data/x", "1")?;
                std::panic::resume_unwind(Box::new(()));
            })
        }));
        assert!(panicked.is_err());
    }
    assert!(client.read("data/x").unwrap_err().is_not_found());
    assert_eq!(open_transactions(&server), 0);
}

#[test]
fn transaction_returns_the_error_type_of_its_body() {
    let server = server();
    let mut client = Client::new(transport(&server));
    client.write("data/x", "no number").unwrap();
    let result = client.transaction(|transaction| -> Result<u32, Box<dyn StdError>> {
        transaction.write("data/y", "1")?;
        Ok(transaction.read_text("data/x")?.parse()?)
    });
    assert_eq!(
        result.unwrap_err().to_string(),
        "invalid digit found in string"
    );
    assert!(client.read("data/y").unwrap_err().is_not_found());
}

#[test]
fn client_on_a_store_in_the_same_process_is_deterministic() {
    let store = Arc::new(Mutex::new(Store::new()));
    store
        .lock()
        .unwrap()
        .introduce_guest(GUEST, Toolstack::Xapi);
    let connect = |domain| Client::with_channel(StoreChannel::new(store.clone(), domain));
    let (mut guest, mut dom0) = (connect(GUEST), connect(DomId::DOM0));
    let watch = dom0.watch("/local/domain/5/data").unwrap();
    dom0.next_watch_event(None).unwrap().unwrap();
    assert_eq!(dom0.next_watch_event(None).unwrap(), None);

    let conflict = store.lock().unwrap().inject(Fault::conflict().times(2));
    guest
        .transaction(|transaction| transaction.write("data/x", "v".repeat(1500)))
        .unwrap();
    assert_eq!(store.lock().unwrap().times_applied(conflict), 2);
    let names: Vec<_> = (0..100)
        .map(|number| format!("a-long-name-of-a-node-{number:04}"))
        .collect();
    for name in &names {
        dom0.write(format!("/list/{name}"), "").unwrap();
    }
    let list = dom0.list("/list").unwrap();
    assert_eq!(list.len(), names.len());
    let event = dom0.next_watch_event(None).unwrap().unwrap();
    assert_eq!(
        (event.path.as_str(), event.watch()),
        ("/local/domain/5/data/x", Some(watch))
    );

    // A reply that never comes ends the call instead of blocking it.
    store.lock().unwrap().inject(Fault::hold_replies());
    assert!(matches!(guest.read("data/x"), Err(Error::TimedOut { .. })));
    store.lock().unwrap().release(GUEST);
    let closed = guest.read("data/x").unwrap_err();
    assert!(closed.is_fatal(), "{closed}");
    drop(dom0);
    assert_eq!(store.lock().unwrap().watch_count(DomId::DOM0), 0);
}

#[test]
fn shared_client_serves_threads_while_one_waits_for_events() {
    let server = server();
    let client = SharedClient::new(Client::new(transport(&server))).unwrap();
    let watch = client.watch("data/signal").unwrap();
    client.next_watch_event(Some(TIMEOUT)).unwrap().unwrap();
    let (started, is_started) = mpsc::channel();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            started.send(()).unwrap();
            client.next_watch_event(None).unwrap().unwrap()
        });
        is_started.recv().unwrap();

        let writers: Vec<_> = (0..8)
            .map(|thread| {
                let mut client = &client;
                scope.spawn(move || {
                    for round in 0..50 {
                        let path = format!("data/{thread}");
                        client.write(&path, round.to_string()).unwrap();
                        assert_eq!(client.read_text(&path).unwrap(), round.to_string());
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        assert!(!waiting.is_finished());
        (&client).write("data/signal", "1").unwrap();
        assert_eq!(waiting.join().unwrap().watch(), Some(watch));
    });
}

#[test]
fn transactions_of_threads_on_a_shared_client_are_repeated_after_conflicts() {
    let server = server();
    let client = SharedClient::new(Client::new(transport(&server))).unwrap();
    (&client).write("data/count", "0").unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let increment = client.transaction(|transaction| {
                        let count: u32 = transaction.read_text("data/count")?.parse()?;
                        transaction.write("data/count", (count + 1).to_string())?;
                        Ok::<_, Box<dyn StdError>>(())
                    });
                    increment.unwrap();
                }
            });
        }
    });
    assert_eq!((&client).read("data/count").unwrap(), b"40");
}

#[test]
fn every_thread_of_a_shared_client_gets_the_disconnect() {
    let server = server();
    let client = SharedClient::new(Client::new(transport(&server))).unwrap();
    client.watch("data").unwrap();
    client.next_watch_event(Some(TIMEOUT)).unwrap().unwrap();
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| client.next_watch_event(None)))
            .collect();
        thread::sleep(TIME_LIMIT);
        server.with(|server| server.store_mut().release(GUEST));
        for thread in waiting {
            let error = thread.join().unwrap().unwrap_err();
            assert!(error.is_fatal(), "{error}");
        }
    });
}

#[test]
fn expired_time_limit_still_returns_what_has_arrived() {
    let server = server();
    let shared = SharedClient::new(Client::new(transport(&server))).unwrap();
    let mut client = Client::new(transport(&server));
    shared.watch("data/x").unwrap();
    client.watch("data/x").unwrap();
    server
        .with(|server| server.store_mut().write("/local/domain/5/data/x", "1"))
        .unwrap();
    // The reply to another request comes after the event.
    let mut dom0 = Client::new(server.connect(DomId::DOM0).unwrap().into());
    dom0.read("domid").unwrap();
    let count = |next: &mut dyn FnMut() -> Option<WatchEvent>| {
        let mut events = 0;
        while next().is_some() {
            events += 1;
        }
        events
    };
    let zero = Some(Duration::ZERO);
    assert_eq!(count(&mut || shared.next_watch_event(zero).unwrap()), 2);
    assert_eq!(count(&mut || client.next_watch_event(zero).unwrap()), 2);
}

#[test]
fn ended_transaction_is_not_ended_again() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut connection = Connection::new(Transport::from_device(ours.into(), "a device"));
    let begin = connection.submit(Request::begin()).unwrap();
    connection.flush().unwrap();
    let mut server = FakeServer(theirs);
    assert_eq!(server.receive(), MessageKind::TRANSACTION_START);
    server.reply(MessageKind::TRANSACTION_START, begin.id(), b"7\0");
    let _ = connection.on_readable().unwrap();
    let Some(Event::Reply { result, .. }) = connection.next_event() else {
        panic!("no reply");
    };
    let transaction = begin.parse(result).unwrap();

    let first = connection.submit(Request::commit(transaction)).unwrap();
    let second = connection.submit(Request::abort(transaction)).unwrap();
    let other = connection.submit(Request::read("a").unwrap()).unwrap();
    connection.flush().unwrap();
    assert_eq!(server.receive(), MessageKind::TRANSACTION_END);
    server.reply(MessageKind::TRANSACTION_END, first.id(), b"OK\0");
    let _ = connection.on_readable().unwrap();
    // A Linux kernel before 4.11 panics at a second end.
    assert_eq!(server.receive(), MessageKind::READ);
    server.reply(MessageKind::READ, other.id(), b"");
    let _ = connection.on_readable().unwrap();
    let mut results = Vec::new();
    while let Some(event) = connection.next_event() {
        let Event::Reply { id, result } = event else {
            panic!("{event:?}");
        };
        results.push((id, result.is_ok()));
    }
    assert_eq!(
        results,
        [(first.id(), true), (second.id(), false), (other.id(), true)]
    );
}

#[test]
fn given_up_requests_of_a_silent_server_free_their_memory() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let mut client = Client::new(ours.into());
    client.set_time_limit(Some(Duration::ZERO));
    for _ in 0..20_000 {
        let error = client.write("a", vec![b'x'; 4000]).unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .unwrap();
    // The requests have 80 MB.
    assert!(resident.parse::<u32>().unwrap() < 60_000, "{resident}");
}

#[test]
fn pipeline_that_times_out_takes_linear_time() {
    fn assert_linear(mut client: impl Nodes) {
        let requests = (0..COUNT).map(|number| Request::read(format!("data/{number}")).unwrap());
        let start = Instant::now();
        let results = client.pipeline(requests).unwrap();
        let taken = start.elapsed();
        assert!(taken < Duration::from_secs(5), "{taken:?}");

        assert_eq!(results.len(), COUNT);
        for (number, result) in results.into_iter().enumerate() {
            let expected = format!("READ data/{number}: no reply within 50ms");
            assert_eq!(result.unwrap_err().to_string(), expected);
        }
    }

    const COUNT: usize = 20_000;
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let mut client = Client::new(ours.into());
    client.set_time_limit(Some(TIME_LIMIT));
    assert_linear(client);
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let client = SharedClient::new(Client::new(ours.into())).unwrap();
    client.set_time_limit(Some(TIME_LIMIT));
    assert_linear(&client);
}

/// The server's end of a socket pair that acts as a device.
struct FakeServer(UnixStream);

impl FakeServer {
    /// Receives a message, and returns its kind.
    fn receive(&mut self) -> MessageKind {
        let mut decoder = Decoder::default();
        loop {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            decoder.extend(&byte);
            if let Some(message) = decoder.next_message().unwrap() {
                return message.kind;
            }
        }
    }

    fn reply(&mut self, kind: MessageKind, id: RequestId, payload: &[u8]) {
        let mut bytes = Vec::new();
        wire::encode(kind, id.get(), 0, payload, &mut bytes).unwrap();
        self.0.write_all(&bytes).unwrap();
    }
}

#[test]
fn threads_of_a_shared_client_share_the_quota_of_transactions() {
    const THREADS: usize = 20;
    let server = server();
    let client = SharedClient::new(Client::new(transport(&server))).unwrap();
    let most = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (client, server, most) = (&client, &server, &most);
            scope.spawn(move || {
                let run = client.transaction(|transaction| {
                    transaction.write(format!("data/{number}"), "")?;
                    most.fetch_max(open_transactions(server), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(5));
                    Ok::<_, Error>(())
                });
                run.unwrap();
            });
        }
    });
    let most = most.into_inner();
    assert!((2..=8).contains(&most), "{most}");
    assert_eq!(open_transactions(&server), 0);
}

#[test]
fn time_limit_holds_while_other_transactions_are_open() {
    let server = server();
    let client = SharedClient::new(Client::new(transport(&server))).unwrap();
    let barrier = Barrier::new(9);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let run = client.transaction(|_| {
                    barrier.wait();
                    barrier.wait();
                    Ok::<_, Error>(())
                });
                run.unwrap();
            });
        }
        barrier.wait();
        client.set_time_limit(Some(TIME_LIMIT));
        let (sender, result) = mpsc::channel();
        let late = client.clone();
        thread::spawn(move || sender.send(late.transaction(|_| Ok::<_, Error>(()))));
        let result = result.recv_timeout(TIMEOUT);
        client.set_time_limit(None);
        barrier.wait();
        let error = result.expect("the thread still waits").unwrap_err();
        assert_eq!(error.to_string(), "TRANSACTION_START: no reply within 50ms");
    });
    client.transaction(|_| Ok::<_, Error>(())).unwrap();
}

#[test]
fn waiting_threads_notice_that_another_one_closed_the_connection() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let transport = Transport::from_device(ours.into(), "a device");
    let client = SharedClient::new(Client::new(transport)).unwrap();
    let (sender, ended) = mpsc::channel();
    for _ in 0..3 {
        let (client, sender) = (client.clone(), sender.clone());
        thread::spawn(move || sender.send(client.next_watch_event(None)).unwrap());
    }
    thread::sleep(TIME_LIMIT);

    // The next write(2) fails, but poll(2) reports nothing.
    theirs.shutdown(Shutdown::Read).unwrap();
    let error = (&client).read("a").unwrap_err();
    assert!(error.is_fatal(), "{error}");
    for _ in 0..3 {
        let woken = ended.recv_timeout(TIMEOUT).expect("a thread still waits");
        assert_eq!(woken.unwrap_err().to_string(), error.to_string());
    }
}

#[test]
fn shared_client_sends_more_than_the_socket_holds_while_a_thread_waits_for_events() {
    let server = server();
    let client = SharedClient::new(Client::new(transport(&server))).unwrap();
    let waiting = client.clone();
    thread::spawn(move || waiting.next_watch_event(None));
    thread::sleep(TIME_LIMIT);

    let requests = (0..1000).map(|_| Request::write("data/x", vec![b'x'; 2000]).unwrap());
    let requests: Vec<_> = requests.collect();
    let (sender, replies) = mpsc::channel();
    let writer = client.clone();
    thread::spawn(move || sender.send((&writer).pipeline(requests)));
    let results = replies.recv_timeout(TIMEOUT).unwrap().unwrap();
    assert!(results.iter().all(Result::is_ok));
}
