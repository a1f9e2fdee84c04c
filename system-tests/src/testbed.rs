//! A complete environment for an agent: Xenstore server, domain, network and files.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use xenstore::wire::MessageKind;
use xenstore::{Client, Transport};

use crate::agent::{Agent, TIMEOUT};
use crate::build::{Profile, build};
use crate::expected::{expected_network, published_network};
use crate::fake_root::FakeRoot;
use crate::guest::Guest;
use crate::network::Network;
use crate::observe::tree;
use crate::toolstack::Toolstack;
use crate::xenstored::{Daemon, Xenstored};

/// Time after which an unwanted effect would have shown.
pub const SETTLE_TIME: Duration = Duration::from_millis(300);

/// How the agent observes the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collector {
    /// The default: rtnetlink events.
    Netlink,
    /// Polling, here every 50 ms.
    Poll,
}

/// A guest of a real Xenstore server with its own network namespace and files.
pub struct Testbed {
    /// The root directory that the agent reads.
    pub root: FakeRoot,
    /// The guest's network.
    pub network: Network,
    /// The domain in which the agent runs.
    pub guest: Guest,
    /// A client of domain 0.
    pub dom0: Client,
    /// The Xenstore server.
    pub store: Xenstored,
    collector: Collector,
    /// Value of the agent's setting `confine`. Its default would mean `off`, because of the root
    /// directory.
    confine: String,
}

impl Testbed {
    /// Creates a guest whose VIFs have these names, numbered from 0. They are up and have only
    /// link-local addresses.
    pub fn new(daemon: Daemon, toolstack: Toolstack, collector: Collector, names: &[&str]) -> Self {
        let store = Xenstored::start(daemon);
        let guest = store.guest(5, toolstack);
        let dom0 = Client::new(Transport::open_socket_at(store.socket()).unwrap());
        let root = FakeRoot::new();
        root.set_hostname("web1.example.org");
        root.set_balloon_driver(true);
        let network = Network::new();
        for (id, name) in (0..).zip(names) {
            network.add_interface(name);
            root.add_vif(name, id);
        }
        Testbed {
            root,
            network,
            guest,
            dom0,
            store,
            collector,
            confine: "uid0".to_owned(),
        }
    }

    /// Sets the agent's setting `confine`, instead of `uid0`.
    pub fn set_confine(&mut self, mode: &str) {
        mode.clone_into(&mut self.confine);
    }

    /// Returns the command that starts the agent.
    pub fn command(&self, profile: Profile) -> Command {
        let mut command = self.network.command(build("xen-guest-agent", profile));
        command.args(self.arguments());
        command
    }

    /// Returns the arguments for an agent in this testbed.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "--stderr".to_owned(),
            format!("--root={}", self.root.path().display()),
            format!("--xenstore=socket={}", self.guest.socket().display()),
            format!("--confine={}", self.confine),
        ];
        if self.collector == Collector::Poll {
            arguments.push("--network-mode=poll".to_owned());
            arguments.push("--network-poll-period=0.05".to_owned());
        }
        arguments
    }

    /// Starts a build of the agent without waiting for anything.
    pub fn start_as(&self, profile: Profile) -> Agent {
        Agent::spawn(self.command(profile), &self.root.join("log"))
    }

    /// Starts the agent and waits until everything is published.
    #[track_caller]
    pub fn start(&mut self) -> Agent {
        self.start_with(&[])
    }

    /// Starts the agent with additional arguments and waits for the first publication.
    #[track_caller]
    pub fn start_with(&mut self, arguments: &[&str]) -> Agent {
        let mut command = self.command(Profile::Debug);
        command.args(arguments);
        let agent = Agent::spawn(command, &self.root.join("log"));
        self.await_nodes(|nodes| nodes.contains_key("data/updated"));
        if arguments.is_empty() {
            self.await_network();
        }
        agent
    }

    /// Returns the nodes of the domain.
    pub fn nodes(&mut self) -> BTreeMap<String, String> {
        let home = self.guest.home();
        tree(&mut self.dom0, &home)
    }

    /// Waits until the nodes satisfy the condition, and returns them.
    #[track_caller]
    pub fn await_nodes(
        &mut self,
        condition: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> BTreeMap<String, String> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let nodes = self.nodes();
            if condition(&nodes) {
                return nodes;
            }
            assert!(
                Instant::now() < deadline,
                "the nodes do not satisfy the condition: {nodes:#?}"
            );
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the nodes below `attr/vif` are exactly those that `ip` reports. Returns all
    /// nodes.
    #[track_caller]
    pub fn await_network(&mut self) -> BTreeMap<String, String> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let nodes = self.nodes();
            let published = published_network(&nodes);
            let expected = expected_network(&self.network, &self.vifs());
            if published == expected {
                return nodes;
            }
            assert!(
                Instant::now() < deadline,
                "published: {published:#?}\nexpected: {expected:#?}"
            );
            sleep(Duration::from_millis(5));
        }
    }

    /// Returns the VIF numbers by interface name.
    fn vifs(&self) -> BTreeMap<String, String> {
        let Ok(interfaces) = fs::read_dir(self.root.join("sys/class/net")) else {
            return BTreeMap::new();
        };
        let vif = |entry: fs::DirEntry| {
            let node = fs::read_to_string(entry.path().join("device/nodename")).ok()?;
            Some((
                entry.file_name().into_string().ok()?,
                node.trim().strip_prefix("device/vif/")?.to_owned(),
            ))
        };
        interfaces.filter_map(|entry| vif(entry.ok()?)).collect()
    }

    /// Runs `act` and returns the requests that the guest sent meanwhile and shortly after, by
    /// kind.
    pub fn requests_during(&mut self, act: impl FnOnce(&mut Self)) -> BTreeMap<&'static str, u64> {
        let kinds = [
            MessageKind::WRITE,
            MessageKind::RM,
            MessageKind::READ,
            MessageKind::DIRECTORY,
            MessageKind::WATCH,
            MessageKind::MKDIR,
        ];
        let before = self.guest.requests();
        act(self);
        sleep(SETTLE_TIME);
        let after = self.guest.requests();
        let count = |kind: MessageKind| (kind.name().unwrap(), after.of(kind) - before.of(kind));
        let counts: BTreeMap<_, _> = kinds
            .into_iter()
            .map(count)
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(
            counts.values().sum::<u64>(),
            after.total() - before.total(),
            "unexpected kinds of requests"
        );
        counts
    }
}
