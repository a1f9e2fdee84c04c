//! A guest with all that an agent in it sees.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use xenstore::wire::Kind;
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

/// Long enough for what must not happen to have happened.
pub const SETTLE_TIME: Duration = Duration::from_millis(300);

/// How the agent looks at the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collector {
    /// As its users have it.
    Netlink,
    /// From time to time, and often here.
    Poll,
}

/// A guest of a real xenstored with a network, and files.
pub struct Testbed {
    /// What the agent takes for the system's files.
    pub root: FakeRoot,
    /// The guest's network.
    pub network: Network,
    /// The domain.
    pub guest: Guest,
    /// A client of the control domain.
    pub dom0: Client,
    /// The server.
    pub store: Xenstored,
    collector: Collector,
    /// What of the network the files show.
    shown: String,
}

impl Testbed {
    /// A guest whose VIFs are `names`, from number 0 on; they are up, and have no address of their own.
    pub fn new(daemon: Daemon, toolstack: Toolstack, collector: Collector, names: &[&str]) -> Self {
        let store = Xenstored::start(daemon);
        let guest = store.guest(5, toolstack);
        let dom0 = Client::new(Transport::connect(store.socket()).unwrap());
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
            shown: String::new(),
        }
    }

    /// The agent's command line.
    pub fn command(&self, profile: Profile) -> Command {
        let mut command = self.network.command(build("xen-guest-agent", profile));
        command.arg("--stderr").arg("--root").arg(self.root.path());
        command
            .arg("--xenstore")
            .arg(format!("socket={}", self.guest.socket().display()));
        if self.collector == Collector::Poll {
            command.args(["--network-mode", "poll", "--network-poll-period", "0.05"]);
        }
        command
    }

    /// Starts the agent.
    pub fn start_as(&self, profile: Profile) -> Agent {
        Agent::spawn(self.command(profile), &self.root.join("log"))
    }

    /// Starts the agent, and waits until all is published.
    #[track_caller]
    pub fn start(&mut self) -> Agent {
        self.start_with(&[])
    }

    /// The same, with more arguments.
    #[track_caller]
    pub fn start_with(&mut self, arguments: &[&str]) -> Agent {
        self.show_network();
        let mut command = self.command(Profile::Debug);
        command.args(arguments);
        let agent = Agent::spawn(command, &self.root.join("log"));
        self.await_nodes(|nodes| nodes.contains_key("data/updated"));
        if arguments.is_empty() {
            self.await_network();
        }
        agent
    }

    /// What is in Xenstore of the domain.
    pub fn nodes(&mut self) -> BTreeMap<String, String> {
        let home = self.guest.home();
        tree(&mut self.dom0, &home)
    }

    /// Waits until the nodes are as they should be, and returns them.
    #[track_caller]
    pub fn await_nodes(
        &mut self,
        is_right: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> BTreeMap<String, String> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            self.show_network();
            let nodes = self.nodes();
            if is_right(&nodes) {
                return nodes;
            }
            assert!(Instant::now() < deadline, "still not so: {nodes:#?}");
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits until what is published below `attr/vif` is what `ip` says, no more and no less. Returns all nodes.
    #[track_caller]
    pub fn await_network(&mut self) -> BTreeMap<String, String> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            self.show_network();
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

    /// The numbers of the VIFs by their names.
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

    /// Requests since the last call of this, by kind, once no more come.
    pub fn requests_during(&mut self, act: impl FnOnce(&mut Self)) -> BTreeMap<&'static str, u64> {
        let kinds = [
            Kind::WRITE,
            Kind::RM,
            Kind::READ,
            Kind::DIRECTORY,
            Kind::WATCH,
            Kind::MKDIR,
        ];
        let before = self.guest.requests();
        act(self);
        sleep(SETTLE_TIME);
        let after = self.guest.requests();
        let count = |kind: Kind| (kind.name().unwrap(), after.of(kind) - before.of(kind));
        let counts: BTreeMap<_, _> = kinds
            .into_iter()
            .map(count)
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(
            counts.values().sum::<u64>(),
            after.total() - before.total(),
            "other kinds of requests"
        );
        counts
    }

    /// Shows in the files what the kernel shows of the network in those of the namespace. Only polling reads them.
    fn show_network(&mut self) {
        if self.collector == Collector::Netlink {
            return;
        }
        let script = "mount -t sysfs none /sys && cat /proc/net/if_inet6 && echo && cd /sys/class/net && \
            for link in */lower_* */master; do [ -e $link ] && echo $link $(basename $(readlink $link)); done; \
            grep -H DEVTYPE= */uevent; true";
        let output = self
            .network
            .command("unshare")
            .args(["--mount", "sh", "-c", script])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        if text == self.shown {
            return;
        }
        let (addresses, links) = text.split_once("\n\n").unwrap_or(("", text.trim_start()));
        self.root.write("proc/net/if_inet6", addresses);
        let file = |line: &str| {
            self.root
                .join("sys/class/net")
                .join(line.split([' ', ':']).next().unwrap())
        };
        for line in self
            .shown
            .split_once("\n\n")
            .map_or("", |(_, links)| links)
            .lines()
        {
            fs::remove_file(file(line)).unwrap();
        }
        for line in links.lines() {
            fs::create_dir_all(file(line).parent().unwrap()).unwrap();
            match line.split_once(' ') {
                Some((_, target)) => symlink(format!("../{target}"), file(line)).unwrap(),
                None => fs::write(file(line), line.split_once(':').unwrap().1).unwrap(),
            }
        }
        self.shown = format!("{addresses}\n\n{links}");
    }
}
