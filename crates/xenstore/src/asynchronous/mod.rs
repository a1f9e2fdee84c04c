//! Client whose calls are futures (feature `async`).
//!
//! [`AsyncClient`] can be cloned, so that many tasks share one connection. A future of its own, the
//! [`Driver`], sends and receives. With the feature `tokio`, `AsyncClient::open` and
//! `AsyncClient::new` spawn it on the current tokio runtime, which must have I/O enabled. On other
//! runtimes, create both by [`AsyncClient::with_driver`]. The driver ends, and closes the
//! connection, when the last client, [`WatchStream`] and transaction is dropped. There are no
//! threads. A runtime that does not run, such as tokio's `current_thread` runtime outside of
//! `block_on`, does not serve the connection either.
//!
//! You can drop any future of this module at any time. A request that was not sent yet is then not
//! sent. If it was sent, its reply is discarded. An open transaction is aborted, unless its commit
//! was already requested. The connection stays open, and no other task loses a watch event.
//!
//! A kernel's device allows only one outstanding request. Further requests wait for their turn, in
//! order. Some kernels wait for the reply inside write(2), which blocks the driver's thread, or do
//! not support poll(2); see [the manual](crate::manual::servers#transports).

mod client;
mod domains;
mod driver;
mod readiness;
#[cfg(all(test, feature = "embedded", feature = "tokio"))]
mod tests;
#[cfg(feature = "tokio")]
mod tokio_client;
mod transaction;
mod watch;

pub use self::client::AsyncClient;
pub use self::domains::DomainStream;
pub use self::driver::Driver;
pub use self::readiness::{Attempt, Readiness};
pub use self::transaction::{AsyncTransaction, Commit};
pub use self::watch::WatchStream;
