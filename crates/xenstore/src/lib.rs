//! A pure Rust client for Xenstore, and a Xenstore in memory for tests.
//!
//! Xenstore is the small hierarchical key-value store that a Xen host shares with its guests.
//! Programs use this library in a guest or in dom0. No C library is needed.
//!
//! | type | for programs that |
//! | --- | --- |
//! | [`Client`] | wait for each reply |
//! | [`SharedClient`] | use one connection in several threads |
//! | `AsyncClient` (feature `async`) | use futures, on any runtime |
//! | [`Connection`] | have an event loop: poll(2), epoll(7) or the crate `mio` |
//! | [`protocol::Session`] | bring their own I/O, or none |
//!
//! The calls about nodes are in the trait [`Nodes`], for clients and transactions alike; those of
//! `AsyncClient` are in [`AsyncNodes`]. Each of them is a shorthand for a [`Request`], which also
//! knows the type of its reply. Requests without a shorthand, such as those about domains, are sent
//! with [`Nodes::call`].
//!
//! ```
//! # #[cfg(feature = "embedded")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use xenstore::{Client, Nodes};
//! use xenstore::embedded::{Server, Store, Toolstack};
//!
//! // This store in memory works everywhere. In a guest or in dom0, use `Client::open()?`.
//! let mut store = Store::new();
//! store.introduce_guest(5, Toolstack::Xapi);
//! let server = Server::new(store).spawn()?;
//! let mut client = Client::new(server.connect(5)?.into());
//!
//! client.write("data/hello", "world")?;
//! assert_eq!(client.read("data/hello")?, b"world");
//!
//! client.watch("data")?;
//! let event = client.next_watch_event(None)?.expect("each watch fires when it is set");
//! assert_eq!(event.path.as_str(), "data");
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "embedded"))]
//! # fn main() {}
//! ```
//!
//! # Features
//!
//! No feature is enabled by default.
//!
//! - `embedded`: a store in memory with Xenstore's semantics, and a server for it, so that tests
//!   and demonstrations need no Xen. Tests can inject faults into it.
//! - `async`: `AsyncClient`, whose calls are futures. The program gives its runtime a driver, and
//!   the driver a way to wait for the descriptor.
//! - `tokio`: does both for tokio, so that `AsyncClient::open` is enough. Enables `async`.
//!
//! # Errors
//!
//! Most errors concern a single request: a node does not exist, the domain may not write it, or a
//! quota is reached. The message says what the server's error code means for the request. Programs
//! use [`Optional::optional`], [`Error::is_denied`] and [`Error::is_quota_exceeded`], or compare
//! [`Error::code`]. The connection stays open, also after a [time limit](Client::set_time_limit).
//! A [fatal](Error::is_fatal) error closes the connection: all pending requests and all later calls
//! return that error. To continue, wait a moment, open a new connection, and set the watches again.
//!
//! A suspend or a migration of the guest does not close a connection to the kernel's device. The
//! kernel sets the watches again, and each of them fires. Open transactions are lost.
//! [`Client::transaction`] repeats them, and programs that use [`Request::begin`] must do that
//! themselves.
//!
//! # Text from the store
//!
//! Other domains choose values, and a server can choose any name. [`escape`] makes such text safe
//! for terminals and logs. Error messages contain no unescaped text of the server.
//!
//! # Logging
//!
//! The library logs through the crate [`log`](https://docs.rs/log) with the target `xenstore`. It
//! logs the start and the end of each connection at `debug`, and each request, reply and watch
//! event at `trace`. It never logs values.
//!
//! # Transports
//!
//! [`Transport`] opens the Unix socket of a server or the kernel's device. Each kernel carries only
//! some requests. The library does not send requests that [`protocol::Capabilities`] excludes; they
//! fail with [`Error::InvalidRequest`]. If the kernel refuses another one, the error is
//! [`Error::NotSent`].
//!
//! | | Unix socket | Linux device | FreeBSD device | NetBSD device |
//! | --- | --- | --- | --- | --- |
//! | nodes, permissions, transactions | yes | yes | yes | yes |
//! | watches | yes | yes | yes | no |
//! | maximum payload, bytes | 4096 | 4080 | 4080 | 4080 |
//! | outstanding requests | many | one | one | one |
//! | lists of more than 4096 bytes | C xenstored | if the server does | no | no |
//! | requests about domains, `CONTROL`, quotas | domain 0 | domain 0 | `RELEASE` only | domain 0 |
//! | `RESET_WATCHES` | yes | not sent | not sent | not sent |
//! | poll(2), `SharedClient`, `AsyncClient` | yes | yes | untested | no |
//!
//! NetBSD's device refuses `WATCH`, `UNWATCH` and `DIRECTORY_PART`. It replies within write(2), and
//! does not support poll(2). A [`Client`] takes the reply at once, so that its time limit has no
//! effect there. OpenBSD is not supported, because its device does not carry the protocol: it has
//! only calls of ioctl(2) that read and write single values. For this or another transport,
//! implement [`Channel`].
//!
//! The tests run against C xenstored and oxenstored of Xen 4.17. The columns for FreeBSD and NetBSD
//! come from the sources of their kernels and are untested.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(all(feature = "async", unix))]
pub mod asynchronous;
mod channel;
#[cfg(unix)]
mod client;
#[cfg(unix)]
mod connection;
mod domain_requests;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod error;
mod escape;
mod event;
mod features;
mod list_assembler;
mod logging;
mod meaning;
mod nodes;
pub mod path;
#[cfg(all(test, unix))]
mod peer;
pub mod permission;
pub mod protocol;
mod reply;
mod request;
#[cfg(unix)]
mod shared;
#[cfg(unix)]
mod socket;
#[cfg(unix)]
mod transaction;
#[cfg(unix)]
mod transport;
pub mod walk;
pub mod wire;

#[cfg(all(feature = "async", unix))]
pub use asynchronous::AsyncClient;
pub use channel::Channel;
#[cfg(unix)]
pub use client::Client;
#[cfg(unix)]
pub use connection::{Connection, Received};
pub use error::{Error, ErrorCode, Optional, Result};
pub use escape::escape;
pub use event::{Event, RequestId, WatchEvent, WatchId};
pub use features::Features;
pub use nodes::{AsyncNodes, Nodes};
pub use path::{InvalidPath, Path};
pub use permission::{Access, DomId, InvalidDomId, InvalidPermission, Permission};
pub use request::{Request, TransactionId};
#[cfg(unix)]
pub use shared::SharedClient;
#[cfg(unix)]
pub use transaction::{Transaction, Transactional};
#[cfg(unix)]
pub use transport::Transport;
