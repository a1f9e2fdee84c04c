//! A server with invalid replies. Once it works again, the tree must be correct.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec};
use xen_guest_agent::guest::Mac;
use xenstore::embedded::{Server, Toolstack};
use xenstore::wire::{Decoder, HEADER_LEN, Message, MessageKind, PAYLOAD_MAX};
use xenstore::{Connection, Transport};

use crate::harness::{Harness, meaning};
use crate::log;
use crate::virtual_functions::{FUNCTION, with_function};

/// Upper limit of turns in an exchange without time passing.
const TURNS: usize = 2000;

/// Upper limit of wake-ups of the agent while the server is faulty.
const WAKE_UPS: usize = 200;

/// A fault of one message of the server.
#[derive(Clone, Debug)]
enum Fault {
    Lost,
    Twice,
    WithKind(u32),
    WithId(u32),
    WithPayload(Vec<u8>),
    /// Truncated after this many bytes of payload, with a matching header.
    Truncated(usize),
    /// With another length in its header.
    WithLength(u32),
    /// Replaced by an error with this name.
    Refused(Vec<u8>),
    /// Preceded by bytes that are no message.
    AfterGarbage(Vec<u8>),
    /// Preceded by an event.
    AfterEvent(Vec<u8>),
    /// Followed by a disconnect after this many bytes.
    Disconnect(usize),
}

/// Returns payloads that resemble names, values, events or numbers, and random ones.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("attr"),
        Just("data/os_name"),
        Just("domid"),
        Just("xenserver/device/net-sriov-vf"),
        Just("vif"),
        Just("0"),
        Just("4294967296"),
        Just("10.0.0.1"),
        Just("02:00:00:00:00:09"),
        Just("OK"),
        Just(""),
    ];
    prop_oneof![
        prop::collection::vec(word, 0..4).prop_map(|words| words.join("\0").into_bytes()),
        prop::collection::vec(any::<u8>(), 0..40),
        (any::<u8>(), 0..=PAYLOAD_MAX).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    let name = prop_oneof![
        Just("EACCES"),
        Just("ENOENT"),
        Just("E2BIG"),
        Just("ENOSPC"),
        Just("EIO"),
        Just("ENEW")
    ];
    prop_oneof![
        1 => Just(Fault::Lost),
        1 => Just(Fault::Twice),
        1 => (0u32..30).prop_map(Fault::WithKind),
        1 => prop_oneof![0u32..50, any::<u32>()].prop_map(Fault::WithId),
        4 => payload().prop_map(Fault::WithPayload),
        1 => (0usize..20).prop_map(Fault::Truncated),
        1 => prop_oneof![0u32..5000, any::<u32>()].prop_map(Fault::WithLength),
        2 => prop_oneof![name.prop_map(|name| name.as_bytes().to_vec()), payload()].prop_map(Fault::Refused),
        1 => prop::collection::vec(any::<u8>(), 1..60).prop_map(Fault::AfterGarbage),
        2 => payload().prop_map(Fault::AfterEvent),
        1 => (0usize..40).prop_map(Fault::Disconnect),
    ]
}

/// A proxy between an agent and a server.
struct FaultyServer {
    agent: UnixStream,
    server: UnixStream,
    replies: Decoder,
}

impl FaultyServer {
    fn connect(harness: &mut Harness) -> Self {
        let (agent, ours) = UnixStream::pair().unwrap();
        let server = harness.server.connect(harness.domain).unwrap();
        for socket in [&agent, &ours, &server] {
            socket.set_nonblocking(true).unwrap();
        }
        let transport = if harness.is_device {
            Transport::from_device(agent.into(), "a device")
        } else {
            agent.into()
        };
        harness
            .agent
            .connect(Ok(Connection::new(transport)), harness.now);
        FaultyServer {
            agent: ours,
            server,
            replies: Decoder::default(),
        }
    }

    /// Forwards messages in both directions, and injects each fault after a number of correct
    /// messages.
    fn forward(&mut self, server: &mut Server, faults: &mut VecDeque<(usize, Fault)>) {
        let mut buffer = [0; 8192];
        while let Ok(len @ 1..) = self.agent.read(&mut buffer) {
            self.server.write_all(&buffer[..len]).unwrap();
        }
        server.process();
        while let Ok(len @ 1..) = self.server.read(&mut buffer) {
            self.replies.extend(&buffer[..len]);
        }
        while let Some(message) = self.replies.next_message().unwrap() {
            let fault = match faults.front_mut() {
                Some((0, _)) => faults.pop_front().map(|(_, fault)| fault),
                Some((before, _)) => {
                    *before -= 1;
                    None
                }
                None => None,
            };
            let ends = matches!(fault, Some(Fault::Disconnect(_)));

            // The agent may have disconnected.
            let _ = self.agent.write_all(&apply(message, fault));
            if ends {
                self.agent.shutdown(Shutdown::Both).unwrap();
            }
        }
    }
}

/// Returns the bytes that replace `message`.
fn apply(mut message: Message, fault: Option<Fault>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut length, mut end) = (None, usize::MAX);
    match fault {
        None => {}
        Some(Fault::Lost) => return bytes,
        Some(Fault::Twice) => message.encode(&mut bytes).unwrap(),
        Some(Fault::WithKind(kind)) => message.kind = MessageKind(kind),
        Some(Fault::WithId(id)) => message.request_id = id,
        Some(Fault::WithPayload(payload)) => message.payload = payload,
        Some(Fault::Truncated(len)) => message.payload.truncate(len),
        Some(Fault::WithLength(len)) => length = Some(len),
        Some(Fault::Refused(name)) => (message.kind, message.payload) = (MessageKind::ERROR, name),
        Some(Fault::AfterGarbage(other)) => bytes = other,
        Some(Fault::AfterEvent(payload)) => {
            let event = Message {
                kind: MessageKind::WATCH_EVENT,
                request_id: 0,
                transaction_id: 0,
                payload,
            };
            event.encode(&mut bytes).unwrap();
        }
        Some(Fault::Disconnect(after)) => end = after,
    }
    let begin = bytes.len();
    message.encode(&mut bytes).unwrap();
    if let Some(len) = length {
        bytes[begin + HEADER_LEN - 4..begin + HEADER_LEN].copy_from_slice(&len.to_ne_bytes());
    }
    bytes.truncate(end);
    bytes
}

fn is_readable(harness: &Harness) -> bool {
    let Some(connection) = harness.agent.connection() else {
        return false;
    };
    let mut fds = [PollFd::new(connection, PollFlags::IN)];
    rustix::event::poll(
        &mut fds,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )
    .unwrap()
        > 0
}

/// Connects the agent to a faulty server for a while. The agent must neither spin nor ask for a
/// deadline in the past.
fn lie_to(harness: &mut Harness, faults: &mut VecDeque<(usize, Fault)>, time: Duration) {
    let end = harness.now + time;
    let mut faulty_server = FaultyServer::connect(harness);
    for wake_up in 0.. {
        for turn in 0.. {
            assert!(turn < TURNS, "the exchange does not end");
            harness
                .agent
                .advance(harness.now, SystemTime::UNIX_EPOCH + harness.now);
            faulty_server.forward(&mut harness.server, faults);
            if !is_readable(harness) {
                break;
            }
            harness.agent.on_readable(harness.now);
        }
        let Some(next) = harness.agent.deadline().filter(|next| *next <= end) else {
            return;
        };
        assert!(
            next > harness.now && wake_up < WAKE_UPS,
            "the agent spins: {wake_up} times, {next:?}"
        );
        harness.now = next;
        if harness.agent.wants_connection(harness.now) {
            faulty_server = FaultyServer::connect(harness);
        }
    }
}

#[test]
fn watch_events_do_not_extend_the_reply_timeout() {
    log::take();
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.hold_replies(true);
    harness.set_address(7);
    harness.settle();
    for seconds in [30, 29] {
        harness.pass(Duration::from_secs(seconds));
        harness.write("attr/os/hotfixes", "1");
        harness.settle();
    }
    assert_eq!((harness.server.client_count(), log::take().len()), (1, 0));

    harness.pass(Duration::from_secs(1));
    let lines = log::take();
    assert!(
        lines.len() == 1 && lines[0].contains("wait for a socket: timed out"),
        "{lines:?}"
    );

    harness.hold_replies(false);
    harness.pass(Duration::from_secs(10));
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.7")
    );
    log::take();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn random_server_replies_do_no_lasting_harm(
        faults in prop::collection::vec((0usize..40, fault()), 1..12),
        is_device in any::<bool>(),
    ) {
        log::take();
        let mut harness = with_function(Toolstack::Xapi);
        harness.is_device = is_device;
        harness.store().write(format!("{FUNCTION}/mac"), "02:00:00:00:00:09").unwrap();
        harness.write("attr/vif/0/ipv4/3", "10.0.0.2");
        lie_to(&mut harness, &mut faults.into(), Duration::from_secs(300));

        // The faults are over. Nodes that seemed denied are retried on demand.
        harness.pass(Duration::from_secs(120));
        harness.agent.retry_failed_writes();
        harness.comparison = Some(harness.now + Duration::from_secs(60));
        harness.pass(Duration::from_secs(1300));
        let functions = BTreeMap::from([(4, Mac([2, 0, 0, 0, 0, 9]))]);
        prop_assert_eq!(meaning(&harness.published()), meaning(&harness.expected(&functions)));
        let lines = log::take();
        prop_assert!(lines.len() <= 12 * 3, "{} lines of the log: {lines:#?}", lines.len());
    }
}
