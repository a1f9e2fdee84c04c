//! A Xenstore in memory, for tests and demonstrations without Xen (feature `embedded`).
//!
//! [`Store`] holds the data: nodes, permissions, quotas, watches, transactions and domains. It does
//! no I/O. [`Server`] serves a store on Unix sockets, either in a poll(2) loop of the caller or,
//! with [`Server::spawn`], in a thread. Clients speak the wire protocol. Each socket belongs to a
//! domain, and its clients act as that domain. So tests see what a guest sees: its permissions, its
//! relative paths, its quotas, and a migration from the inside.
//!
//! ```
//! use xenstore::{Client, Nodes};
//! use xenstore::embedded::{Server, Store, Toolstack};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut store = Store::new();
//! store.introduce_guest(5, Toolstack::Xapi);
//! let server = Server::new(store).spawn()?;
//!
//! let mut guest = Client::new(server.connect(5)?.into());
//! guest.write("data/hello", "world")?;
//! assert!(guest.write("memory/target", "1").is_err());
//!
//! server.with(|server| {
//!     let value = server.store().read("/local/domain/5/data/hello");
//!     assert_eq!(value, Some(b"world".as_slice()));
//! });
//! # Ok(())
//! # }
//! ```
//!
//! The store behaves like the C xenstored of Xen 4.17, including the order of events and the choice
//! of error codes. [`Store::with_model`] chooses another server. Differences from all of them:
//!
//! - There is no hypervisor to ask. Every domain number is valid as an owner or in permissions, and
//!   a domain ends only when it is released.
//! - A domain may have many connections, which share its quotas. They stand for the processes in
//!   the guest, whose kernel has the one real connection.
//! - Nothing depends on time: writes are not rate-limited, and no event is dropped because it
//!   waited too long. There are no quotas of memory or of outstanding requests.
//! - With every model, a commit fails if a node that the transaction used has changed. oxenstored
//!   also commits if the change would alter none of its replies.
//! - A malformed number is `EINVAL`, while older servers read it as 0.
//! - Under Xen 4.22, an entry for [`DomId::ANY`](crate::DomId::ANY) counts even if the domain that
//!   set it lacks the feature, and `GET_QUOTA` knows only seven of the ten names.
//! - oxenstored does not reply to a message without payload until another message follows. This
//!   store does.
//!
//! # Which `connect` to use
//!
//! - [`StoreChannel::new`] for a test that needs neither sockets nor threads.
//! - [`ServerHandle::connect`] for a test whose clients block: the server runs in a thread.
//! - [`Server::connect`] for a program that runs the server in its own poll(2) loop.
//! - [`Server::listen`] for clients of other processes, which connect to a socket file.
//! - [`Store::connect`] without sockets: [`Store::handle`] takes a request, and
//!   [`Store::take_output`] returns replies and events.
//!
//! [The manual](crate::manual::testing) has a test with each fault.

mod admin;
mod arguments;
mod caller;
#[cfg(unix)]
mod client;
mod connection;
mod domain;
mod domain_requests;
mod domains;
mod events;
mod fault;
mod faults;
mod guest;
mod held;
mod log;
mod model;
mod nodes;
mod quotas;
mod requests;
#[cfg(unix)]
mod running;
#[cfg(unix)]
mod server;
mod store;
mod store_channel;
#[cfg(test)]
mod tests;
mod transaction;
mod transactions;
mod tree;
mod watch;
mod watches;

pub use connection::ConnectionId;
pub use fault::{Fault, FaultId};
pub use guest::Toolstack;
pub use log::LoggedRequest;
pub use model::Model;
pub use quotas::Quotas;
#[cfg(unix)]
pub use running::ServerHandle;
#[cfg(unix)]
pub use server::{Interest, Server};
pub use store::Store;
pub use store_channel::StoreChannel;
