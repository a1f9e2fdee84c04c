//! Xenstore in pure Rust: a client for programs in a guest or in dom0, and an in-memory store for their tests.
//!
//! Xenstore is the small hierarchical key/value store that a Xen host shares with its guests. [`Client`] reads and writes
//! it with calls that wait for their reply; [`Connection`] is the non-blocking core under it, for programs with a
//! poll(2) loop of their own. Neither needs a C library.
//!
//! ```
//! # #[cfg(feature = "embedded")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use xenstore::Client;
//! use xenstore::embedded::{Server, Store, Toolstack};
//!
//! // A store in memory, to try it anywhere. In a guest or in dom0: `Client::open()?`.
//! let mut store = Store::new();
//! store.introduce_guest(5, Toolstack::Xapi);
//! let server = Server::new(store).spawn()?;
//! let mut client = Client::new(server.connect(5)?.into());
//!
//! client.write("data/hello", "world")?;
//! assert_eq!(client.read("data/hello")?, b"world");
//! client.watch("data", "token")?;
//! let event = client.next_watch_event(None)?.expect("each watch fires when it is set");
//! assert_eq!(event.path.as_str(), "data");
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "embedded"))]
//! # fn main() {}
//! ```
//!
//! The features, none of which is on by default:
//!
//! - `embedded`: a store with Xenstore's semantics in memory, and a server for it, for tests and try-outs without Xen.
//! - `faults`: lets a test tell that store to misbehave.
//! - `tokio`: a client whose calls are futures, `AsyncClient`.
//!
//! # When something goes wrong
//!
//! Most errors are about one request: a node is not there, the domain may not write it, a quota is full. [`Error::code`] has
//! the server's reason, and the connection goes on. After those that [are fatal](Error::is_fatal) it does not: whatever
//! waits or is called later is told the same error. Open another connection then, after a while, and set the watches again,
//! which were the connection's.
//!
//! A suspend or a migration of the guest does not end a connection to the kernel's device. The kernel sets the watches again,
//! each of which then fires; a transaction that was open is lost, and [`Client::transaction`] starts it over.
//!
//! # What each transport supports
//!
//! | | Unix socket | Linux device | FreeBSD device | NetBSD device |
//! | --- | --- | --- | --- | --- |
//! | nodes, permissions, watches, transactions | yes | yes | yes | yes |
//! | longest payload, bytes | 4096 | 4080 | 4080 | 4080 |
//! | requests under way at a time | many | one | one | one |
//! | lists of more than 4096 bytes | C xenstored | as the server | no | as the server |
//! | requests about domains, `CONTROL`, quotas | domain 0 | domain 0 | release only | domain 0 |
//! | `RESET_WATCHES` | yes | not sent | not sent | not sent |
//! | `AsyncClient` | yes | yes | not tried | not tried |
//!
//! The tests run against C xenstored and oxenstored of Xen 4.17. What is said of FreeBSD and NetBSD comes from their
//! kernels' sources and was not run there.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "tokio")]
pub mod asynchronous;
mod calls;
mod client;
mod connection;
mod domain_requests;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod error;
mod event;
mod parts;
pub mod path;
#[cfg(test)]
mod peer;
pub mod permission;
mod request;
mod transport;
pub mod walk;
pub mod wire;

#[cfg(feature = "tokio")]
pub use asynchronous::AsyncClient;
pub use client::{Client, Transaction};
pub use connection::Connection;
pub use error::{Error, ErrorCode, Result};
pub use event::{Event, RequestId, WatchEvent};
pub use path::{InvalidPath, Path};
pub use permission::{Access, DomId, Permission};
pub use request::{Request, TransactionId};
pub use transport::Transport;
