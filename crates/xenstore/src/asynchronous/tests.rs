//! Tests of the async client. The conformance suite tests its behaviour in common with the blocking
//! client.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "clippy does not recognise helpers of tests in a file of their own"
)]

use std::future::{Future, poll_fn};
use std::io;
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;

use super::*;
use crate::client::WATCH_EVENTS_MAX;
use crate::domains::DomainEvent;
use crate::embedded::{Fault, Server, ServerHandle, Store, Toolstack};
use crate::error::{Error, ErrorCode, Result};
use crate::event::WatchEvent;
use crate::nodes::AsyncNodes;
use crate::path::Path;
use crate::peer::Peer;
use crate::request::Request;
use crate::transport::Transport;
use crate::wire::MessageKind;

fn server() -> ServerHandle {
    let mut store = Store::new();
    store.introduce_guest(5, Toolstack::Xapi);
    Server::new(store).spawn().unwrap()
}

fn client(server: &ServerHandle) -> AsyncClient {
    AsyncClient::new(server.connect(5).unwrap().into()).unwrap()
}

/// Polls a future once and drops it.
fn poll_once_and_drop<T>(future: impl Future<Output = T>) {
    let future = pin!(future);
    assert!(
        future
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
}

/// Awaits a future, and panics after 20 seconds.
async fn within_limit<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("the future takes too long")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_share_a_connection() {
    let server = server();
    // The client acts as domain 0, so that more than eight transactions are not limited by the server.
    let client = AsyncClient::new(server.connect(0).unwrap().into()).unwrap();
    let tasks: Vec<_> = (0..50)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                let path = format!("data/{task}");
                let mut changes = client.watch(&path).await?;
                changes.next_event().await?;
                for round in 0..20 {
                    let value = format!("{task} {round}");
                    client.write(&path, &value).await?;
                    assert_eq!(client.read_text(&path).await?, value);
                    assert_eq!(changes.next_event().await?.path.as_str(), path);
                }
                client
                    .transaction(async |transaction| {
                        let count = transaction
                            .read_text("data/count")
                            .await
                            .map_or(0, |count| count.parse().unwrap());
                        transaction
                            .write("data/count", (count + 1).to_string())
                            .await
                    })
                    .await
            })
        })
        .collect();
    for task in tasks {
        within_limit(task).await.unwrap().unwrap();
    }
    assert_eq!(client.read("data/count").await.unwrap(), b"50");
    assert_eq!(server.with(|server| server.client_count()), 1);
}

#[tokio::test]
async fn dropped_requests_do_not_affect_others() {
    let server = server();
    let client = client(&server);
    client.write("data/x", "kept").await.unwrap();
    let mut changes = client.watch("data/x").await.unwrap();
    changes.next_event().await.unwrap();
    for round in 0..200 {
        poll_once_and_drop(client.read("data/nothing"));
        poll_once_and_drop(client.write("data/x", round.to_string()));
        poll_once_and_drop(client.pipeline([
            Request::list("data").unwrap().untyped(),
            Request::read("data/x").unwrap(),
        ]));
        poll_once_and_drop(client.watch("data/x"));
        // This drops a walk while its replies are being received.
        let _ = tokio::time::timeout(Duration::from_micros(round), client.walk("data")).await;
        client
            .write("data/x", format!("kept {round}"))
            .await
            .unwrap();
        assert_eq!(
            client.read_text("data/x").await.unwrap(),
            format!("kept {round}")
        );
        assert_eq!(
            within_limit(changes.next_event())
                .await
                .unwrap()
                .path
                .as_str(),
            "data/x"
        );
        poll_once_and_drop(changes.next_event());
    }
    // The dropped watches have ended, because there were 200, and a guest can have 129.
    assert!(client.watch("data/y").await.is_ok());
}

#[tokio::test]
async fn future_that_is_never_polled_sends_no_request() {
    let server = server();
    let client = client(&server);
    drop(client.write("data/x", "1"));
    drop(client.transaction(async |transaction| transaction.write("data/x", "2").await));
    assert!(client.read("data/x").await.is_err());
}

#[tokio::test]
async fn dropped_transaction_is_aborted() {
    let server = server();
    let client = client(&server);
    client.write("data/x", "before").await.unwrap();
    // A guest can have only eleven open transactions.
    for round in 0..40 {
        poll_once_and_drop(client.transaction(async |_| Ok::<_, Error>(())));
        let pending = client.transaction(async |transaction| {
            transaction.write("data/x", "after").await?;
            std::future::pending::<Result<()>>().await
        });
        // The first timeouts are too short to start a transaction, and the later ones are not.
        let result = tokio::time::timeout(Duration::from_micros(100 * round), pending).await;
        assert!(result.is_err());
    }
    client
        .transaction(async |transaction| transaction.write("data/y", "1").await)
        .await
        .unwrap();
    assert_eq!(client.read("data/x").await.unwrap(), b"before");
}

#[tokio::test]
async fn transaction_without_a_receiver_is_aborted() {
    let server = server();
    let client = client(&server);
    for _ in 0..40 {
        // When the future is dropped, its reply has arrived but was not read.
        let mut begin = Box::pin(client.begin());
        assert!(
            begin
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        client.read("domid").await.unwrap();
        drop(begin);
    }
    client.begin().await.unwrap();
}

#[tokio::test]
async fn dropped_watch_future_ends_its_watch_once() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let client = AsyncClient::new(ours.into()).unwrap();
    let mut peer = Peer::new(theirs);
    // The driver has not run yet, so that nothing is sent.
    poll_once_and_drop(client.watch("a"));
    let watch = tokio::spawn({
        let client = client.clone();
        async move { client.watch("b").await }
    });
    let (mut peer, request) = tokio::task::spawn_blocking(move || {
        let request = peer.receive();
        (peer, request)
    })
    .await
    .unwrap();
    assert_eq!(
        (request.kind, request.payload),
        (MessageKind::WATCH, b"b\x001\0".to_vec())
    );

    // The request was sent, but has no reply yet.
    watch.abort();
    assert!(watch.await.unwrap_err().is_cancelled());
    peer.send(MessageKind::WATCH, request.request_id, b"OK\0");
    let ended = tokio::task::spawn_blocking(move || {
        let request = peer.receive();
        peer.send(request.kind, request.request_id, b"OK\0");
        (peer, request)
    });
    let (mut peer, request) = ended.await.unwrap();
    assert_eq!(
        (request.kind, request.payload),
        (MessageKind::UNWATCH, b"b\x001\0".to_vec())
    );
    let _ = tokio::time::timeout(Duration::from_millis(50), client.read("c")).await;
    assert_eq!(peer.receive().kind, MessageKind::READ);
}

#[tokio::test]
async fn dropped_stream_ends_only_its_own_watch() {
    let server = server();
    let client = client(&server);
    let mut kept = client.watch("data/x").await.unwrap();
    let dropped = client.watch("data/x").await.unwrap();
    client.write("data/x", "1").await.unwrap();
    drop(dropped);
    client.write("data/x", "2").await.unwrap();
    for _ in 0..3 {
        assert_eq!(
            within_limit(kept.next_event()).await.unwrap().path.as_str(),
            "data/x"
        );
    }
    poll_once_and_drop(kept.next_event());
    let unwatches = server.with(|server| {
        server
            .store()
            .request_count_of_kind(5, MessageKind::UNWATCH)
    });
    assert_eq!(unwatches, 1);
}

#[tokio::test]
async fn raw_watch_requests_are_rejected() {
    let server = server();
    let client = client(&server);
    let requests = [
        Request::watch("data", "token").unwrap(),
        Request::unwatch("data", "0").unwrap(),
        Request::reset_watches(),
    ];
    for request in requests {
        assert!(matches!(
            client.call(request.clone()).await,
            Err(Error::InvalidRequest { .. })
        ));
        assert!(matches!(
            client.pipeline([request]).await,
            Err(Error::InvalidRequest { .. })
        ));
    }
}

#[tokio::test]
async fn all_pending_calls_return_the_disconnect() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let client = AsyncClient::new(ours.into()).unwrap();
    let mut peer = Peer::new(theirs);
    let watch = tokio::spawn({
        let client = client.clone();
        async move { client.watch("data").await }
    });
    let mut peer = tokio::task::spawn_blocking(move || {
        let request = peer.receive();
        peer.send(MessageKind::WATCH, request.request_id, b"OK\0");
        peer.send(MessageKind::WATCH_EVENT, 0, b"data\x000\0");
        peer
    })
    .await
    .unwrap();
    let mut changes = watch.await.unwrap().unwrap();
    let reads: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.read("data/x").await })
        })
        .collect();
    tokio::task::spawn_blocking(move || (0..3).for_each(|_| drop(peer.receive())))
        .await
        .unwrap();
    for read in reads {
        let error = within_limit(read).await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Closed { .. }), "{error}");
    }
    // The event from before is not lost, and all later calls return the error.
    assert_eq!(changes.next_event().await.unwrap().path.as_str(), "data");
    for _ in 0..2 {
        assert!(matches!(
            within_limit(changes.next_event()).await,
            Err(Error::Closed { .. })
        ));
        assert!(matches!(
            within_limit(client.read("data/x")).await,
            Err(Error::Closed { .. })
        ));
        assert!(matches!(
            within_limit(client.transaction(async |_| Ok::<_, Error>(()))).await,
            Err(Error::Closed { .. })
        ));
    }
}

#[tokio::test]
async fn all_calls_return_a_protocol_violation() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let client = AsyncClient::new(ours.into()).unwrap();
    let mut peer = Peer::new(theirs);
    let reads: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                client
                    .pipeline([Request::read("a")?, Request::read("b")?])
                    .await
            })
        })
        .collect();
    // The server keeps the connection open and continues to reply.
    let _peer = tokio::task::spawn_blocking(move || {
        let requests: Vec<_> = (0..6).map(|_| peer.receive()).collect();
        peer.send(MessageKind::READ, 77, b"");
        for request in requests {
            peer.send_if_open(MessageKind::READ, request.request_id, b"value");
        }
        peer
    })
    .await
    .unwrap();
    let cause = "the Xenstore server at a socket violated the protocol: reply READ without a request (id 77)";
    for read in reads {
        assert_eq!(
            within_limit(read).await.unwrap().unwrap_err().to_string(),
            cause
        );
    }
    assert_eq!(
        within_limit(client.read("a"))
            .await
            .unwrap_err()
            .to_string(),
        cause
    );
    assert_eq!(
        within_limit(client.watch("a"))
            .await
            .unwrap_err()
            .to_string(),
        cause
    );
    assert_eq!(
        within_limit(client.transaction(async |_| Ok::<_, Error>(())))
            .await
            .unwrap_err()
            .to_string(),
        cause
    );
}

#[tokio::test]
async fn unread_watch_events_are_limited() {
    let path = format!("data/{}", "x".repeat(2000));
    let limit = WATCH_EVENTS_MAX
        / WatchEvent {
            path: Path::new(&path).unwrap(),
            token: "0".to_owned(),
        }
        .size();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let client = AsyncClient::new(ours.into()).unwrap();
    let peer = std::thread::spawn(move || {
        let mut peer = Peer::new(theirs);
        let event = |peer: &mut Peer, token| {
            peer.send_if_open(
                MessageKind::WATCH_EVENT,
                0,
                format!("{path}\0{token}\0").as_bytes(),
            )
        };
        for kind in [
            MessageKind::WATCH,
            MessageKind::READ,
            MessageKind::READ,
            MessageKind::UNWATCH,
            MessageKind::WATCH,
        ] {
            let request = peer.receive();
            assert_eq!(request.kind, kind);
            if kind == MessageKind::READ {
                assert!((0..limit).all(|_| event(&mut peer, 0)));
            }
            peer.send(kind, request.request_id, b"OK\0");
        }
        while event(&mut peer, 1) {}
    });
    let mut watch = client.watch("data").await.unwrap();
    // All events have arrived with the reply.
    client.read("a").await.unwrap();
    for _ in 0..limit {
        watch.next_event().await.unwrap();
    }
    client.read("a").await.unwrap();
    // Events that were taken do not count, nor do those of a dropped stream.
    drop(watch);
    let mut watch = client.watch("data").await.unwrap();
    let error = within_limit(client.read("a")).await.unwrap_err();
    let mut took = 0;
    while within_limit(watch.next_event()).await.is_ok() {
        took += 1;
    }
    assert!(matches!(error, Error::EventsNotTaken { .. }), "{error}");
    assert_eq!(took, limit);
    peer.join().unwrap();
}

#[tokio::test]
async fn write_error_of_the_device_is_returned() {
    // An eventfd refuses this write(2), like a Linux device refuses a watch over the limit.
    let refusing = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    let client = AsyncClient::new(Transport::from_device(refusing, "a device")).unwrap();
    for _ in 0..2 {
        assert!(matches!(
            within_limit(client.watch("data")).await,
            Err(Error::NotSent { .. })
        ));
    }
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_connection() {
    let server = server();
    let client = client(&server);
    let mut changes = client.watch("data").await.unwrap();
    changes.next_event().await.unwrap();
    drop(client);
    server
        .with(|server| server.store_mut().write("/local/domain/5/data/x", "1"))
        .unwrap();
    assert_eq!(
        within_limit(changes.next_event())
            .await
            .unwrap()
            .path
            .as_str(),
        "data/x"
    );
    drop(changes);
    within_limit(async {
        while server.with(|server| server.client_count()) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[test]
fn dropped_driver_is_reported() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap()
    };
    let server = server();
    let client = runtime().block_on(async { client(&server) });
    let error = runtime().block_on(client.read("domid")).unwrap_err();
    assert!(
        error.is_fatal() && error.to_string().contains("driver"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn device_has_one_request_in_flight() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let client = AsyncClient::new(Transport::from_device(ours.into(), "a device")).unwrap();
    let peer = std::thread::spawn(move || {
        let mut peer = Peer::new(theirs);
        for _ in 0..20 {
            let request = peer.receive();
            std::thread::sleep(Duration::from_millis(2));
            assert!(
                !peer.has_more(),
                "a second request before the reply to the first"
            );
            peer.send(request.kind, request.request_id, &request.payload);
        }
    });
    let reads: Vec<_> = (0..20)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let path = format!("n/{number}");
                assert_eq!(
                    client.read(&path).await.unwrap(),
                    format!("{path}\0").as_bytes()
                );
            })
        })
        .collect();
    for read in reads {
        within_limit(read).await.unwrap();
    }
    peer.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_of_a_guest_wait_for_each_other() {
    let server = server();
    let client = client(&server);
    client.write("data/count", "0").await.unwrap();
    let tasks: Vec<_> = (0..20)
        .map(|number: u32| {
            let client = client.clone();
            // The body captures by reference, and its future can be spawned.
            tokio::spawn(async move {
                let path = &format!("data/{number}");
                let mut runs = 0;
                let result = client
                    .transaction(|transaction| {
                        runs += 1;
                        async move {
                            let count: u32 = transaction.read_text("data/count").await?.parse()?;
                            transaction.write(path, "done").await?;
                            transaction
                                .write("data/count", (count + 1).to_string())
                                .await?;
                            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
                        }
                    })
                    .await;
                (result.map_err(|error| error.to_string()), runs)
            })
        })
        .collect();
    let mut begun = 0;
    for task in tasks {
        let (result, runs) = task.await.unwrap();
        assert!(result.is_ok(), "{result:?}");
        begun += runs;
    }
    assert_eq!(client.read("data/count").await.unwrap(), b"20");
    // The server has refused no start of a transaction.
    let starts = |server: &mut Server| {
        let store = server.store();
        store.request_count_of_kind(5, MessageKind::TRANSACTION_START)
    };
    assert_eq!(server.with(starts), begun);
    assert_eq!(server.with(|server| server.store().transaction_count(5)), 0);
}

#[tokio::test]
async fn refused_transaction_is_begun_again_once_another_one_ends() {
    let mut store = Store::new();
    store.introduce_guest(5, Toolstack::Xapi);
    // Two can be open, as if other processes of the guest had the rest.
    store.quotas.transactions = 1;
    let server = Server::new(store).spawn().unwrap();
    let client = client(&server);
    let open = [client.begin().await.unwrap(), client.begin().await.unwrap()];
    let waiting = client.clone();
    let third = tokio::spawn(async move { waiting.begin().await });
    let starts = || {
        let kind = MessageKind::TRANSACTION_START;
        server.with(|server| server.store().request_count_of_kind(5, kind))
    };

    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(starts(), 3);
    drop(open);
    let third = within_limit(third).await.unwrap().unwrap();
    assert_eq!(third.commit().await.unwrap(), Commit::Done);
    assert_eq!(starts(), 4);
}

#[tokio::test]
async fn begun_transaction_is_committed_or_aborted() {
    let server = server();
    let client = client(&server);
    let first = client.begin().await.unwrap();
    let second = client.begin().await.unwrap();
    for transaction in [&first, &second] {
        transaction.write("data/x", "1").await.unwrap();
    }
    assert_eq!(first.commit().await.unwrap(), Commit::Done);
    assert_eq!(second.commit().await.unwrap(), Commit::Conflict);

    let third = client.begin().await.unwrap();
    third.write("data/x", "3").await.unwrap();
    third.clone().abort();
    assert!(third.read("data/x").await.is_err());
    assert_eq!(client.read("data/x").await.unwrap(), b"1");
}

#[tokio::test]
async fn end_of_the_connection_ends_streams_and_is_reported() {
    let server = server();
    let client = client(&server);
    let mut changes = client.watch("data").await.unwrap();
    changes.next_event().await.unwrap();
    let closed = tokio::spawn({
        let client = client.clone();
        async move { client.closed().await }
    });
    server.with(|server| server.store_mut().release(5));
    let error = within_limit(closed).await.unwrap();
    assert!(error.is_fatal(), "{error}");

    let mut next = async || poll_fn(|context| Pin::new(&mut changes).poll_next(context)).await;
    let last = within_limit(next()).await.unwrap().unwrap_err();
    assert_eq!(last.to_string(), error.to_string());
    assert!(within_limit(next()).await.is_none());
    assert_eq!(client.closed().await.to_string(), error.to_string());
}

/// A runtime that polls all the time.
struct Spinning;

impl Readiness for Spinning {
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        attempt: &mut dyn FnMut() -> Attempt,
    ) -> Poll<io::Result<()>> {
        match attempt() {
            Attempt::Progress => Poll::Ready(Ok(())),
            Attempt::NotReady => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        attempt: &mut dyn FnMut() -> Attempt,
    ) -> Poll<io::Result<()>> {
        self.poll_receive(context, attempt)
    }
}

#[test]
fn driver_runs_without_tokio() {
    let server = server();
    let transport = server.connect(5).unwrap().into();
    let (client, mut driver) = AsyncClient::with_driver(transport, |_| Ok(Spinning)).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut calls = pin!(async {
        client.write("data/x", "1").await?;
        client.read("data/x").await
    });
    let value = loop {
        if let Poll::Ready(value) = calls.as_mut().poll(&mut context) {
            break value;
        }
        assert!(Pin::new(&mut driver).poll(&mut context).is_pending());
    };
    assert_eq!(value.unwrap(), b"1");
}

#[tokio::test]
async fn commit_of_an_ended_transaction_is_an_error() {
    let server = server();
    let client = client(&server);
    let transaction = client.begin().await.unwrap();
    transaction.clone().abort();
    assert!(matches!(
        transaction.commit().await,
        Err(Error::InvalidRequest { .. })
    ));

    let result = client
        .transaction(|transaction| async move {
            transaction.write("data/x", "1").await?;
            transaction.clone().commit().await
        })
        .await;
    assert!(matches!(result, Err(Error::InvalidRequest { .. })));
    assert!(matches!(
        client.call(Request::begin()).await,
        Err(Error::InvalidRequest { .. })
    ));
}

#[tokio::test]
async fn many_waiting_transactions_get_the_disconnect() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let client = AsyncClient::new(ours.into()).unwrap();
    let mut peer = Peer::new(theirs);
    let peer = std::thread::spawn(move || {
        for number in 1..=8 {
            let begin = peer.receive();
            let payload = format!("{number}\0");
            peer.send(begin.kind, begin.request_id, payload.as_bytes());
        }
        let end = peer.receive();
        peer.send(end.kind, end.request_id, b"OK\0");
        peer.close();
    });
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(client.begin().await.unwrap());
    }
    let waiting: Vec<_> = (0..20_000)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.begin().await.map(drop) })
        })
        .collect();
    tokio::task::yield_now().await;
    open.pop().unwrap().abort();
    for task in waiting {
        assert!(within_limit(task).await.unwrap().unwrap_err().is_fatal());
    }
    peer.join().unwrap();
}

#[tokio::test]
async fn domain_stream_continues_after_an_error_until_the_connection_is_closed() {
    let server = server();
    let client = AsyncClient::new(server.connect(0).unwrap().into()).unwrap();
    let mut domains = client.watch_domains().await.unwrap();
    server.with(|server| {
        let fault = Fault::refuse(ErrorCode::EIO).of_kind(MessageKind::IS_DOMAIN_INTRODUCED);
        server.store_mut().inject(fault.times(1));
    });
    let error = within_limit(domains.next_event()).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::EIO));

    // A dropped future loses no event.
    let mut reported = Vec::new();
    while reported.len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if let Ok(event) = tokio::time::timeout(Duration::ZERO, domains.next_event()).await {
            reported.push(event.unwrap());
        }
    }
    assert_eq!(
        reported,
        [0, 5].map(|domain| DomainEvent::Introduced(domain.into()))
    );

    drop(server);
    let mut next =
        async || within_limit(poll_fn(|context| Pin::new(&mut domains).poll_next(context))).await;
    assert!(next().await.unwrap().unwrap_err().is_fatal());
    assert!(next().await.is_none());
}
