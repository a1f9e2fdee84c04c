//! Xenstore in pure Rust: a client for programs in a guest or in dom0, and an in-memory store for their tests.
//!
//! Xenstore is the small hierarchical key/value store that a Xen host shares with its guests. [`Client`] reads and writes
//! it with calls that wait for their reply; [`Connection`] is the non-blocking core under it, for programs with a
//! poll(2) loop of their own. Neither needs a C library.
//!
//! ```no_run
//! # fn main() -> xenstore::Result<()> {
//! let mut client = xenstore::Client::open()?;
//! client.write("data/hello", "world")?;
//! assert_eq!(client.read("data/hello")?, b"world");
//! client.watch("data", "token")?;
//! while let Some(event) = client.next_watch_event(None)? {
//!     println!("{} changed", event.path);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `embedded` there is a store with Xenstore's semantics in memory, and a server for it, for tests and
//! try-outs without Xen.

mod client;
mod connection;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod error;
pub mod path;
pub mod permission;
mod request;
mod transport;
pub mod wire;

pub use client::{Client, Transaction};
pub use connection::{Connection, Event, RequestId, WatchEvent};
pub use error::{Error, ErrorCode, Result};
pub use path::{InvalidPath, Path};
pub use permission::{Access, DomId, Permission};
pub use request::{Request, TransactionId};
pub use transport::Transport;
