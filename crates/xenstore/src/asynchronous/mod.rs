//! Client for programs that run on tokio (feature `tokio`).
//!
//! [`AsyncClient`] can be cloned, so that many tasks share one connection. A task of its own, the
//! driver, sends and receives. It runs on the runtime in which the client is created, which must
//! have I/O enabled. It ends, and closes the connection, when the last client, [`WatchStream`] and
//! transaction is dropped. There are no threads. A runtime that does not run, such as a
//! `current_thread` runtime outside of `block_on`, does not serve the connection either.
//!
//! You can drop any future of this module at any time. If it was polled once and the connection
//! stays open, its request is performed anyway, and the reply is discarded. An open transaction is
//! aborted, unless its commit was already requested. The connection stays open, and no other task
//! loses a watch event. The request of a dropped future still occupies memory until its reply
//! arrives: if you keep dropping unanswered requests and sending new ones, they accumulate.
//!
//! A kernel's device allows only one outstanding request. Further requests wait for their turn, in
//! order. A Linux kernel before 4.11 waits for the reply inside write(2), which blocks the driver's
//! thread.

mod client;
mod driver;
#[cfg(all(test, feature = "embedded"))]
mod tests;
mod transaction;
mod watch;

pub use self::client::AsyncClient;
pub use self::transaction::AsyncTransaction;
pub use self::watch::WatchStream;
