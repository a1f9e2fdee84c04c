//! A guest, its agent and an embedded Xenstore server with a virtual clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use xen_guest_agent::agent::Agent;
use xen_guest_agent::guest::{Address, Device, Guest, Interface, Mac, Memory};
use xen_guest_agent::schema::layout::LAYOUT;
use xen_guest_agent::schema::topology::Filter;
use xen_guest_agent::schema::{Name, Schema};
use xenstore::embedded::{Model, Server, Store, Toolstack};
use xenstore::wire::MessageKind;
use xenstore::{Connection, DomId, Path, Transport};

use crate::server_faults::ServerFaults;

/// Domain ID before any migration.
pub(crate) const DOMAIN: DomId = DomId::new(5);

/// Interval at which memory is written and the store is compared.
const COMPARISON: Duration = Duration::from_secs(600);

/// Upper limit of turns in an exchange.
const TURNS: usize = 1000;

pub(crate) fn address(ip: &str) -> Address {
    Address {
        ip: ip.parse().unwrap(),
        prefix: 24,
        is_secondary: false,
        is_temporary: false,
        is_deprecated: false,
        is_usable: true,
    }
}

/// Returns `count` different addresses.
pub(crate) fn addresses(count: u32) -> Vec<Address> {
    (0..count)
        .map(|number| address(&format!("10.1.{}.{}", number / 250, number % 250 + 1)))
        .collect()
}

pub(crate) fn interface(device: Device, addresses: &[&str]) -> Interface {
    Interface {
        name: "eth0".into(),
        mac: Some(Mac([0, 0x16, 0x3e, 0, 0, 1])),
        is_up: true,
        device,
        addresses: addresses.iter().map(|ip| address(ip)).collect(),
        ..Interface::default()
    }
}

pub(crate) fn guest() -> Guest {
    Guest {
        kernel: "6.1.0".to_owned(),
        host_name: Some("web1".to_owned()),
        memory: Some(Memory {
            total: 1000,
            available: 500,
        }),
        interfaces: [(2, interface(Device::Vif(0), &["10.0.0.1", "10.0.0.2"]))].into(),
        ..Guest::default()
    }
}

/// Nodes by their paths below the domain's home.
pub(crate) type Nodes = BTreeMap<String, String>;

pub(crate) struct Harness {
    pub(crate) server: Server,
    pub(crate) agent: Agent,
    pub(crate) now: Duration,
    pub(crate) domain: DomId,
    /// Whether the connection is a device, which carries one request at a time.
    pub(crate) is_device: bool,
    /// Time of the next comparison, if there are any.
    pub(crate) comparison: Option<Duration>,
    pub(crate) faults: ServerFaults,
}

impl Harness {
    pub(crate) fn new(toolstack: Toolstack) -> Self {
        let mut harness = Harness::unconnected(toolstack, guest());
        harness.connect();
        harness
    }

    pub(crate) fn unconnected(toolstack: Toolstack, guest: Guest) -> Self {
        Harness::with_model(Model::default(), toolstack, guest)
    }

    /// A guest of a host with another Xenstore server, whose agent is not connected.
    pub(crate) fn with_model(model: Model, toolstack: Toolstack, guest: Guest) -> Self {
        let mut store = Store::with_model(model);
        store.introduce_guest(DOMAIN, toolstack);
        Harness {
            server: Server::new(store),
            agent: Agent::new(guest, Schema::default()),
            now: Duration::from_secs(100),
            domain: DOMAIN,
            is_device: false,
            comparison: None,
            faults: ServerFaults::default(),
        }
    }

    /// A guest of xapi whose agent uses `schema` and is not connected. The store has the guest's
    /// virtual functions, and records requests.
    pub(crate) fn with_schema(guest: Guest, schema: Name) -> Self {
        let functions = guest.virtual_functions.clone();
        let mut harness = Harness::unconnected(Toolstack::Xapi, guest);
        harness.set_agent(schema);
        for (id, mac) in functions {
            let path = format!("xenserver/device/net-sriov-vf/{id}/mac");
            harness.write(&path, &mac.to_string());
        }
        harness.store().keep_requests(true);
        harness
    }

    /// Returns the store. The next turn delivers watch events of changes.
    pub(crate) fn store(&mut self) -> &mut Store {
        self.server.store_mut()
    }

    pub(crate) fn connect(&mut self) {
        let stream = self.server.connect(self.domain).unwrap();
        stream.set_nonblocking(true).unwrap();
        let transport = if self.is_device {
            Transport::from_device(stream.into(), "a device")
        } else {
            stream.into()
        };
        self.agent.connect(Ok(Connection::new(transport)), self.now);
        self.settle();
    }

    /// Replaces the agent by a new one, and connects it.
    pub(crate) fn restart(&mut self) {
        self.abandon();
        self.connect();
    }

    /// Replaces the agent by a new one with another schema, and connects it.
    pub(crate) fn restart_with(&mut self, schema: Name) {
        self.set_agent(schema);
        self.connect();
    }

    /// Replaces the agent by a new one that is not connected.
    pub(crate) fn abandon(&mut self) {
        self.set_agent(Name::default());
    }

    /// Replaces the agent by a new one, which does not know the virtual functions yet.
    fn set_agent(&mut self, schema: Name) {
        let mut guest = self.agent.guest().clone();
        guest.virtual_functions.clear();
        self.agent = Agent::new(guest, Schema::new(schema, Filter::default()));
        self.server.process();
    }

    /// Exchanges messages until neither side has anything to send.
    pub(crate) fn settle(&mut self) {
        for _ in 0..TURNS {
            let before = (
                self.server.store().request_count(self.domain),
                self.agent.connection().is_some(),
            );
            for _ in 0..2 {
                self.agent
                    .advance(self.now, SystemTime::UNIX_EPOCH + self.now);
                self.server.process();
                self.agent.on_readable(self.now);
            }
            self.agent
                .advance(self.now, SystemTime::UNIX_EPOCH + self.now);
            self.server.process();
            let is_owed = self.agent.connection().is_some_and(Connection::is_waiting);
            let is_held = self.holds_replies();
            let now = (
                self.server.store().request_count(self.domain),
                self.agent.connection().is_some(),
            );
            if now == before && (is_held || !is_owed) {
                return;
            }
        }
        panic!("the exchange does not end");
    }

    /// Lets time pass, and performs all work that becomes due.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = [self.agent.deadline(), self.comparison]
            .into_iter()
            .flatten()
            .min()
        {
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            if self.comparison.is_some_and(|time| time <= self.now) {
                self.comparison = Some(self.now + COMPARISON);
                self.agent.update(|_| true);
                self.agent.compare();
            }
            if self.agent.wants_connection(self.now) {
                self.connect();
            }
            self.settle();
            let deadline = self.agent.deadline();
            assert!(
                deadline.is_none_or(|deadline| deadline > self.now),
                "the deadline has passed but stays: {deadline:?}"
            );
        }
        self.now = end;
        self.settle();
    }

    pub(crate) fn home(&self) -> String {
        format!("/local/domain/{}", self.domain)
    }

    pub(crate) fn read(&self, path: &str) -> Option<String> {
        let value = self
            .server
            .store()
            .read(format!("{}/{path}", self.home()))?;
        Some(String::from_utf8(value.to_vec()).unwrap())
    }

    /// Writes a node as domain 0.
    pub(crate) fn write(&mut self, path: &str, value: &str) {
        let path = format!("{}/{path}", self.home());
        self.store().write(path, value).unwrap();
    }

    /// Removes a node as domain 0.
    pub(crate) fn remove(&mut self, path: &str) {
        let path = format!("{}/{path}", self.home());

        // The node may be missing.
        let _ = self.store().remove(path);
    }

    /// Returns all nodes of the domain, including empty parents.
    pub(crate) fn tree(&self) -> Nodes {
        let home = self.home();
        let nodes = self.server.store().walk(&home).filter_map(|(path, value)| {
            let path = path.strip_prefix(&home)?.strip_prefix('/')?;
            Some((path.to_owned(), String::from_utf8(value.to_vec()).unwrap()))
        });
        nodes.collect()
    }

    /// Returns the nodes of the domain that have a value.
    pub(crate) fn nodes(&self) -> Nodes {
        let mut nodes = self.tree();
        nodes.retain(|_, value| !value.is_empty());
        nodes
    }

    /// Returns the nodes of the domain that have neither a value nor children.
    pub(crate) fn empty_nodes(&self) -> Vec<String> {
        let tree = self.tree();
        let has_children = |path: &str| {
            let below = format!("{path}/");
            tree.keys().any(|other| other.starts_with(&below))
        };
        tree.iter()
            .filter(|(path, value)| value.is_empty() && !has_children(path))
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// Returns the kind and path of each request of the guest since the last call.
    pub(crate) fn take_requests(&mut self) -> Vec<(MessageKind, String)> {
        let domain = self.domain;
        let requests = self.store().take_requests().into_iter();
        requests
            .filter(|request| request.domain == domain)
            .map(|request| (request.kind, request.path))
            .collect()
    }

    pub(crate) fn requests(&self, kind: MessageKind) -> usize {
        self.server.store().request_count_of_kind(self.domain, kind)
    }

    pub(crate) fn all_requests(&self) -> usize {
        self.server.store().request_count(self.domain)
    }

    pub(crate) fn set_address(&mut self, last: u8) {
        self.agent.update(|guest| {
            let interface = guest.interfaces.get_mut(&2).unwrap();
            interface.addresses[0].ip = IpAddr::from([10, 0, 1, last]);
            true
        });
    }

    pub(crate) fn set_addresses(&mut self, addresses: Vec<Address>) {
        self.agent.update(|guest| {
            guest.interfaces.get_mut(&2).unwrap().addresses = addresses;
            true
        });
    }

    /// Returns the nodes that the agent owns, without parent nodes, whose values nobody reads.
    pub(crate) fn published(&self) -> BTreeMap<String, String> {
        let home = self.home();
        let nodes: Vec<_> = self.server.store().walk(&home).collect();
        let owned = nodes.iter().enumerate().filter_map(|(index, (path, value))| {
            let node = path.strip_prefix(&home)?.strip_prefix('/')?;
            let path = Path::new(node).unwrap();
            let is_above = nodes.get(index + 1).is_some_and(|(next, _)| next.starts_with(&format!("{home}/{node}/")));
            let is_owned = LAYOUT.claims.iter().any(|claim| claim.owns(&path));
            let is_address = matches!(node.rsplit_once('/'), Some((above, _)) if above.ends_with("/ipv4") || above.ends_with("/ipv6"));
            (is_owned && (!is_above || is_address))
                .then(|| (node.to_owned(), String::from_utf8(value.to_vec()).unwrap()))
        });
        owned.collect()
    }

    /// Returns the desired nodes that are not published, except for those that the server denies.
    pub(crate) fn unpublished(&self) -> impl Iterator<Item = &Path> {
        self.agent.over_quota().chain(self.agent.deferred())
    }

    /// Returns the nodes that the agent should publish.
    pub(crate) fn expected(&self, functions: &BTreeMap<u32, Mac>) -> BTreeMap<String, String> {
        let guest = Guest {
            virtual_functions: functions.clone(),
            ..self.agent.guest().clone()
        };
        let tree = Schema::default().render(&guest);
        tree.into_iter()
            .map(|(path, value)| (path.to_string(), value))
            .collect()
    }
}

/// Returns the nodes as readers understand them: without dates and without slot numbers.
pub(crate) fn meaning(nodes: &BTreeMap<String, String>) -> BTreeSet<String> {
    let one = |(path, value): (&String, &String)| {
        let parts: Vec<_> = path.split('/').collect();
        let (address, rest) = match parts[..] {
            ["data", "updated"] => return "data/updated".to_owned(),
            ["attr", "vif", _, "ipv4" | "ipv6", ..] if parts.len() > 4 => parts.split_at(5),
            ["xenserver", "attr", "net-sriov-vf", _, "ipv4" | "ipv6", ..] if parts.len() > 5 => {
                parts.split_at(6)
            }
            _ => return format!("{path} = {value}"),
        };
        let ip = nodes.get(&address.join("/")).map_or("none", String::as_str);
        let above = address[..address.len() - 1].join("/");
        format!("{above}/{ip} {} = {value}", rest.join("/"))
    };
    nodes.iter().map(one).collect()
}
