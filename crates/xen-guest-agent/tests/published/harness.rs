//! An agent and a store in one thread and in simulated time.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use xen_guest_agent::agent::Agent;
use xen_guest_agent::guest::Guest;
use xen_guest_agent::schema::topology::Filter;
use xen_guest_agent::schema::{Name, Schema};
use xenstore::Connection;
use xenstore::embedded::{Server, Store, Toolstack};

pub(crate) const DOMAIN: u16 = 5;
const HOME: &str = "/local/domain/5";

/// Nodes by their paths below the domain's home.
pub(crate) type Nodes = BTreeMap<String, String>;

pub(crate) struct Harness {
    pub(crate) server: Server,
    pub(crate) agent: Agent,
    now: Duration,
}

impl Harness {
    /// A guest of xapi's with an agent that does not run yet: see [`start`](Self::start).
    pub(crate) fn new(guest: Guest, schema: Name) -> Self {
        let mut store = Store::new();
        store.introduce_guest(DOMAIN, Toolstack::Xapi);
        for (id, mac) in &guest.virtual_functions {
            store
                .write(
                    format!("{HOME}/xenserver/device/net-sriov-vf/{id}/mac"),
                    mac.to_string(),
                )
                .unwrap();
        }
        store.keep_requests(true);
        Harness {
            server: Server::new(store),
            agent: agent(guest, schema),
            now: Duration::from_secs(100),
        }
    }

    /// Has the agent connect, for the first time or again, and publish.
    pub(crate) fn start(&mut self) {
        let stream = self.server.connect(DOMAIN).unwrap();
        self.agent
            .connect(Ok(Connection::new(stream.into())), self.now);
        self.settle();
    }

    /// Ends the agent, and starts another in its place.
    pub(crate) fn restart(&mut self, schema: Name) {
        self.agent = agent(self.agent.guest().clone(), schema);
        self.start();
    }

    /// Lets agent and store talk until neither has anything to say.
    pub(crate) fn settle(&mut self) {
        loop {
            let before = self.server.store().requests(DOMAIN);
            for _ in 0..2 {
                self.agent
                    .advance(self.now, SystemTime::UNIX_EPOCH + self.now);
                self.server.process();
                self.agent.on_readable(self.now);
            }
            if self.server.store().requests(DOMAIN) == before {
                return;
            }
        }
    }

    /// Lets time pass, with all that the agent wants to do in it.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        while let Some(deadline) = self.agent.deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            if self.agent.wants_connection(self.now) {
                self.start();
            }
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    /// All of the domain's nodes, those too that only stand above others.
    pub(crate) fn tree(&self) -> Nodes {
        let nodes = self.server.store().walk(HOME).filter_map(|(path, value)| {
            let path = path.strip_prefix(HOME)?.strip_prefix('/')?;
            Some((path.to_owned(), String::from_utf8(value.to_vec()).unwrap()))
        });
        nodes.collect()
    }

    /// The domain's nodes that have a value.
    pub(crate) fn nodes(&self) -> Nodes {
        self.tree()
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect()
    }

    /// The nodes of the domain that have no value and nothing below.
    pub(crate) fn empty_nodes(&self) -> Vec<String> {
        let tree = self.tree();
        let is_above = |path: &str| {
            tree.keys().any(|other| {
                other
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.starts_with('/'))
            })
        };
        tree.iter()
            .filter(|(path, value)| value.is_empty() && !is_above(path))
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// Writes a node of the domain, as the toolstack or another agent would.
    pub(crate) fn write(&mut self, path: &str, value: &str) {
        self.server
            .store_mut()
            .write(format!("{HOME}/{path}"), value)
            .unwrap();
        self.server.process();
    }

    /// Removes a node of the domain, where it is.
    pub(crate) fn remove(&mut self, path: &str) {
        // That its parent may be missing is well.
        let _ = self.server.store_mut().remove(format!("{HOME}/{path}"));
        self.server.process();
    }

    /// What the guest asked for since this was last called: kind of request and path.
    pub(crate) fn take_requests(&mut self) -> Vec<(xenstore::wire::Kind, String)> {
        let requests = self.server.store_mut().take_requests().into_iter();
        requests
            .filter(|request| request.domain == DOMAIN)
            .map(|request| (request.kind, request.path))
            .collect()
    }
}

fn agent(guest: Guest, schema: Name) -> Agent {
    Agent::new(guest, Schema::new(schema, Filter::default()))
}
