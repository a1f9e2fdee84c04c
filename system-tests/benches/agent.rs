//! Latency of the agent, compared with simpler operations on the same machine and the same
//! xenstored. Run it as root with `cargo bench -p system-tests --bench agent`. It prints medians
//! and ratios, and checks nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark is test code"
)]

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use system_tests::{Daemon, FakeRoot, Guest, Network, Profile, Toolstack, Xenstored, build};
use xenstore::{Client, Nodes, Transport};

const ROUNDS: u32 = 60;
const STARTS: u32 = 30;
/// Duration of two publications (an address added and removed) at the agent's rate limit.
const PAUSE: Duration = Duration::from_millis(410);
/// Number of publications that the rate limit allows at once.
const BURST: u32 = 8;

fn main() {
    for daemon in [Daemon::C, Daemon::OCaml] {
        let store = Xenstored::start(daemon);
        let guest = store.guest(5, Toolstack::Xapi);
        let (root, network) = (FakeRoot::new(), Network::new());
        for (id, name) in ["lan", "wan"].into_iter().enumerate() {
            network.add_interface(name);
            root.add_vif(name, u32::try_from(id).unwrap());
        }
        network.ip("addr add 10.0.0.1/24 dev lan");
        network.ip("addr add 10.1.0.1/24 dev wan");
        println!("{daemon:?}");
        start(&store, &guest, &root, &network);
        change(&store, &guest, &root, &network);
    }
}

fn agent(guest: &Guest, root: &FakeRoot, network: &Network) -> Command {
    let mut command = network.command(build("xen-guest-agent", Profile::Release));
    command.arg("--stderr").arg("--root").arg(root.path());
    command
        .arg("--xenstore")
        .arg(format!("socket={}", guest.socket().display()));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn client(socket: &std::path::Path) -> Client {
    Client::new(Transport::open_socket_at(socket).unwrap())
}

fn end(mut process: Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}

/// Measures the time from the start of the process to the event of the last node of its first
/// publication, compared with starting and ending an empty process in the same way.
fn start(store: &Xenstored, guest: &Guest, root: &FakeRoot, network: &Network) {
    let (mut dom0, home) = (client(store.socket()), guest.home());
    let last = format!("{home}/attr/vif/1/name");
    let watch = dom0.watch(&last).unwrap();
    dom0.next_watch_event(None).unwrap();
    let (mut ours, mut nothing) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let begin = Instant::now();
        network.command("true").status().unwrap();
        nothing.push(begin.elapsed());
        let begin = Instant::now();
        let process = agent(guest, root, network).spawn().unwrap();
        dom0.next_watch_event(Some(Duration::from_secs(5)))
            .unwrap()
            .expect("the publication");
        ours.push(begin.elapsed());
        end(process);
        for node in [
            "attr/PVAddons",
            "attr/vif",
            "feature/hotplug",
            "data/os_name",
            "data/updated",
            "data/meminfo_free",
        ] {
            dom0.remove(format!("{home}/{node}")).unwrap();
        }
        while dom0
            .next_watch_event(Some(Duration::from_millis(20)))
            .unwrap()
            .is_some()
        {}
    }
    dom0.unwatch(watch).unwrap();
    report(
        "process start to first full publication",
        ours,
        "start and end of `true`",
        nothing,
    );
}

/// Measures the time from adding an address to the event of its node, compared with a write by
/// another client of the same domain: after a pause, when caches are cold and CPUs sleep, and
/// without a pause.
fn change(store: &Xenstored, guest: &Guest, root: &FakeRoot, network: &Network) {
    let process = agent(guest, root, network).spawn().unwrap();
    let (mut dom0, mut writer, home) =
        (client(store.socket()), client(guest.socket()), guest.home());
    dom0.watch(format!("{home}/attr/vif/0/ipv4/1")).unwrap();
    dom0.watch(format!("{home}/data/bench")).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let settle = |dom0: &mut Client| {
        while dom0
            .next_watch_event(Some(Duration::from_millis(5)))
            .unwrap()
            .is_some()
        {}
    };
    settle(&mut dom0);
    let mut addresses = Addresses::open(network, "lan");
    for (state, rest) in [("after a rest", 1), ("one after the other", BURST)] {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            if round % rest == 0 {
                std::thread::sleep(PAUSE * rest);
            }
            let address = Ipv4Addr::from([10, 0, 7, u8::try_from(round % 200).unwrap() + 1]);
            let begin = Instant::now();
            addresses.change(RTM_NEWADDR, address);
            dom0.next_watch_event(None).unwrap();
            ours.push(begin.elapsed());
            settle(&mut dom0);
            addresses.change(RTM_DELADDR, address);
            settle(&mut dom0);
            if rest == 1 {
                std::thread::sleep(PAUSE);
            }
            let begin = Instant::now();
            writer.write("data/bench", round.to_string()).unwrap();
            dom0.next_watch_event(None).unwrap();
            bare.push(begin.elapsed());
            settle(&mut dom0);
        }
        report(
            &format!("new address to its event, {state}"),
            ours,
            "bare write to its event",
            bare,
        );
    }
    end(process);
}

fn report(name: &str, ours: Vec<Duration>, beside: &str, base: Vec<Duration>) {
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (ours, base) = (median(ours), median(base));
    println!(
        "  {name}: {ours:?}; {beside}: {base:?}; ratio {:.2}",
        ours.as_secs_f64() / base.as_secs_f64()
    );
}

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;

/// Adds and removes IPv4 addresses without starting a process for each.
struct Addresses {
    socket: std::os::fd::OwnedFd,
    index: u32,
}

impl Addresses {
    /// Opens an rtnetlink socket for an interface in the namespace. A separate thread enters the
    /// namespace, so that this one stays outside.
    fn open(network: &Network, interface: &str) -> Self {
        let index = network.ip(&format!("-o link show {interface}"));
        let index = index.split(':').next().unwrap().parse().unwrap();
        let namespace = std::fs::File::open(network.namespace()).unwrap();
        let socket = std::thread::spawn(move || {
            move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&namespace),
                Some(LinkNameSpaceType::Network),
            )
            .unwrap();
            let socket = rustix::net::socket_with(
                AddressFamily::NETLINK,
                SocketType::RAW,
                SocketFlags::CLOEXEC,
                None,
            )
            .unwrap();
            rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0)).unwrap();
            socket
        });
        Addresses {
            socket: socket.join().unwrap(),
            index,
        }
    }

    fn change(&mut self, kind: u16, address: Ipv4Addr) {
        const NLM_F_REQUEST_ACK_CREATE: u16 = 0x1 | 0x4 | 0x400;
        const IFA_ADDRESS: u16 = 1;
        const IFA_LOCAL: u16 = 2;
        let mut message = Vec::new();
        message.extend(40_u32.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(NLM_F_REQUEST_ACK_CREATE.to_ne_bytes());
        message.extend([0; 8]);
        message.extend([2, 24, 0, 0]);
        message.extend(self.index.to_ne_bytes());
        for attribute in [IFA_LOCAL, IFA_ADDRESS] {
            message.extend(8_u16.to_ne_bytes());
            message.extend(attribute.to_ne_bytes());
            message.extend(address.octets());
        }
        rustix::net::send(&self.socket, &message, SendFlags::empty()).unwrap();
        let mut answer = [0; 128];
        let (len, _) = rustix::net::recv(&self.socket, &mut answer, RecvFlags::empty()).unwrap();
        assert!(
            len >= 20 && answer[16..20] == [0; 4],
            "the kernel refused: {:?}",
            &answer[..len]
        );
    }
}
