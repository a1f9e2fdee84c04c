//! The server that a test body runs against.

use std::fmt::Debug;
use xenstore::{Nodes, Request};

use system_tests::{Daemon, Guest, Toolstack, Xenstored};
use xenstore::embedded::{self, Model, ServerHandle};
use xenstore::{Error, Result, Transport};

use crate::client::{Calls, Client};

/// A server for one test body, which acts as domain 0 or as a guest of xapi.
pub(crate) struct Testbed {
    calls: Calls,
    domain: u16,
    /// The model that the embedded server has, or that the daemon is held to.
    model: Model,
    server: Server,
}

enum Server {
    Embedded(ServerHandle),
    Daemon { guest: Guest, xenstored: Xenstored },
}

/// The guest that always exists.
pub(crate) const GUEST: u16 = 5;

impl Testbed {
    pub(crate) fn embedded(model: Model, calls: Calls, domain: u16) -> Self {
        let mut store = embedded::Store::with_model(model);
        store.introduce_guest(GUEST, embedded::Toolstack::Xapi);
        Testbed {
            calls,
            domain,
            model,
            server: Server::Embedded(embedded::Server::new(store).spawn().unwrap()),
        }
    }

    pub(crate) fn daemon(daemon: Daemon, calls: Calls, domain: u16) -> Self {
        let xenstored = Xenstored::start(daemon);
        let guest = xenstored.guest(GUEST, Toolstack::Xapi);
        Testbed {
            calls,
            domain,
            model: match daemon {
                Daemon::C => Model::CXenstored4_17,
                Daemon::OCaml => Model::Oxenstored4_17,
            },
            server: Server::Daemon { guest, xenstored },
        }
    }

    /// Connects another client of the body's domain.
    pub(crate) fn client(&self) -> Client {
        self.client_of(self.domain)
    }

    /// Connects a client of domain 0 or of the guest.
    pub(crate) fn client_of(&self, domain: u16) -> Client {
        Client::new(
            self.calls,
            match &self.server {
                Server::Embedded(server) => server.connect(domain).unwrap().into(),
                Server::Daemon { xenstored, .. } if domain == 0 => {
                    Transport::open_socket_at(xenstored.socket()).unwrap()
                }
                Server::Daemon { guest, .. } => Transport::open_socket_at(guest.socket()).unwrap(),
            },
        )
    }

    /// Creates and destroys a domain.
    pub(crate) fn pass_by(&self, domain: u16) {
        match &self.server {
            Server::Embedded(server) => server.with(|server| {
                server.store_mut().introduce(domain);
                server.store_mut().release(domain);
            }),
            Server::Daemon { xenstored, .. } => drop(xenstored.guest(domain, Toolstack::None)),
        }
    }

    /// Runs `body` while another domain exists.
    pub(crate) fn with_domain(&self, domain: u16, body: impl FnOnce()) {
        match &self.server {
            Server::Embedded(server) => {
                let toolstack = embedded::Toolstack::Xapi;
                server.with(|server| server.store_mut().introduce_guest(domain, toolstack));
                body();
                server.with(|server| server.store_mut().destroy_guest(domain));
            }
            Server::Daemon { xenstored, .. } => {
                let guest = xenstored.guest(domain, Toolstack::Xapi);
                body();
                drop(guest);
            }
        }
    }

    pub(crate) fn domain(&self) -> u16 {
        self.domain
    }

    pub(crate) fn is_guest(&self) -> bool {
        self.domain != 0
    }

    pub(crate) fn model(&self) -> Model {
        self.model
    }

    pub(crate) fn is_oxenstored(&self) -> bool {
        self.model == Model::Oxenstored4_17
    }

    /// Returns `ocaml` for oxenstored, and `c` for all other servers.
    pub(crate) fn either<T>(&self, c: T, ocaml: T) -> T {
        if self.is_oxenstored() { ocaml } else { c }
    }

    /// Returns the value for this server. No real server of Xen 4.22 ran these tests here: its
    /// figures were measured elsewhere in August 2026.
    pub(crate) fn by_model<T>(&self, xen_4_17: T, xen_4_22: T, oxenstored: T) -> T {
        match self.model {
            Model::CXenstored4_22 => xen_4_22,
            Model::Oxenstored4_17 => oxenstored,
            _ => xen_4_17,
        }
    }

    /// Returns the node at which the body's relative paths start.
    pub(crate) fn home(&self) -> String {
        format!("/local/domain/{}", self.domain)
    }
}

/// Returns the name of the server's error.
#[track_caller]
pub(crate) fn refusal<T: Debug>(result: Result<T>) -> String {
    match result {
        Err(Error::Refused { code, .. }) => code.name().to_owned(),
        other => panic!("expected an error of the server: {other:?}"),
    }
}

/// Returns the events that a client has been sent so far, as path and token.
///
/// A server keeps events and replies in order, so the reply to one more request comes after all
/// earlier events.
pub(crate) fn events(client: &mut Client) -> Vec<(String, String)> {
    client.call(Request::domain_path(0)).unwrap();
    let mut events = Vec::new();
    while let Some(event) = client
        .next_watch_event(Some(std::time::Duration::ZERO))
        .unwrap()
    {
        events.push((event.path.to_string(), event.token));
    }
    events
}

/// Like [`events`], but returns only the paths. All events must have the same token.
#[track_caller]
pub(crate) fn event_paths(client: &mut Client) -> Vec<String> {
    let events = events(client);
    assert!(
        events.windows(2).all(|two| two[0].1 == two[1].1),
        "{events:?}"
    );
    events.into_iter().map(|(path, _)| path).collect()
}
