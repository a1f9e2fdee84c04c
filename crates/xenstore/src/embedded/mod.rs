//! A Xenstore in memory, for tests, demos and try-outs without Xen.
//!
//! [`Store`] is the data: nodes, permissions, quotas, watches, transactions, domains. It does no I/O. [`Server`] gives
//! it Unix sockets, in a poll(2) loop of the caller's or, by [`Server::spawn`], in a thread of its own. Whoever connects
//! speaks the wire protocol and *is* the domain that the socket was made for, so that a guest's view can be had: its
//! permissions, its relative paths, its quotas, and what a migration looks like from inside.
//!
//! ```
//! use xenstore::Client;
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
//! The model is the C xenstored of Xen 4.17, down to the order of events and to which error is told to whom; the
//! requests that came later (features and quotas of a domain) follow the newest protocol text. What differs:
//!
//! - There is no hypervisor to ask: every domain exists, so no owner or permission is refused or ignored because
//!   its domain does not, and a domain is gone when it is released.
//! - A domain may have many connections, which share its quotas: they stand for what runs in the guest, with the guest's
//!   kernel between them and the server.
//! - Nothing depends on time: no limit on the rate of writes, and no event that is dropped because it waits too long.
//!   There is no quota of memory or of requests under way either.
//! - Numbers that are not numbers are EINVAL, where older servers take them for 0.

mod asker;
mod connection;
mod domain_requests;
mod domains;
#[cfg(feature = "faults")]
mod faults;
mod guest;
mod log;
mod nodes;
mod quotas;
mod requests;
mod running;
mod server;
mod store;
#[cfg(test)]
mod tests;
mod transaction;
mod tree;
mod watches;

pub use connection::ConnectionId;
#[cfg(feature = "faults")]
pub use faults::{Faults, Refusal};
pub use guest::Toolstack;
pub use log::LoggedRequest;
pub use quotas::Quotas;
pub use running::Running;
pub use server::Server;
pub use store::Store;
