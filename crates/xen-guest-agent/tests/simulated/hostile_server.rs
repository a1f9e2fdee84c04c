//! A server whose answers are wrong in any way, and the truth once it is well again.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec};
use xen_guest_agent::guest::Mac;
use xenstore::embedded::{Server, Toolstack};
use xenstore::wire::{Decoder, HEADER_LEN, Kind, Message, PAYLOAD_MAX};
use xenstore::{Connection, Transport};

use crate::harness::{Harness, meaning};
use crate::{FUNCTION, log, with_function};

/// More than any exchange takes without time passing.
const TURNS: usize = 2000;

/// More than the agent has to do in the time that the lies take.
const WAKE_UPS: usize = 200;

/// What becomes of a message of the server.
#[derive(Clone, Debug)]
enum Lie {
    Lost,
    Twice,
    OfKind(u32),
    WithId(u32),
    Saying(Vec<u8>),
    /// Cut off after so many bytes of its payload, with a header that knows.
    Cut(usize),
    /// With a header that claims another length.
    OfLength(u32),
    /// Refused, by this name.
    Refused(Vec<u8>),
    /// After these bytes, which are no message.
    After(Vec<u8>),
    /// After an event.
    AfterEvent(Vec<u8>),
    /// So much of it, and then the connection ends.
    HangUp(usize),
}

/// Bytes that the agent may take for names, values, events or numbers, and others.
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

fn lie() -> impl Strategy<Value = Lie> {
    let name = prop_oneof![
        Just("EACCES"),
        Just("ENOENT"),
        Just("E2BIG"),
        Just("ENOSPC"),
        Just("EIO"),
        Just("ENEW")
    ];
    prop_oneof![
        1 => Just(Lie::Lost),
        1 => Just(Lie::Twice),
        1 => (0u32..30).prop_map(Lie::OfKind),
        1 => prop_oneof![0u32..50, any::<u32>()].prop_map(Lie::WithId),
        4 => payload().prop_map(Lie::Saying),
        1 => (0usize..20).prop_map(Lie::Cut),
        1 => prop_oneof![0u32..5000, any::<u32>()].prop_map(Lie::OfLength),
        2 => prop_oneof![name.prop_map(|name| name.as_bytes().to_vec()), payload()].prop_map(Lie::Refused),
        1 => prop::collection::vec(any::<u8>(), 1..60).prop_map(Lie::After),
        2 => payload().prop_map(Lie::AfterEvent),
        1 => (0usize..40).prop_map(Lie::HangUp),
    ]
}

/// Stands between an agent and a server.
struct Liar {
    agent: UnixStream,
    server: UnixStream,
    replies: Decoder,
}

impl Liar {
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
        Liar {
            agent: ours,
            server,
            replies: Decoder::default(),
        }
    }

    /// Carries what there is both ways: so many messages as they are, and then one with a lie, and so on.
    fn carry(&mut self, server: &mut Server, lies: &mut VecDeque<(usize, Lie)>) {
        let mut buffer = [0; 8192];
        while let Ok(len @ 1..) = self.agent.read(&mut buffer) {
            self.server.write_all(&buffer[..len]).unwrap();
        }
        server.process();
        while let Ok(len @ 1..) = self.server.read(&mut buffer) {
            self.replies.extend(&buffer[..len]);
        }
        while let Some(message) = self.replies.next_message().unwrap() {
            let lie = match lies.front_mut() {
                Some((0, _)) => lies.pop_front().map(|(_, lie)| lie),
                Some((before, _)) => {
                    *before -= 1;
                    None
                }
                None => None,
            };
            let ends = matches!(lie, Some(Lie::HangUp(_)));
            // The agent may have hung up.
            let _ = self.agent.write_all(&told(message, lie));
            if ends {
                self.agent.shutdown(Shutdown::Both).unwrap();
            }
        }
    }
}

/// What the agent is told in place of `message`.
fn told(mut message: Message, lie: Option<Lie>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut length, mut end) = (None, usize::MAX);
    match lie {
        None => {}
        Some(Lie::Lost) => return bytes,
        Some(Lie::Twice) => message.encode(&mut bytes).unwrap(),
        Some(Lie::OfKind(kind)) => message.kind = Kind(kind),
        Some(Lie::WithId(id)) => message.request_id = id,
        Some(Lie::Saying(payload)) => message.payload = payload,
        Some(Lie::Cut(len)) => message.payload.truncate(len),
        Some(Lie::OfLength(len)) => length = Some(len),
        Some(Lie::Refused(name)) => (message.kind, message.payload) = (Kind::ERROR, name),
        Some(Lie::After(other)) => bytes = other,
        Some(Lie::AfterEvent(payload)) => {
            let event = Message {
                kind: Kind::WATCH_EVENT,
                request_id: 0,
                transaction_id: 0,
                payload,
            };
            event.encode(&mut bytes).unwrap();
        }
        Some(Lie::HangUp(after)) => end = after,
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

/// Lets the agent talk to a liar for a while. It neither spins nor asks for a moment that is past.
fn lie_to(harness: &mut Harness, lies: &mut VecDeque<(usize, Lie)>, time: Duration) {
    let end = harness.now + time;
    let mut liar = Liar::connect(harness);
    for wake_up in 0.. {
        for turn in 0.. {
            assert!(turn < TURNS, "the agent talks and talks");
            harness
                .agent
                .advance(harness.now, SystemTime::UNIX_EPOCH + harness.now);
            liar.carry(&mut harness.server, lies);
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
            liar = Liar::connect(harness);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_a_server_answers_the_tree_is_the_truth_once_it_is_well(
        lies in prop::collection::vec((0usize..40, lie()), 1..12),
        is_device in any::<bool>(),
    ) {
        log::take();
        let mut harness = with_function(Toolstack::Xapi);
        harness.is_device = is_device;
        harness.store().write(format!("{FUNCTION}/mac"), "02:00:00:00:00:09").unwrap();
        harness.write("attr/vif/0/ipv4/3", "10.0.0.2");
        lie_to(&mut harness, &mut lies.into(), Duration::from_secs(300));
        // The liar is gone by now. What was said to be refused is tried again when somebody says so.
        harness.pass(Duration::from_secs(120));
        harness.agent.retry_refused();
        harness.comparison = Some(harness.now + Duration::from_secs(60));
        harness.pass(Duration::from_secs(1300));
        let functions = BTreeMap::from([(4, Mac([2, 0, 0, 0, 0, 9]))]);
        prop_assert_eq!(meaning(&harness.published()), meaning(&harness.truth(&functions)));
        let lines = log::take();
        prop_assert!(lines.len() <= 12 * 3, "{} lines of the log: {lines:#?}", lines.len());
    }
}
