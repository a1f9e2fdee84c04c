//! What is the async client's own; what it has in common with the one that waits is in the conformance suite.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "clippy knows the helpers of tests only in a module of that file"
)]

use std::future::Future;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use super::*;
use crate::client::WATCH_EVENTS_MAX;
use crate::embedded::{Running, Server, Store, Toolstack};
use crate::event::WatchEvent;
use crate::peer::Peer;

fn server() -> Running {
    let mut store = Store::new();
    store.introduce_guest(5, Toolstack::Xapi);
    Server::new(store).spawn().unwrap()
}

fn client(server: &Running) -> AsyncClient {
    AsyncClient::new(server.connect(5).unwrap().into()).unwrap()
}

/// Polls a future once, as far as it comes, and drops it.
fn begin_and_drop<T>(future: impl Future<Output = T>) {
    let future = pin!(future);
    assert!(
        future
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it takes too long")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_share_a_connection() {
    let server = server();
    // Not as a guest, which may have ten transactions at a time.
    let client = AsyncClient::new(server.connect(0).unwrap().into()).unwrap();
    let tasks: Vec<_> = (0..50)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                let path = format!("data/{task}");
                let mut changes = client.watch(&path).await?;
                changes.next().await?;
                for round in 0..20 {
                    let value = format!("{task} {round}");
                    client.write(&path, &value).await?;
                    assert_eq!(client.read_text(&path).await?, value);
                    assert_eq!(changes.next().await?.path.as_str(), path);
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
        soon(task).await.unwrap().unwrap();
    }
    assert_eq!(client.read("data/count").await.unwrap(), b"50");
    assert_eq!(server.with(|server| server.clients()), 1);
}

#[tokio::test]
async fn requests_that_are_dropped_lose_nothing() {
    let server = server();
    let client = client(&server);
    client.write("data/x", "kept").await.unwrap();
    let mut changes = client.watch("data/x").await.unwrap();
    changes.next().await.unwrap();
    for round in 0..200 {
        begin_and_drop(client.read("data/nothing"));
        begin_and_drop(client.write("data/x", round.to_string()));
        begin_and_drop(client.pipeline([
            Request::list("data").unwrap(),
            Request::read("data/x").unwrap(),
        ]));
        begin_and_drop(client.watch("data/x"));
        // What is being received when it is dropped.
        let _ = tokio::time::timeout(Duration::from_micros(round), client.walk("data")).await;
        assert_eq!(client.read_text("data/x").await.unwrap(), round.to_string());
        assert_eq!(soon(changes.next()).await.unwrap().path.as_str(), "data/x");
        begin_and_drop(changes.next());
    }
    // Those of the dropped watches ended: there are 200 of them, and a guest may have 128.
    assert!(client.watch("data/y").await.is_ok());
}

#[tokio::test]
async fn what_is_never_polled_is_never_asked() {
    let server = server();
    let client = client(&server);
    drop(client.write("data/x", "1"));
    drop(client.transaction(async |transaction| transaction.write("data/x", "2").await));
    assert!(client.read("data/x").await.is_err());
}

#[tokio::test]
async fn transactions_that_are_dropped_are_abandoned() {
    let server = server();
    let client = client(&server);
    client.write("data/x", "before").await.unwrap();
    // A guest may have ten at a time.
    for round in 0..40 {
        begin_and_drop(client.transaction(async |_| Ok(())));
        let stuck = client.transaction(async |transaction| {
            transaction.write("data/x", "after").await?;
            std::future::pending::<Result<()>>().await
        });
        // Shorter at first than it takes to open one, and then longer.
        let stuck = tokio::time::timeout(Duration::from_micros(100 * round), stuck).await;
        assert!(stuck.is_err());
    }
    client
        .transaction(async |transaction| transaction.write("data/y", "1").await)
        .await
        .unwrap();
    assert_eq!(client.read("data/x").await.unwrap(), b"before");
}

#[tokio::test]
async fn a_transaction_that_nobody_takes_is_abandoned() {
    let server = server();
    let client = client(&server);
    for _ in 0..40 {
        // The reply is there when it is dropped, and was not looked at.
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
async fn a_dropped_stream_ends_its_watch_and_no_other() {
    let server = server();
    let client = client(&server);
    let mut kept = client.watch("data/x").await.unwrap();
    let dropped = client.watch("data/x").await.unwrap();
    client.write("data/x", "1").await.unwrap();
    drop(dropped);
    client.write("data/x", "2").await.unwrap();
    for _ in 0..3 {
        assert_eq!(soon(kept.next()).await.unwrap().path.as_str(), "data/x");
    }
    begin_and_drop(kept.next());
    let unwatches = server.with(|server| server.store().requests_of_kind(5, Kind::UNWATCH));
    assert_eq!(unwatches, 1);
}

#[tokio::test]
async fn watches_are_not_set_behind_its_back() {
    let server = server();
    let client = client(&server);
    let behind = [
        Request::watch("data", "token").unwrap(),
        Request::unwatch("data", "0").unwrap(),
        Request::reset_watches(),
    ];
    for request in behind {
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
async fn all_who_wait_are_told_of_the_end() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let client = AsyncClient::new(ours.into()).unwrap();
    let mut peer = Peer::new(theirs);
    let watch = tokio::spawn({
        let client = client.clone();
        async move { client.watch("data").await }
    });
    let mut peer = tokio::task::spawn_blocking(move || {
        let asked = peer.receive();
        peer.send(Kind::WATCH, asked.request_id, b"OK\0");
        peer.send(Kind::WATCH_EVENT, 0, b"data\x000\0");
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
        let error = soon(read).await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Closed { .. }), "{error}");
    }
    // What came before it is not lost, and then it is told again and again.
    assert_eq!(changes.next().await.unwrap().path.as_str(), "data");
    for _ in 0..2 {
        assert!(matches!(
            soon(changes.next()).await,
            Err(Error::Closed { .. })
        ));
        assert!(matches!(
            soon(client.read("data/x")).await,
            Err(Error::Closed { .. })
        ));
        assert!(matches!(
            soon(client.transaction(async |_| Ok(()))).await,
            Err(Error::Closed { .. })
        ));
    }
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_told_of_to_all() {
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
    // It stays open, and goes on as if nothing was.
    let _peer = tokio::task::spawn_blocking(move || {
        let asked: Vec<_> = (0..6).map(|_| peer.receive()).collect();
        peer.send(Kind::READ, 77, b"");
        for asked in asked {
            peer.send_if_open(Kind::READ, asked.request_id, b"value");
        }
        peer
    })
    .await
    .unwrap();
    let cause =
        "the Xenstore server broke the protocol: a reply (READ, id 77) to no request of ours";
    for read in reads {
        assert_eq!(soon(read).await.unwrap().unwrap_err().to_string(), cause);
    }
    assert_eq!(soon(client.read("a")).await.unwrap_err().to_string(), cause);
    assert_eq!(
        soon(client.watch("a")).await.unwrap_err().to_string(),
        cause
    );
    assert_eq!(
        soon(client.transaction(async |_| Ok(())))
            .await
            .unwrap_err()
            .to_string(),
        cause
    );
}

#[tokio::test]
async fn events_that_nobody_takes_are_not_kept_for_ever() {
    let path = format!("data/{}", "x".repeat(2000));
    let most = WATCH_EVENTS_MAX
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
                Kind::WATCH_EVENT,
                0,
                format!("{path}\0{token}\0").as_bytes(),
            )
        };
        for kind in [
            Kind::WATCH,
            Kind::READ,
            Kind::READ,
            Kind::UNWATCH,
            Kind::WATCH,
        ] {
            let asked = peer.receive();
            assert_eq!(asked.kind, kind);
            if kind == Kind::READ {
                assert!((0..most).all(|_| event(&mut peer, 0)));
            }
            peer.send(kind, asked.request_id, b"OK\0");
        }
        while event(&mut peer, 1) {}
    });
    let mut watch = client.watch("data").await.unwrap();
    // With the reply they are all there.
    client.read("a").await.unwrap();
    for _ in 0..most {
        watch.next().await.unwrap();
    }
    client.read("a").await.unwrap();
    // Neither those that were taken count, nor those of a stream that is gone.
    drop(watch);
    let mut watch = client.watch("data").await.unwrap();
    let error = soon(client.read("a")).await.unwrap_err();
    let mut took = 0;
    while soon(watch.next()).await.is_ok() {
        took += 1;
    }
    assert!(matches!(error, Error::EventsNotTaken { .. }), "{error}");
    assert_eq!(took, most);
    peer.join().unwrap();
}

#[tokio::test]
async fn what_the_system_refuses_is_told_at_once() {
    // A descriptor that can be waited for and refuses to be written, as Linux does with one watch too many.
    let refusing = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    let client = AsyncClient::new(Transport::from_device(refusing, "a device")).unwrap();
    for _ in 0..2 {
        assert!(matches!(
            soon(client.watch("data")).await,
            Err(Error::NotSent { .. })
        ));
    }
}

#[tokio::test]
async fn the_last_to_go_closes_the_connection() {
    let server = server();
    let client = client(&server);
    let mut changes = client.watch("data").await.unwrap();
    changes.next().await.unwrap();
    drop(client);
    server
        .with(|server| server.store_mut().write("/local/domain/5/data/x", "1"))
        .unwrap();
    assert_eq!(soon(changes.next()).await.unwrap().path.as_str(), "data/x");
    drop(changes);
    soon(async {
        while server.with(|server| server.clients()) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[test]
fn a_runtime_that_is_gone_is_told() {
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
        error.is_fatal() && error.to_string().contains("runtime"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_has_one_request_under_way() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let client = AsyncClient::new(Transport::from_device(ours.into(), "a device")).unwrap();
    let peer = std::thread::spawn(move || {
        let mut peer = Peer::new(theirs);
        for _ in 0..20 {
            let asked = peer.receive();
            std::thread::sleep(Duration::from_millis(2));
            assert!(
                !peer.has_more(),
                "a second request before the reply to the first"
            );
            peer.send(asked.kind, asked.request_id, &asked.payload);
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
        soon(read).await.unwrap();
    }
    peer.join().unwrap();
}
