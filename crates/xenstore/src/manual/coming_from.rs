//! Port a program from libxenstore, xenstore-rs or pyxs.
//!
//! The calls in the right columns are those of a [`Client`], with the trait [`Nodes`] in scope,
//! unless they say otherwise. [`comparison`](super::comparison) says what you win and lose.
//!
//! # libxenstore
//!
//! | libxenstore | this library |
//! | --- | --- |
//! | `xs_open(0)` | `Client::open()` |
//! | `xs_close` | drop the client |
//! | `xs_read` | `read`, or `read_text` |
//! | `xs_write`, `xs_mkdir`, `xs_rm` | `write`, `mkdir`, `remove` |
//! | `xs_directory` | `list` |
//! | `xs_get_permissions`, `xs_set_permissions` | `permissions`, `set_permissions` |
//! | `xs_strings_to_perms` | `"n5 r7".parse::<Permissions>()` |
//! | `xs_transaction_start`, `xs_transaction_end` | `transaction`, with a closure between the two |
//! | `xs_watch`, `xs_unwatch` | `watch`, which returns a `WatchId`, and `unwatch` |
//! | `xs_watch_depth`, `xs_watch_try_depth` | `watch_to` |
//! | `xs_read_watch` | `next_watch_event(None)` |
//! | `xs_check_watch` | `next_watch_event(Some(Duration::ZERO))` |
//! | `xs_fileno` | the trait `AsFd` of the client; see below |
//! | `xs_get_domain_path` | `call(Request::domain_path(domain))` |
//! | `xs_is_domain_introduced` | `call(Request::is_introduced(domain))` |
//! | `xs_introduce_domain`, `xs_release_domain` | `call(Request::introduce(..))`, `call(Request::release(..))` |
//! | `xs_resume_domain`, `xs_set_target` | `call(Request::resume(..))`, `call(Request::set_target(..))` |
//! | `xs_control_command` | `call(Request::control(..)?)` |
//! | `xs_path_is_subpath(parent, child)` | `child.is_at_or_below(parent)` of a `Path` |
//! | `xs_get_features_supported`, `xs_get_features_domain`, `xs_set_features_domain` | `call(Request::features())`, and so on with `features_of`, `set_features` |
//! | `xs_get_quota_names`, `xs_get_global_quota`, `xs_get_domain_quota` and so on | `call(Request::quota_names())`, and so on with `quota`, `quota_of`, `set_quota`, `set_quota_of` |
//! | `xs_suspend_evtchn_port` | none: read `device/suspend/event-channel` in the domain's home |
//! | `xs_daemon_destroy_postfork` | none: open a client after fork(2) |
//!
//! - **Errors** have the code of the server ([`Error::code`]), the operation and the path, in place
//!   of `errno`.
//! - **Transactions** repeat themselves after `EAGAIN`. Remove your own loop.
//! - **Watches** have an id in place of a token. After `unwatch`, no event of the watch is
//!   returned, as with `XS_UNWATCH_FILTER`.
//! - **Threads** cannot share a [`Client`]. Use a [`SharedClient`]. The library creates no thread
//!   of its own, and leaves signal handlers alone.
//! - **Event loops**: the descriptor of a client is the connection itself. It is not readable for
//!   events that arrived during another call. Call `next_watch_event(Some(Duration::ZERO))` until
//!   it returns `None`, before you wait for the descriptor. A [`Connection`] suits such programs
//!   better, because none of its calls waits for a reply; see [`event_loops`](super::event_loops).
//!
//! # xenstore-rs
//!
//! The left column has the names of version 0.8.0 and of its branch for XCP-ng.
//!
//! | xenstore-rs | this library |
//! | --- | --- |
//! | `XsUnix::new()?` | `Client::open()?` |
//! | `XsTokio::new().await?` | `AsyncClient::open()?`, with the feature `tokio` |
//! | `Xs`, `XsPerm` | [`Nodes`] |
//! | `AsyncXs`, `AsyncXsPerm` | [`AsyncNodes`] |
//! | `directory` | `list` |
//! | `read` | `read_text`; `read` returns bytes |
//! | `write` | `write` |
//! | `rm` | `remove` |
//! | `get_perms`, `set_perms` | `permissions`, `set_permissions` |
//! | `XsPermission::Read(DomId(5))` | `Permission::read(5)` |
//! | `AsyncWatch::watch` | `AsyncClient::watch` |
//! | `XsTransaction::transaction`, `XsTransactionSpan::commit` | `transaction` of the clients |
//!
//! - **`&self`**: the methods of `XsUnix` take `&self`, those of a [`Client`] `&mut self`. If
//!   several owners need it, use a [`SharedClient`], not a `RefCell`.
//! - **References**: the methods of [`AsyncNodes`] take `&self`, those of [`Nodes`] `&mut self`.
//! - **Watches** are streams of [`WatchEvent`]s, and not of paths. The stream ends with the error
//!   that closed the connection. No trait has `watch`, so a function over `AsyncWatch` becomes one
//!   over `&AsyncClient`.
//! - **Errors**: [`Error`] converts into [`std::io::Error`], so `?` works in functions that return
//!   `io::Result`.
//!
//! A function over `Xs` becomes one over [`Nodes`]:
//!
//! ```
//! use std::io;
//! use xenstore::{Client, Nodes, escape};
//! # use xenstore::embedded::{Server, Store, Toolstack};
//!
//! // Was: fn publish(xs: &impl Xs) -> io::Result<()>
//! fn publish(xs: &mut impl Nodes) -> io::Result<()> {
//!     xs.write("data/os_name", "Example")?;
//!     // Was: xs.directory("data")?
//!     for name in xs.list("data")? {
//!         println!("{}", escape(&name));
//!     }
//!     // Was: xs.rm("data/old")?
//!     xs.remove("data/old")?;
//!     Ok(())
//! }
//!
//! # let mut store = Store::new();
//! # store.introduce_guest(5, Toolstack::Xapi);
//! # let server = Server::new(store).spawn()?;
//! // Was: let xs = XsUnix::new()?;
//! let mut xs = Client::new(server.connect(5)?.into());
//! publish(&mut xs)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A function with a watch:
//!
//! ```
//! use std::io;
//! use xenstore::AsyncClient;
//! # use xenstore::embedded::{Server, Store, Toolstack};
//!
//! // Was generic over `AsyncWatch`.
//! async fn follow(xs: &AsyncClient) -> io::Result<()> {
//!     let mut changes = xs.watch("data").await?;
//!     loop {
//!         // Or, with `StreamExt` of tokio-stream or futures: changes.next().await
//!         let event = changes.next_event().await?;
//!         println!("{} changed", event.path);
//! #       return Ok(());
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut store = Store::new();
//! # store.introduce_guest(5, Toolstack::Xapi);
//! # let server = Server::new(store).spawn()?;
//! // Was: let xs = XsTokio::new().await?;
//! let xs = AsyncClient::new(server.connect(5)?.into())?;
//! follow(&xs).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # pyxs
//!
//! The left column has the names of version 0.4.1.
//!
//! | pyxs | this library |
//! | --- | --- |
//! | `with Client() as c` | `Client::open()?` |
//! | `Client(unix_socket_path=p)` | `Client::new(Transport::open_socket_at(p)?)` |
//! | `Client(xen_bus_path=p)` | `Client::new(Transport::open_device_at(p)?)` |
//! | `c.read(p)`, `c[p]` | `read(p)?` |
//! | `c.read(p, default)` | `read(p).optional()?.unwrap_or(default)` |
//! | `c.exists(p)` | `read(p).optional()?.is_some()` |
//! | `c.write(p, v)`, `c[p] = v` | `write(p, v)?` |
//! | `c.mkdir(p)`, `c.list(p)` | `mkdir(p)?`, `list(p)?` |
//! | `c.delete(p)`, `del c[p]` | `remove(p)?` |
//! | `c.walk(p)` | `walk(p)?`; a `Walk` also has the children |
//! | `c.get_perms(p)`, `c.set_perms(p, l)` | `permissions(p)?`, `set_permissions(p, &l)?` |
//! | `c.transaction()`, `c.commit()`, `c.rollback()` | `transaction(..)?`, with a closure |
//! | `m = c.monitor()`, `m.watch(p, token)` | `watch(p)?`, also on a device |
//! | `m.unwatch(p, token)` | `unwatch(watch)?` |
//! | `next(m.wait())` | `next_watch_event(None)?` |
//! | `c.get_domain_path(d)`, `c.is_domain_introduced(d)` | `call(Request::domain_path(d))?`, `call(Request::is_introduced(d))?` |
//! | `c.introduce_domain(..)`, `c.release_domain(d)`, `c.resume_domain(d)`, `c.set_target(d, t)` | `call(Request::introduce(..))?`, and so on with `release`, `resume`, `set_target` |
//! | `Router` | [`SharedClient`] |
//!
//! ```
//! use xenstore::{Client, Nodes, Optional};
//! # use xenstore::embedded::{Server, Store, Toolstack};
//! # let mut store = Store::new();
//! # store.introduce_guest(5, Toolstack::Xapi);
//! # let server = Server::new(store).spawn()?;
//!
//! let mut client = Client::new(server.connect(5)?.into());
//! // c.read(b"data/color", b"blue")
//! let color = client.read("data/color").optional()?.unwrap_or(b"blue".to_vec());
//! assert_eq!(color, b"blue");
//! // c.exists(b"data")
//! assert!(client.read("data").optional()?.is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`AsyncNodes`]: crate::AsyncNodes
//! [`Client`]: crate::Client
//! [`Connection`]: crate::Connection
//! [`Error::code`]: crate::Error::code
//! [`Error`]: crate::Error
//! [`Nodes`]: crate::Nodes
//! [`SharedClient`]: crate::SharedClient
//! [`WatchEvent`]: crate::WatchEvent
