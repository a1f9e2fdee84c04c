//! The store that a body is run against.

use std::fmt::Debug;

use system_tests::{Daemon, Guest, Toolstack, Xenstored};
use xenstore::embedded::{self, Running};
use xenstore::{DomId, Error, Result, Transport};

use crate::client::{Calls, Client};

/// A store of the body's own, in which it is domain 0 or a guest of xapi.
pub(crate) struct Testbed {
    calls: Calls,
    domain: DomId,
    server: Server,
}

enum Server {
    Embedded(Running),
    Daemon { guest: Guest, xenstored: Xenstored },
}

/// The guest there always is; as domain 0, a body has it for company.
pub(crate) const GUEST: DomId = 5;

impl Testbed {
    pub(crate) fn embedded(calls: Calls, domain: DomId) -> Self {
        let mut store = embedded::Store::new();
        store.introduce_guest(GUEST, embedded::Toolstack::Xapi);
        Testbed {
            calls,
            domain,
            server: Server::Embedded(embedded::Server::new(store).spawn().unwrap()),
        }
    }

    pub(crate) fn daemon(daemon: Daemon, calls: Calls, domain: DomId) -> Self {
        let xenstored = Xenstored::start(daemon);
        let guest = xenstored.guest(GUEST, Toolstack::Xapi);
        Testbed {
            calls,
            domain,
            server: Server::Daemon { guest, xenstored },
        }
    }

    /// Another client of the body's domain.
    pub(crate) fn client(&self) -> Client {
        self.client_of(self.domain)
    }

    /// A client of domain 0 or of the guest.
    pub(crate) fn client_of(&self, domain: DomId) -> Client {
        Client::new(
            self.calls,
            match &self.server {
                Server::Embedded(server) => server.connect(domain).unwrap().into(),
                Server::Daemon { xenstored, .. } if domain == 0 => {
                    Transport::connect(xenstored.socket()).unwrap()
                }
                Server::Daemon { guest, .. } => Transport::connect(guest.socket()).unwrap(),
            },
        )
    }

    /// Lets a domain come and go.
    pub(crate) fn pass_by(&self, domain: DomId) {
        match &self.server {
            Server::Embedded(server) => server.with(|server| {
                server.store_mut().introduce(domain);
                server.store_mut().release(domain);
            }),
            Server::Daemon { xenstored, .. } => drop(xenstored.guest(domain, Toolstack::None)),
        }
    }

    pub(crate) fn domain(&self) -> DomId {
        self.domain
    }

    pub(crate) fn is_guest(&self) -> bool {
        self.domain != 0
    }

    /// Whether it is oxenstored; the embedded store takes after C xenstored.
    pub(crate) fn is_oxenstored(&self) -> bool {
        matches!(&self.server, Server::Daemon { xenstored, .. } if xenstored.daemon() == Daemon::OCaml)
    }

    /// What it is on C xenstored, or on oxenstored.
    pub(crate) fn either<T>(&self, c: T, ocaml: T) -> T {
        if self.is_oxenstored() { ocaml } else { c }
    }

    /// Where the body's relative paths start.
    pub(crate) fn home(&self) -> String {
        format!("/local/domain/{}", self.domain)
    }
}

/// The name of the server's error.
#[track_caller]
pub(crate) fn refusal<T: Debug>(result: Result<T>) -> String {
    match result {
        Err(Error::Refused { code, .. }) => code.name().to_owned(),
        other => panic!("the server was to refuse it, and not: {other:?}"),
    }
}

/// The events that a client has been sent by now, as path and token.
///
/// A server sends a client its events and its replies in order, so with the reply to one more request all events are
/// there that were due before it.
pub(crate) fn events(client: &mut Client) -> Vec<(String, String)> {
    client.domain_path(0).unwrap();
    let mut events = Vec::new();
    while let Some(event) = client
        .next_watch_event(Some(std::time::Duration::ZERO))
        .unwrap()
    {
        events.push((event.path.to_string(), event.token));
    }
    events
}

/// As `events`, of a client that only has watches with one token, by path.
#[track_caller]
pub(crate) fn event_paths(client: &mut Client) -> Vec<String> {
    let events = events(client);
    assert!(
        events.windows(2).all(|two| two[0].1 == two[1].1),
        "{events:?}"
    );
    events.into_iter().map(|(path, _)| path).collect()
}
