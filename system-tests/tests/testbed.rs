//! Tests of the testbed itself: properties on which the other tests rely.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use system_tests::{
    Daemon, FakeRoot, Guest, Network, Toolstack, Xenstored, eventually, on_both_daemons, tree,
};
use xenstore::wire::{Decoder, Message, MessageKind};
use xenstore::{Client, Error, ErrorCode, Nodes, Request, Transport, WatchId};

const TIMEOUT: Duration = Duration::from_secs(10);
/// Time after which an unwanted event would have arrived.
const SETTLE_TIME: Duration = Duration::from_millis(50);

on_both_daemons! {
    toolstack_trees_and_permissions
    clients_of_a_domain_share_its_connection
    disconnect_ends_watches_and_transactions
    resume_recreates_the_tree_and_registers_watches_again
    resume_aborts_an_open_transaction
    checkpoint_changes_nothing
    requests_are_queued_during_a_resume
    payload_larger_than_the_ring_is_transferred
    requests_are_counted
    guests_are_created_and_destroyed
    xenstore_utils_work_on_a_domain_socket
}

fn connect(socket: &Path) -> Client {
    Client::new(Transport::open_socket_at(socket).unwrap())
}

fn code<T: std::fmt::Debug>(result: xenstore::Result<T>) -> ErrorCode {
    result
        .unwrap_err()
        .code()
        .expect("the server's error")
        .clone()
}

/// Receives the next event and checks its watch.
#[track_caller]
fn expect_event(client: &mut Client, watch: WatchId) {
    let event = client
        .next_watch_event(Some(TIMEOUT))
        .unwrap()
        .expect("an event");
    assert_eq!(event.watch(), Some(watch));
}

fn toolstack_trees_and_permissions(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    let xapi = store.guest(5, Toolstack::Xapi);
    let libxl = store.guest(6, Toolstack::Libxl);
    let bare = store.guest(7, Toolstack::None);
    let may_write = |guest: &Guest| {
        let mut client = connect(guest.socket());
        let candidates = [
            "data/x",
            "attr/x",
            "control/x",
            "control/shutdown",
            "xenserver/attr/x",
            "device/vif/0/x",
            "x",
            "name",
        ];
        candidates
            .into_iter()
            .filter(|path| client.write(path, "1").is_ok())
            .collect::<BTreeSet<_>>()
    };
    let xapi_writes = [
        "data/x",
        "attr/x",
        "control/x",
        "control/shutdown",
        "xenserver/attr/x",
        "device/vif/0/x",
    ];
    assert_eq!(may_write(&xapi), BTreeSet::from(xapi_writes));
    assert_eq!(
        may_write(&libxl),
        BTreeSet::from(["data/x", "attr/x", "control/shutdown", "device/vif/0/x"])
    );
    assert_eq!(may_write(&bare), BTreeSet::new());

    let mut client = connect(xapi.socket());
    assert_eq!(client.read("domid").unwrap(), b"5");
    assert_eq!(
        client.call(Request::domain_path(5)).unwrap().as_str(),
        xapi.home()
    );
    assert!(client.read("unique-domain-id").is_ok());
    assert_eq!(
        code(connect(libxl.socket()).read("unique-domain-id")),
        ErrorCode::ENOENT
    );
    assert_eq!(code(client.read(libxl.home())), ErrorCode::EACCES);
}

fn clients_of_a_domain_share_its_connection(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    let guest = store.guest(5, Toolstack::Xapi);
    let (mut one, mut other) = (connect(guest.socket()), connect(guest.socket()));

    // Two clients use the same path and token, and each has its own watch.
    let watch = one.watch("data/x").unwrap();
    assert_eq!(other.watch("data/x").unwrap(), watch);
    expect_event(&mut one, watch);
    expect_event(&mut other, watch);
    one.write("data/x", "1").unwrap();
    expect_event(&mut one, watch);
    expect_event(&mut other, watch);
    one.unwatch(watch).unwrap();
    one.write("data/x", "2").unwrap();
    expect_event(&mut other, watch);
    assert_eq!(one.next_watch_event(Some(SETTLE_TIME)).unwrap(), None);
}

fn disconnect_ends_watches_and_transactions(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    let guest = store.guest(5, Toolstack::Xapi);

    // A domain may have 10 transactions and 100 watches, so each round needs those of the round
    // before.
    for _ in 0..5 {
        eventually(|| leave_much_behind(guest.socket()), TIMEOUT);
    }
}

/// Opens 9 transactions and 90 watches and disconnects. Returns whether none was refused.
fn leave_much_behind(socket: &Path) -> bool {
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut bytes = Vec::new();
    for n in 0..99 {
        let (kind, payload) = match n {
            0..9 => (MessageKind::TRANSACTION_START, "\0".to_owned()),
            _ => (MessageKind::WATCH, format!("data\0{n}\0")),
        };
        let message = Message {
            kind,
            request_id: n,
            transaction_id: 0,
            payload: payload.into(),
        };
        message.encode(&mut bytes).unwrap();
    }
    stream.write_all(&bytes).unwrap();
    let mut decoder = Decoder::default();
    let (mut replies, mut all) = (0, true);
    while replies < 99 {
        let len = stream.read(&mut bytes).unwrap();
        decoder.extend(&bytes[..len]);
        while let Some(message) = decoder.next_message().unwrap() {
            replies += u32::from(message.kind != MessageKind::WATCH_EVENT);
            all &= message.kind != MessageKind::ERROR;
        }
    }
    all
}

fn resume_recreates_the_tree_and_registers_watches_again(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    let mut guest = store.guest(5, Toolstack::Xapi);
    let (mut one, mut other) = (connect(guest.socket()), connect(guest.socket()));
    let domid = one.watch("domid").unwrap();
    let data = one.watch("data/x").unwrap();
    let attr = other.watch("attr").unwrap();
    one.write("data/x", "mine").unwrap();
    for watch in [domid, data, data] {
        expect_event(&mut one, watch);
    }
    expect_event(&mut other, attr);
    let id = one.read("unique-domain-id").unwrap();

    guest.resume();
    let mut next = || one.next_watch_event(Some(TIMEOUT)).unwrap().unwrap();
    let watches: BTreeSet<_> = (0..2).map(|_| next().watch().unwrap()).collect();
    assert_eq!(watches, BTreeSet::from([domid, data]));
    expect_event(&mut other, attr);
    assert_eq!(one.next_watch_event(Some(SETTLE_TIME)).unwrap(), None);
    assert_ne!(one.read("unique-domain-id").unwrap(), id);
    assert_eq!(code(one.read("data/x")), ErrorCode::ENOENT);

    // The watches still work.
    one.write("data/x", "again").unwrap();
    expect_event(&mut one, data);
}

fn resume_aborts_an_open_transaction(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    let mut guest = store.guest(5, Toolstack::Xapi);
    let mut client = connect(guest.socket());
    for is_before_write in [false, true] {
        let mut runs = 0;
        client
            .transaction(|transaction| {
                runs += 1;
                if runs == 1 && is_before_write {
                    guest.resume();
                }
                transaction.write("data/x", runs.to_string())?;
                if runs == 1 && !is_before_write {
                    guest.resume();
                }
                Ok::<_, Error>(())
            })
            .unwrap();
        assert_eq!((runs, client.read("data/x").unwrap()), (2, b"2".to_vec()));
    }
}

fn checkpoint_changes_nothing(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    let mut guest = store.guest(5, Toolstack::Xapi);
    let mut client = connect(guest.socket());
    let watch = client.watch("data").unwrap();
    expect_event(&mut client, watch);
    let before = tree(&mut client, &guest.home());
    guest.checkpoint();
    assert_eq!(client.next_watch_event(Some(SETTLE_TIME)).unwrap(), None);
    assert_eq!(tree(&mut client, &guest.home()), before);
}

fn requests_are_queued_during_a_resume(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    let mut guest = store.guest(5, Toolstack::Xapi);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut client = connect(guest.socket());
        let is_over = &is_over;
        let writer = scope.spawn(move || {
            let mut rounds = 0;
            while !is_over.load(Ordering::Relaxed) {
                let writes = (0..50).map(|n| Request::write("data/x", n.to_string()).unwrap());
                client
                    .pipeline(writes)
                    .unwrap()
                    .into_iter()
                    .for_each(Result::unwrap);
                rounds += 1;
            }
            rounds
        });
        for _ in 0..30 {
            guest.resume();
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() > 0);
    });
}

fn payload_larger_than_the_ring_is_transferred(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    let guest = store.guest(5, Toolstack::Xapi);
    let mut client = connect(guest.socket());
    let value = |n: usize| vec![b'a' + u8::try_from(n % 26).unwrap(); 1900];
    let path = |n: usize| format!("data/{n}");
    let writes = (0..100).map(|n| Request::write(path(n), value(n)).unwrap());
    client
        .pipeline(writes)
        .unwrap()
        .into_iter()
        .for_each(Result::unwrap);
    let reads = client
        .pipeline((0..100).map(|n| Request::read(path(n)).unwrap()))
        .unwrap();
    for (n, read) in reads.into_iter().enumerate() {
        assert_eq!(read.unwrap(), value(n), "{n}");
    }
}

fn requests_are_counted(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    let mut guest = store.guest(5, Toolstack::Xapi);
    let mut client = connect(guest.socket());
    assert_eq!(guest.requests().total(), 0);
    client.write("data/x", "1").unwrap();
    client.write("data/x", "2").unwrap();
    client.watch("data/x").unwrap();

    // The bridge's own requests at a resume are not the client's.
    guest.resume();
    let requests = guest.requests();
    assert_eq!(
        (
            requests.total(),
            requests.of(MessageKind::WRITE),
            requests.of(MessageKind::WATCH),
            requests.of(MessageKind::READ)
        ),
        (3, 2, 1, 0)
    );
}

fn guests_are_created_and_destroyed(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    let mut dom0 = connect(store.socket());
    let released = dom0.watch("@releaseDomain").unwrap();
    expect_event(&mut dom0, released);
    for _ in 0..3 {
        let guests: Vec<_> = (5..15)
            .map(|domid| store.guest(domid, Toolstack::Xapi))
            .collect();
        for guest in &guests {
            let mut client = connect(guest.socket());
            client
                .write("data/domid", guest.domid().to_string())
                .unwrap();
            assert_eq!(
                dom0.read(format!("{}/data/domid", guest.home())).unwrap(),
                guest.domid().to_string().as_bytes()
            );
        }
        let mut client = connect(guests[0].socket());
        client.read("domid").unwrap();
        drop(guests);
        assert!(
            client.read("domid").unwrap_err().is_fatal(),
            "the connection ends with the domain"
        );
        for _ in 5..15 {
            expect_event(&mut dom0, released);
        }
        assert_eq!(code(dom0.read("/local/domain/5")), ErrorCode::ENOENT);
    }
}

fn xenstore_utils_work_on_a_domain_socket(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    let guest = store.guest(5, Toolstack::Xapi);
    let run = |socket: &Path, program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .env("XENSTORED_PATH", socket)
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}: install xenstore-utils"));
        assert!(
            output.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    run(
        guest.socket(),
        "xenstore-write",
        &["data/x", "hello", "data/y", "there"],
    );
    assert_eq!(
        run(store.socket(), "xenstore-read", &["/local/domain/5/data/x"]),
        "hello\n"
    );
    assert_eq!(
        run(guest.socket(), "xenstore-ls", &["data"]),
        "x = \"hello\"\ny = \"there\"\n"
    );
}

#[test]
#[ignore = "needs root"]
fn network_namespace_is_isolated() {
    let (one, other) = (Network::new(), Network::new());
    one.add_interface("eth0");
    one.ip("address add 192.0.2.1/24 dev eth0");
    assert!(
        one.ip("-o -4 address show dev eth0")
            .contains("192.0.2.1/24")
    );
    assert!(!other.ip("-o link").contains("eth0"));
    let inode = |network: &Network| {
        let output = network
            .command("readlink")
            .arg("/proc/self/ns/net")
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_ne!(inode(&one), inode(&other));
    assert_ne!(
        inode(&one),
        fs::read_link("/proc/self/ns/net")
            .unwrap()
            .to_string_lossy()
    );
}

#[test]
fn fake_root_contains_the_files_of_a_guest() {
    let root = FakeRoot::new();
    let read = |file: &str| fs::read_to_string(root.path().join(file)).unwrap();
    root.add_vif("eth0", 3);
    root.set_balloon_driver(true);
    root.set_memory(2048, 1024);
    assert_eq!(read("sys/class/net/eth0/device/nodename"), "device/vif/3\n");
    assert_eq!(read("sys/class/net/eth0/device/devtype"), "vif\n");
    assert!(read("proc/meminfo").contains("MemAvailable:       1024 kB\n"));
    assert!(
        root.path()
            .join("sys/devices/system/xen_memory/xen_memory0")
            .is_dir()
    );
    root.remove_interface("eth0");
    root.set_balloon_driver(false);
    assert!(!root.path().join("sys/class/net/eth0").exists());
}
