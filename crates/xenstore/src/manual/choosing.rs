//! Choose a client, and the number of connections.
//!
//! | your program | use |
//! | --- | --- |
//! | does one thing at a time | [`Client`] |
//! | has several threads that use Xenstore | [`SharedClient`] |
//! | uses futures, on tokio or another runtime | [`AsyncClient`] |
//! | has an event loop of its own, which waits for descriptors | [`Connection`] |
//! | reaches the server in a way of its own | [`Channel`] with one of the above, or [`Session`] |
//!
//! All of them send the same [`Request`]s, so you can change your mind later. If you are not sure,
//! begin with [`Client`].
//!
//! # A blocking client
//!
//! A [`Client`] also suits programs that wait for changes. It queues the watch events that arrive
//! during other calls, and [`next_watch_event`] has a timeout for the other work of the program:
//!
//! ```
//! use std::time::Duration;
//! use xenstore::{Client, Nodes, Optional, escape};
//! # use xenstore::embedded::{Server, Store, Toolstack};
//! # let mut store = Store::new();
//! # store.introduce_guest(5, Toolstack::Xapi);
//! # let server = Server::new(store).spawn()?;
//!
//! // In a guest or in dom0, use `Client::open()?`.
//! let mut client = Client::new(server.connect(5)?.into());
//! client.set_time_limit(Some(Duration::from_secs(10)));
//! client.watch("control/shutdown")?;
//!
//! let mut wakeups = 0;
//! while wakeups < 3 {
//!     if client.next_watch_event(Some(Duration::from_millis(20)))?.is_some() {
//!         // The event names a node. Read its value now: it may have changed again.
//!         if let Some(reason) = client.read_text("control/shutdown").optional()? {
//!             println!("the toolstack wants: {}", escape(&reason));
//!         }
//!     }
//!     wakeups += 1;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! By default a call waits without limit for a server that does not reply. Set a
//! [timeout](crate::Client::set_time_limit) in programs that must not hang.
//!
//! # Several threads
//!
//! Share one connection by [`SharedClient`]. Other threads can call the client while one waits for
//! an event. Do not wrap a [`Client`] in a `Mutex`: a thread that waits in `next_watch_event` would
//! keep the lock.
//!
//! # Futures
//!
//! Clone an [`AsyncClient`] for each task. All clones share one connection, which a [`Driver`]
//! serves; on tokio, the client spawns it. You can drop any future at any time, so use the timeouts
//! and `select!` of your runtime:
//!
//! ```
//! use std::time::Duration;
//! use xenstore::{AsyncClient, AsyncNodes};
//! # use xenstore::embedded::{Server, Store, Toolstack};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut store = Store::new();
//! # store.introduce_guest(5, Toolstack::Xapi);
//! # let server = Server::new(store).spawn()?;
//! // In a guest or in dom0, use `AsyncClient::open()?`.
//! let client = AsyncClient::new(server.connect(5)?.into())?;
//! let mut changes = client.watch("data").await?;
//! client.write("data/hello", "world").await?;
//! loop {
//!     tokio::select! {
//!         event = changes.next_event() => println!("{} changed", event?.path),
//!         error = client.closed() => return Err(error.into()),
//!         () = tokio::time::sleep(Duration::from_millis(50)) => break,
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`WatchStream`] is also a `Stream` of futures-core, so that the adapters of other crates work
//! with it. A task that only writes learns from [`closed`] that the connection has ended. For smol
//! and other runtimes, see the end of [`event_loops`](super::event_loops).
//!
//! # Functions for every client
//!
//! A function that takes `&mut impl Nodes` serves a [`Client`], a reference to a [`SharedClient`],
//! and their transactions. [`AsyncNodes`] is the same for [`AsyncClient`], by a shared reference.
//! These traits have generic methods, so `dyn Nodes` is not possible. They do not begin transactions
//! or set watches: a function that does so takes one of the clients, or the caller begins the
//! transaction, as here:
//!
//! ```
//! use xenstore::{Client, Nodes, Result};
//! # use xenstore::embedded::{Server, Store, Toolstack};
//!
//! fn announce(nodes: &mut impl Nodes, version: &str) -> Result<()> {
//!     nodes.write("data/example/version", version)?;
//!     nodes.write("data/example/ready", "1")
//! }
//!
//! # let mut store = Store::new();
//! # store.introduce_guest(5, Toolstack::Xapi);
//! # let server = Server::new(store).spawn()?;
//! let mut client = Client::new(server.connect(5)?.into());
//! announce(&mut client, "1.0")?;
//! // Readers see both nodes of the new version, or none of them.
//! client.transaction(|transaction| announce(transaction, "1.1"))?;
//! assert_eq!(client.read("data/example/version")?, b"1.1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # One connection or two
//!
//! One connection is enough for almost all programs: it carries requests and events at the same
//! time. A second one costs a descriptor, but no thread. It helps in two cases:
//!
//! - On a kernel's device, only one request of a descriptor can be outstanding. A second descriptor
//!   lets an urgent request pass a long series of others.
//! - A second connection gets no events of the first one's watches, so a module can receive only
//!   its own events.
//!
//! A second connection does not help against quotas. In a guest, all connections of all processes
//! and the kernel's own use share one connection to the server, and the quotas of the domain; see
//! [`servers`](super::servers).
//!
//! # After an error
//!
//! Most errors concern one request, and the connection stays open. After a
//! [fatal](crate::Error::is_fatal) error the connection is closed, and all later calls return that
//! error. A program in dom0 opens a new connection, and sets the watches again. While xenstored
//! restarts, opening fails too, with an error that is also fatal:
//!
//! ```
//! use std::time::Duration;
//! use xenstore::{Client, Result};
//! # use xenstore::embedded::{Fault, Server, Store, Toolstack};
//! # let mut store = Store::new();
//! # store.introduce_guest(5, Toolstack::Xapi);
//! # store.inject(Fault::disconnect().after(2).times(1));
//! # let server = Server::new(store).spawn()?;
//!
//! fn serve(client: &mut Client) -> Result<()> {
//!     client.watch("data")?;
//!     // The work of the program.
//! #   for _ in 0..2 { xenstore::Nodes::list(client, "data")?; }
//!     Ok(())
//! }
//!
//! # let mut failures = vec![xenstore::Error::no_server("it restarts")];
//! # let mut open = || match failures.pop() {
//! #     Some(error) => Err(error),
//! #     None => Ok(Client::new(server.connect(5).unwrap().into())),
//! # };
//! loop {
//!     // Here, `open` connects to the embedded store. In dom0, use `Client::open()`.
//!     match open().and_then(|mut client| serve(&mut client)) {
//!         Err(error) if error.is_fatal() => {
//!             eprintln!("{error}; connecting again");
//!             std::thread::sleep(Duration::from_millis(100));
//!         }
//!         result => break result?,
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In a guest, the kernel has the one connection to the server. If the device fails, opening it
//! again does not help: exit with the error.
//!
//! A suspend or a migration closes no connection. The kernel sets the watches again, and each of
//! them fires. Use that as the signal to publish everything again, because the new domain may have
//! none of your nodes.
//!
//! [`AsyncClient`]: crate::AsyncClient
//! [`AsyncNodes`]: crate::AsyncNodes
//! [`Channel`]: crate::Channel
//! [`Client`]: crate::Client
//! [`closed`]: crate::AsyncClient::closed
//! [`Connection`]: crate::Connection
//! [`Driver`]: crate::asynchronous::Driver
//! [`next_watch_event`]: crate::Client::next_watch_event
//! [`Request`]: crate::Request
//! [`Session`]: crate::protocol::Session
//! [`SharedClient`]: crate::SharedClient
//! [`WatchStream`]: crate::asynchronous::WatchStream
