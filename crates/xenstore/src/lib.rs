//! Read, write and watch Xenstore, and test programs that do.
//!
//! Xenstore is the small hierarchical key-value store that a Xen host shares with its guests. Use
//! this library in a guest or in dom0. It is written in Rust alone, so you need no library of Xen.
//!
//! ```
//! # #[cfg(feature = "embedded")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use xenstore::{Client, Nodes};
//! use xenstore::embedded::{Server, Store, Toolstack};
//!
//! // This store in memory works everywhere. In a guest or in dom0, use `Client::open()?`.
//! // `connect` returns a socket, of which `into` makes a `Transport`.
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
//! # Where to go from here
//!
//! | you want to | see |
//! | --- | --- |
//! | choose between [`Client`], [`SharedClient`], [`AsyncClient`] and [`Connection`] | [manual: choosing](manual::choosing) |
//! | read, write, list and remove nodes | [`Nodes`], [`AsyncNodes`] |
//! | send other requests, or several at once | [`Request`], [`Nodes::call`], [`Nodes::pipeline`] |
//! | read a whole tree | [`Nodes::walk`], [`walk`] |
//! | wait in an event loop of your own | [`Connection`], [manual: event loops](manual::event_loops) |
//! | bring your own I/O | [`Channel`], [`protocol::Session`], [`wire`] |
//! | change several nodes at once | [manual: transactions](manual::transactions) |
//! | decide who may read and write a node | [`Permissions`], [manual: permissions](manual::permissions) |
//! | follow the domains of a host from dom0 | [`Domains`], [manual: domains](manual::domains) |
//! | test without Xen, or with a faulty server | [`embedded`], [manual: testing](manual::testing) |
//! | know the limits of servers and kernels | [manual: servers](manual::servers) |
//! | port a program from libxenstore, xenstore-rs or pyxs | [manual: coming from](manual::coming_from) |
//!
//! The [`manual`] has all pages.
//!
//! # Features
//!
//! No feature is enabled by default.
//!
//! - `embedded`: [`embedded`], a store in memory with Xenstore's semantics, and a server for it.
//! - `async`: [`asynchronous`], a client whose calls are futures, for any runtime.
//! - `tokio`: [`AsyncClient::open`] and [`AsyncClient::new`], which run that client on tokio.
//!   Enables `async`.
//!
//! # Errors
//!
//! Most errors concern a single request: a node does not exist, the domain may not write it, or a
//! quota is reached. The message says what the server's error code means for the request. Use
//! [`Optional::optional`], [`Error::is_denied`], [`Error::is_quota_exceeded`] and
//! [`Error::is_conflict`], or compare [`Error::code`]. The connection stays open, also after a [timeout](Client::set_time_limit).
//! A [fatal](Error::is_fatal) error closes the connection: all pending requests and all later calls
//! return that error. [`manual::choosing`](manual::choosing#after-an-error) shows how to open a new
//! connection, and says what happens at a suspend or a migration.
//!
//! # Text from the store
//!
//! Other domains choose values, and a server can choose any name. Pass such text through [`escape`]
//! before you print or log it. Error messages contain no unescaped text of the server.
//!
//! # Logging
//!
//! The library logs through the crate [`log`](https://docs.rs/log) with the target `xenstore`. It
//! logs the start and the end of each connection at `debug`, and each request, reply and watch
//! event at `trace`. It never logs values.

#![cfg_attr(docsrs, feature(doc_cfg))]
// The documentation names items of all features, and of Unix systems.
#![cfg_attr(
    not(all(feature = "embedded", feature = "tokio", unix)),
    allow(rustdoc::broken_intra_doc_links)
)]
#![cfg_attr(
    not(unix),
    allow(dead_code, reason = "the clients, which need Unix, use it")
)]

#[cfg(all(feature = "async", unix))]
pub mod asynchronous;
mod channel;
#[cfg(unix)]
mod client;
#[cfg(unix)]
mod connection;
mod depth;
mod domain_requests;
#[cfg(unix)]
mod domains;
mod domid;
#[cfg(feature = "embedded")]
pub mod embedded;
mod error;
mod escape;
mod event;
mod features;
mod logging;
// Its examples need all features. Without them, tests leave it out.
#[cfg(all(
    doc,
    any(not(doctest), all(feature = "embedded", feature = "tokio", unix))
))]
#[cfg_attr(docsrs, doc(auto_cfg = false))]
pub mod manual;
mod node_requests;
mod nodes;
mod path;
#[cfg(all(test, unix))]
mod peer;
mod permission;
pub mod protocol;
// Its example must compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
mod reply;
mod request;
#[cfg(unix)]
mod shared;
#[cfg(unix)]
mod socket;
mod submitted;
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
pub use depth::Depth;
#[cfg(unix)]
pub use domains::{DomainEvent, Domains};
pub use domid::{DomId, InvalidDomId};
pub use error::{Error, ErrorCode, Optional, Result};
pub use escape::escape;
pub use event::{Event, RequestId, WatchEvent, WatchId};
pub use features::Features;
pub use nodes::{AsyncNodes, Nodes};
pub use path::{InvalidPath, Path};
pub use permission::{Access, InvalidPermission, Permission, Permissions};
pub use request::{Request, TransactionId};
#[cfg(unix)]
pub use shared::SharedClient;
pub use submitted::Submitted;
#[cfg(unix)]
pub use transaction::{Transaction, Transactional};
#[cfg(unix)]
pub use transport::Transport;
