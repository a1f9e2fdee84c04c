//! Test your program without Xen.
//!
//! The feature `embedded` has a store in memory, [`Store`], which behaves like a server: it has
//! permissions, quotas, watches, transactions and domains. Enable the feature for tests only:
//!
//! ```toml
//! [dependencies]
//! xenstore-client = "0.1"
//!
//! [dev-dependencies]
//! xenstore-client = { version = "0.1", features = ["embedded"] }
//! ```
//!
//! # Choose how to connect
//!
//! | your code | connect it by |
//! | --- | --- |
//! | takes any [`Nodes`], or a `Client<C>` of any channel | [`StoreChannel`]: no threads, no sockets |
//! | takes a [`Client`], [`SharedClient`] or [`AsyncClient`] | [`ServerHandle::connect`]: the server has a thread |
//! | opens its own connection, as programs do | [`Server::listen`], and the variable `XENSTORED_PATH` |
//!
//! # Deterministic tests
//!
//! With a [`StoreChannel`], replies and events are there as soon as their cause was sent, and a
//! client that would wait for more returns at once. So a test needs neither timeouts nor sleeps:
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use xenstore::embedded::{Store, StoreChannel, Toolstack};
//! use xenstore::{Client, DomId, Nodes, Result};
//!
//! /// The code under test.
//! fn publish(nodes: &mut impl Nodes) -> Result<()> {
//!     nodes.write("data/os_name", "Example")?;
//!     nodes.write("data/updated", "1")
//! }
//!
//! let store = Arc::new(Mutex::new(Store::new()));
//! store.lock().unwrap().introduce_guest(5, Toolstack::Xapi);
//! let mut guest = Client::with_channel(StoreChannel::new(store.clone(), 5));
//! // The toolstack watches.
//! let mut dom0 = Client::with_channel(StoreChannel::new(store.clone(), DomId::DOM0));
//! dom0.watch("/local/domain/5/data")?;
//!
//! publish(&mut guest)?;
//! let mut changes = Vec::new();
//! while let Some(event) = dom0.next_watch_event(None)? {
//!     changes.push(event.path.name().to_owned());
//! }
//! // The first event reports that the watch is set.
//! assert_eq!(changes, ["data", "os_name", "updated"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Do not keep the lock of the store during a call of a client: the call waits for that lock.
//!
//! # Look into the store
//!
//! The methods of [`Store`] act as domain 0, without a connection: `read`, `write`, `remove`,
//! `list`, `walk`, `permissions`. [`ServerHandle::with`] calls them while the server runs.
//! [`Store::keep_requests`] records the requests, so that a test can count them:
//!
//! ```
//! use xenstore::embedded::{LoggedRequest, Server, Store, Toolstack};
//! use xenstore::wire::MessageKind;
//! use xenstore::{Client, Nodes};
//!
//! let mut store = Store::new();
//! store.introduce_guest(5, Toolstack::Xapi);
//! store.keep_requests(true);
//! let server = Server::new(store).spawn()?;
//! let mut client = Client::new(server.connect(5)?.into());
//! client.write("data/a", "1")?;
//!
//! server.with(|server| {
//!     assert_eq!(server.store().read("/local/domain/5/data/a"), Some(&b"1"[..]));
//!     let requests = server.store_mut().take_requests();
//!     assert_eq!(requests, [LoggedRequest::new(5, MessageKind::WRITE, "data/a")]);
//! });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Other servers
//!
//! [`Store::with_model`] imitates another server: its limits and its error codes. Run a test with
//! each [`Model`], if your program looks at error codes. [`Store::quotas`] sets smaller limits, so
//! that a test reaches them quickly:
//!
//! ```
//! use xenstore::embedded::{Model, Server, Store, Toolstack};
//! use xenstore::{Client, ErrorCode, Nodes};
//!
//! for (model, code) in [
//!     (Model::CXenstored4_17, ErrorCode::ENOSPC),
//!     (Model::CXenstored4_22, ErrorCode::ENOSPC),
//!     (Model::Oxenstored4_17, ErrorCode::EQUOTA),
//! ] {
//!     let mut store = Store::with_model(model);
//!     store.introduce_guest(5, Toolstack::Xapi);
//!     store.quotas.nodes = store.node_count(5) + 1;
//!     let server = Server::new(store).spawn()?;
//!     let mut client = Client::new(server.connect(5)?.into());
//!
//!     client.write("data/a", "1")?;
//!     let error = client.write("data/b", "1").unwrap_err();
//!     assert_eq!(error.code(), Some(&code));
//!     assert!(error.is_quota_exceeded());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Migration
//!
//! [`Server::migrate`] shows a guest a migration from the inside: the domain ID changes, the tree
//! is new, transactions are lost, and each watch fires.
//!
//! ```
//! use xenstore::embedded::{Server, Store, Toolstack};
//! use xenstore::{Client, Nodes};
//!
//! let mut store = Store::new();
//! store.introduce_guest(5, Toolstack::Xapi);
//! let server = Server::new(store).spawn()?;
//! let mut client = Client::new(server.connect(5)?.into());
//! client.watch("domid")?;
//! client.next_watch_event(None)?;
//! client.write("data/published", "1")?;
//!
//! server.with(|server| {
//!     server.store_mut().introduce_guest(6, Toolstack::Xapi);
//!     server.migrate(5, 6);
//! });
//! client.next_watch_event(None)?;
//! assert_eq!(client.read("domid")?, b"6");
//! assert!(client.read("data/published").unwrap_err().is_not_found());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Faults
//!
//! [`Store::inject`] puts a [`Fault`] into effect. Limit it to a domain ([`of`]), to a kind of
//! request ([`of_kind`]), to a node ([`at`]), or to some occasions ([`after`], [`times`]).
//! [`Store::remove_fault`] ends it.
//!
//! | fault | tests that your program |
//! | --- | --- |
//! | [`refuse`] | handles an error of one request |
//! | [`conflict`] | repeats transactions, and has no side effects in the body |
//! | [`fill_node_quota`] | handles a full quota |
//! | [`disconnect`], [`cut_reply`] | connects again |
//! | [`hold_replies`] | sets a timeout for calls |
//! | [`delay_replies`], [`reverse_replies`] | does not rely on the order of replies and events |
//! | [`drop_events`] | also finds changes whose event is lost |
//! | [`watch_replies_without_id`] | works on Linux, if you speak the protocol yourself |
//!
//! The examples below have this in common:
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use xenstore::Client;
//! use xenstore::embedded::{Fault, Store, StoreChannel, Toolstack};
//!
//! /// Returns a store, and a client of a guest.
//! fn guest() -> (Arc<Mutex<Store>>, Client<StoreChannel>) {
//!     let mut store = Store::new();
//!     store.introduce_guest(5, Toolstack::Xapi);
//!     let store = Arc::new(Mutex::new(store));
//!     (store.clone(), Client::with_channel(StoreChannel::new(store, 5)))
//! }
//! ```
//!
//! Refuse the second write:
//!
//! ```
//! # use std::sync::{Arc, Mutex};
//! # use xenstore::Client;
//! # use xenstore::embedded::{Fault, Store, StoreChannel, Toolstack};
//! # fn guest() -> (Arc<Mutex<Store>>, Client<StoreChannel>) {
//! #     let mut store = Store::new();
//! #     store.introduce_guest(5, Toolstack::Xapi);
//! #     let store = Arc::new(Mutex::new(store));
//! #     (store.clone(), Client::with_channel(StoreChannel::new(store, 5)))
//! # }
//! use xenstore::wire::MessageKind;
//! use xenstore::{ErrorCode, Nodes};
//!
//! let (store, mut client) = guest();
//! let fault = Fault::refuse(ErrorCode::EACCES).of_kind(MessageKind::WRITE).after(1).times(1);
//! store.lock().unwrap().inject(fault);
//! client.write("data/a", "1")?;
//! assert!(client.write("data/b", "1").unwrap_err().is_denied());
//! client.write("data/b", "1")?;
//! # Ok::<(), xenstore::Error>(())
//! ```
//!
//! Let three commits conflict, or all of them:
//!
//! ```
//! # use std::sync::{Arc, Mutex};
//! # use xenstore::Client;
//! # use xenstore::embedded::{Fault, Store, StoreChannel, Toolstack};
//! # fn guest() -> (Arc<Mutex<Store>>, Client<StoreChannel>) {
//! #     let mut store = Store::new();
//! #     store.introduce_guest(5, Toolstack::Xapi);
//! #     let store = Arc::new(Mutex::new(store));
//! #     (store.clone(), Client::with_channel(StoreChannel::new(store, 5)))
//! # }
//! use xenstore::Nodes;
//!
//! let (store, mut client) = guest();
//! store.lock().unwrap().inject(Fault::conflict().times(3));
//! let mut runs = 0;
//! client.transaction(|transaction| {
//!     runs += 1;
//!     transaction.write("data/a", "1")
//! })?;
//! assert_eq!(runs, 4);
//!
//! store.lock().unwrap().inject(Fault::conflict());
//! let error = client.transaction(|transaction| transaction.write("data/a", "2")).unwrap_err();
//! assert!(error.is_conflict());
//! # Ok::<(), xenstore::Error>(())
//! ```
//!
//! Fill the quota of nodes, and make room again:
//!
//! ```
//! # use std::sync::{Arc, Mutex};
//! # use xenstore::Client;
//! # use xenstore::embedded::{Fault, Store, StoreChannel, Toolstack};
//! # fn guest() -> (Arc<Mutex<Store>>, Client<StoreChannel>) {
//! #     let mut store = Store::new();
//! #     store.introduce_guest(5, Toolstack::Xapi);
//! #     let store = Arc::new(Mutex::new(store));
//! #     (store.clone(), Client::with_channel(StoreChannel::new(store, 5)))
//! # }
//! use xenstore::Nodes;
//!
//! let (store, mut client) = guest();
//! let fault = store.lock().unwrap().inject(Fault::fill_node_quota());
//! assert!(client.write("data/a", "1").unwrap_err().is_quota_exceeded());
//! store.lock().unwrap().remove_fault(fault);
//! client.write("data/a", "1")?;
//! # Ok::<(), xenstore::Error>(())
//! ```
//!
//! Close the connection, or cut it in the middle of a reply:
//!
//! ```
//! # use std::sync::{Arc, Mutex};
//! # use xenstore::Client;
//! # use xenstore::embedded::{Fault, Store, StoreChannel, Toolstack};
//! # fn guest() -> (Arc<Mutex<Store>>, Client<StoreChannel>) {
//! #     let mut store = Store::new();
//! #     store.introduce_guest(5, Toolstack::Xapi);
//! #     let store = Arc::new(Mutex::new(store));
//! #     (store.clone(), Client::with_channel(StoreChannel::new(store, 5)))
//! # }
//! use xenstore::Nodes;
//!
//! for fault in [Fault::disconnect(), Fault::cut_reply(20)] {
//!     let (store, mut client) = guest();
//!     store.lock().unwrap().inject(fault.times(1));
//!     let error = client.read("name").unwrap_err();
//!     assert!(error.is_fatal());
//!     // Later calls return the same error. A new connection works.
//!     assert!(client.read("name").unwrap_err().is_fatal());
//!     let mut client = Client::with_channel(StoreChannel::new(store, 5));
//!     client.read("name")?;
//! }
//! # Ok::<(), xenstore::Error>(())
//! ```
//!
//! Hold replies back. On a [`StoreChannel`] a call times out at once; over a socket, set a timeout:
//!
//! ```
//! # use std::sync::{Arc, Mutex};
//! # use xenstore::Client;
//! # use xenstore::embedded::{Fault, Store, StoreChannel, Toolstack};
//! # fn guest() -> (Arc<Mutex<Store>>, Client<StoreChannel>) {
//! #     let mut store = Store::new();
//! #     store.introduce_guest(5, Toolstack::Xapi);
//! #     let store = Arc::new(Mutex::new(store));
//! #     (store.clone(), Client::with_channel(StoreChannel::new(store, 5)))
//! # }
//! use xenstore::{Error, Nodes};
//!
//! let (store, mut client) = guest();
//! let fault = store.lock().unwrap().inject(Fault::hold_replies());
//! let error = client.write("data/a", "1").unwrap_err();
//! assert!(matches!(error, Error::TimedOut { .. }));
//! assert_eq!(error.to_string(), "WRITE data/a: no reply yet");
//! store.lock().unwrap().remove_fault(fault);
//! // The write happened. Its late reply does not disturb later calls.
//! assert_eq!(client.read("data/a")?, b"1");
//! # Ok::<(), xenstore::Error>(())
//! ```
//!
//! Delay a reply until a later message, and reverse the order of two replies. The clients of this
//! library do not notice that; a test of your own event loop may:
//!
//! ```
//! # use std::sync::{Arc, Mutex};
//! # use xenstore::Client;
//! # use xenstore::embedded::{Fault, Store, StoreChannel, Toolstack};
//! # fn guest() -> (Arc<Mutex<Store>>, Client<StoreChannel>) {
//! #     let mut store = Store::new();
//! #     store.introduce_guest(5, Toolstack::Xapi);
//! #     let store = Arc::new(Mutex::new(store));
//! #     (store.clone(), Client::with_channel(StoreChannel::new(store, 5)))
//! # }
//! use xenstore::{Connection, Event, Request};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! for fault in [Fault::delay_replies(1).times(1), Fault::reverse_replies(2)] {
//!     let (store, _) = guest();
//!     store.lock().unwrap().inject(fault);
//!     let mut connection = Connection::with_channel(StoreChannel::new(store, 5));
//!     let first = connection.submit(Request::read("name")?)?;
//!     let second = connection.submit(Request::read("domid")?)?;
//!     connection.flush()?;
//!     let _ = connection.on_readable()?;
//!
//!     let mut replied = Vec::new();
//!     while let Some(Event::Reply { id, .. }) = connection.next_event() {
//!         replied.push(id);
//!     }
//!     assert_eq!(replied, [second.id(), first.id()]);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Drop events, as servers do that find an equal event still queued:
//!
//! ```
//! # use std::sync::{Arc, Mutex};
//! # use xenstore::Client;
//! # use xenstore::embedded::{Fault, Store, StoreChannel, Toolstack};
//! # fn guest() -> (Arc<Mutex<Store>>, Client<StoreChannel>) {
//! #     let mut store = Store::new();
//! #     store.introduce_guest(5, Toolstack::Xapi);
//! #     let store = Arc::new(Mutex::new(store));
//! #     (store.clone(), Client::with_channel(StoreChannel::new(store, 5)))
//! # }
//! use xenstore::Nodes;
//!
//! let (store, mut client) = guest();
//! client.watch("data")?;
//! assert!(client.next_watch_event(None)?.is_some());
//! store.lock().unwrap().inject(Fault::drop_events());
//! client.write("data/a", "1")?;
//! assert!(client.next_watch_event(None)?.is_none());
//! # Ok::<(), xenstore::Error>(())
//! ```
//!
//! Reply to `WATCH` as Linux does, with the id 0 in place of the request's. The library assigns
//! such replies to their requests:
//!
//! ```
//! # use std::sync::{Arc, Mutex};
//! # use xenstore::Client;
//! # use xenstore::embedded::{Fault, Store, StoreChannel, Toolstack};
//! # fn guest() -> (Arc<Mutex<Store>>, Client<StoreChannel>) {
//! #     let mut store = Store::new();
//! #     store.introduce_guest(5, Toolstack::Xapi);
//! #     let store = Arc::new(Mutex::new(store));
//! #     (store.clone(), Client::with_channel(StoreChannel::new(store, 5)))
//! # }
//! let (store, mut client) = guest();
//! store.lock().unwrap().inject(Fault::watch_replies_without_id());
//! let watch = client.watch("data")?;
//! client.unwatch(watch)?;
//! # Ok::<(), xenstore::Error>(())
//! ```
//!
//! # Limits of the store
//!
//! The documentation of the [module](crate::embedded) lists what the store does unlike servers.
//! Nothing in it depends on time, and no fault slows a reply down by a period. For time, hold
//! replies back in one thread, and remove the fault in another.
//!
//! # Hostile servers
//!
//! For bytes that no server would send, let your test write to one end of a
//! [`UnixStream::pair`](std::os::unix::net::UnixStream::pair), and give the other end to a client:
//! `Client::new(stream.into())`. [`wire`] has the encoder and the decoder.
//!
//! [`after`]: crate::embedded::Fault::after
//! [`AsyncClient`]: crate::AsyncClient
//! [`at`]: crate::embedded::Fault::at
//! [`Client`]: crate::Client
//! [`conflict`]: crate::embedded::Fault::conflict
//! [`cut_reply`]: crate::embedded::Fault::cut_reply
//! [`delay_replies`]: crate::embedded::Fault::delay_replies
//! [`disconnect`]: crate::embedded::Fault::disconnect
//! [`drop_events`]: crate::embedded::Fault::drop_events
//! [`Fault`]: crate::embedded::Fault
//! [`fill_node_quota`]: crate::embedded::Fault::fill_node_quota
//! [`hold_replies`]: crate::embedded::Fault::hold_replies
//! [`Model`]: crate::embedded::Model
//! [`Nodes`]: crate::Nodes
//! [`of_kind`]: crate::embedded::Fault::of_kind
//! [`of`]: crate::embedded::Fault::of
//! [`refuse`]: crate::embedded::Fault::refuse
//! [`reverse_replies`]: crate::embedded::Fault::reverse_replies
//! [`Server::listen`]: crate::embedded::Server::listen
//! [`Server::migrate`]: crate::embedded::Server::migrate
//! [`ServerHandle::connect`]: crate::embedded::ServerHandle::connect
//! [`ServerHandle::with`]: crate::embedded::ServerHandle::with
//! [`SharedClient`]: crate::SharedClient
//! [`Store::inject`]: crate::embedded::Store::inject
//! [`Store::keep_requests`]: crate::embedded::Store::keep_requests
//! [`Store::quotas`]: crate::embedded::Store#structfield.quotas
//! [`Store::remove_fault`]: crate::embedded::Store::remove_fault
//! [`Store::with_model`]: crate::embedded::Store::with_model
//! [`Store`]: crate::embedded::Store
//! [`StoreChannel`]: crate::embedded::StoreChannel
//! [`times`]: crate::embedded::Fault::times
//! [`watch_replies_without_id`]: crate::embedded::Fault::watch_replies_without_id
//! [`wire`]: crate::wire
