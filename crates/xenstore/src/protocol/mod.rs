//! The protocol without I/O, for programs that bring their own transport or event loop.
//!
//! [`Session`] encodes requests, assigns replies to them, fetches long lists in parts, and keeps
//! track of transactions. It has no descriptor and no clock, and never blocks: it takes received
//! bytes, and returns bytes to send. [`Connection`](crate::Connection) is a session with a
//! transport of this system, and the clients are built on that.
//!
//! ```
//! use xenstore::protocol::{Capabilities, Session};
//! use xenstore::{Event, Request, wire};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut session = Session::new("a socket", Capabilities::SOCKET);
//! let request = session.submit(Request::read("data/hello")?)?;
//!
//! // Send these bytes, and report how many of them were sent.
//! let sent = session.transmit().len();
//! session.transmitted(sent);
//!
//! // Pass what arrives to the session, in pieces of any size. At the end of the stream, call
//! // `disconnected`, and if the transport fails, `close`.
//! let mut received = Vec::new();
//! wire::encode(wire::MessageKind::READ, request.id().get(), 0, b"world", &mut received)?;
//! session.received(&received)?;
//! match session.next_event() {
//!     Some(Event::Reply { id, result }) if id == request.id() => {
//!         assert_eq!(request.parse(result)?, b"world");
//!     }
//!     other => panic!("{other:?}"),
//! }
//! # Ok(())
//! # }
//! ```

mod capabilities;
mod list_assembler;
mod pending;
mod replies;
mod session;

pub use capabilities::Capabilities;
pub use session::Session;
