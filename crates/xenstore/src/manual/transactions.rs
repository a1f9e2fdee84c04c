//! Use transactions, or do without them.
//!
//! Other clients see the changes of a transaction all at once, after the commit.
//! [`Client::transaction`], [`SharedClient::transaction`] and [`AsyncClient::transaction`] run a
//! closure in one, and commit it.
//!
//! A transaction sees its own changes. Under oxenstored it sees the store as of its start. Under C
//! xenstored it sees each node as of its first access. If nodes changed in between, the commit
//! fails and the client runs the body again. If your body returns an error because values do not
//! fit together, `transaction` returns that error and does not repeat the body.
//!
//! # When you need one
//!
//! - To change a value depending on what you read, such as a counter.
//! - To read several nodes that belong together, while another client may change them.
//! - To let readers see several new nodes at once.
//!
//! You do not need one for a single request. Each request is atomic, even the removal of a whole
//! tree; only [`walk`] and very long lists take several. And often the order of plain writes is
//! enough: if a reader waits for one node, write that one last. Plain writes have advantages:
//!
//! - They have no conflicts. If another client changes a node that the transaction used, the commit
//!   may fail, and the client runs the body again.
//! - Their watch events are sent at once, and one by one.
//! - They do not count against the quota of open transactions.
//! - [`pipeline`] sends many of them at the cost of one round trip on a socket.
//!
//! # The body may run several times
//!
//! After a conflict, the client runs the closure again in a new transaction. So the closure must
//! not do anything that cannot be repeated, such as sending a mail or counting in a variable
//! outside of it. Return the result instead:
//!
//! ```
//! use xenstore::{Client, Nodes};
//! # use xenstore::embedded::{Server, Store, Toolstack};
//! # let mut store = Store::new();
//! # store.introduce_guest(5, Toolstack::Xapi);
//! # let server = Server::new(store).spawn()?;
//!
//! let mut client = Client::new(server.connect(5)?.into());
//! let mut rival = Client::new(server.connect(5)?.into());
//! client.write("data/count", "0")?;
//!
//! // Only to show that the body runs twice.
//! let mut runs = 0;
//! let count = client.transaction(|transaction| -> Result<u64, Box<dyn std::error::Error>> {
//!     runs += 1;
//!     let count: u64 = transaction.read_text("data/count")?.parse()?;
//!     if runs == 1 {
//!         // Another client interferes.
//!         rival.write("data/count", "10")?;
//!     }
//!     transaction.write("data/count", (count + 1).to_string())?;
//!     Ok(count + 1)
//! })?;
//! assert_eq!((runs, count), (2, 11));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A transaction that conflicts 1000 times fails with `EAGAIN`. Tasks or threads of one program that
//! change the same node conflict with each other too. A lock around the whole transaction (in tasks,
//! an async one) is much faster than the repetitions.
//!
//! # Errors in the body
//!
//! If the closure returns an error, the transaction is aborted, and `transaction` returns that
//! error. It can have any type that an [`Error`] converts into, so `?` works for your own errors
//! too. A panic also aborts the transaction.
//!
//! ```
//! use xenstore::{Client, Nodes};
//! # use xenstore::embedded::{Server, Store, Toolstack};
//! # let mut store = Store::new();
//! # store.introduce_guest(5, Toolstack::Xapi);
//! # let server = Server::new(store).spawn()?;
//!
//! let mut client = Client::new(server.connect(5)?.into());
//! client.write("data/count", "not a number")?;
//! let result = client.transaction(|transaction| -> Result<(), Box<dyn std::error::Error>> {
//!     transaction.write("data/touched", "1")?;
//!     let _count: u64 = transaction.read_text("data/count")?.parse()?;
//!     Ok(())
//! });
//! assert_eq!(result.unwrap_err().to_string(), "invalid digit found in string");
//! // The write before the error did not happen.
//! assert!(client.read("data/touched").unwrap_err().is_not_found());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Futures
//!
//! Give [`AsyncClient::transaction`] an async closure. It can borrow local variables, also in
//! `tokio::spawn`:
//!
//! ```
//! use xenstore::{AsyncClient, AsyncNodes, Error};
//! # use xenstore::embedded::{Server, Store, Toolstack};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut store = Store::new();
//! # store.introduce_guest(5, Toolstack::Xapi);
//! # let server = Server::new(store).spawn()?;
//! let client = AsyncClient::new(server.connect(5)?.into())?;
//! let task = tokio::spawn(async move {
//!     let names = ["data/a", "data/b"];
//!     client
//!         .transaction(async |transaction| {
//!             for name in &names {
//!                 transaction.write(name, "1").await?;
//!             }
//!             Ok::<_, Error>(())
//!         })
//!         .await
//! });
//! task.await??;
//! # Ok(())
//! # }
//! ```
//!
//! Do not begin a second transaction inside of the body: it may wait until the first one ends.
//! [`AsyncClient::begin`] is for programs that cannot use a closure. They must look at the
//! [`Commit`] themselves, and repeat everything after a conflict.
//!
//! # Quotas
//!
//! A guest can have about ten open transactions, which its kernel and all of its processes share;
//! see [`servers`](super::servers). Further ones fail with `ENOSPC` or `EQUOTA`. A [`SharedClient`]
//! and an [`AsyncClient`] keep fewer open, and let the others wait. Keep transactions short, and do
//! not wait inside of them for anything but Xenstore. An open transaction also delays a live update
//! of C xenstored.
//!
//! # Suspend and migration
//!
//! A suspended guest comes back to a server that does not know its transactions. The clients notice
//! that, and repeat the transaction, as after a conflict.
//!
//! If you send [`Request::begin`] yourself, requests within a lost transaction fail with `ENOENT`,
//! `EINVAL` or `EIO`, depending on the server. Each of these codes also has other causes. If a
//! request fails with one of them, send `Request::domain_path(0).within(id)`. If that fails with
//! one of them too, the transaction is lost: begin it again.
//!
//! # With a `Connection`
//!
//! [`Request::begin`], [`Request::within`], [`Request::commit`] and [`Request::abort`] are the
//! parts. A [`Connection`] refuses requests within a transaction that it did not begin, or that has
//! ended. A transaction that your program does not end stays open until the connection ends.
//!
//! A failed request does not end the transaction, and a commit that is already queued makes the
//! other changes. So wait for the replies of the requests before you commit:
//!
//! ```
//! use xenstore::{Connection, Event, Request};
//! # use xenstore::embedded::{Fault, Store, StoreChannel, Toolstack};
//! # use std::sync::{Arc, Mutex};
//! # let mut store = Store::new();
//! # store.introduce_guest(5, Toolstack::Xapi);
//! # store.inject(Fault::conflict().times(1));
//! # let store = Arc::new(Mutex::new(store));
//!
//! // In a guest or in dom0, use `Connection::new(Transport::open()?)`.
//! let mut connection = Connection::with_channel(StoreChannel::new(store.clone(), 5));
//! let mut begin = Some(connection.submit(Request::begin())?);
//! let (mut write, mut commit) = (None, None);
//! # let mut commits = 0;
//! 'serve: loop {
//!     // The loop of your program waits here.
//!     connection.flush()?;
//!     let _ = connection.on_readable()?;
//!     while let Some(event) = connection.next_event() {
//!         let Event::Reply { id, result } = event else { continue };
//!         if let Some(begin) = begin.take_if(|begin| begin.id() == id) {
//!             let transaction = begin.parse(result)?;
//!             let request = Request::write("data/a", "1")?.within(transaction);
//!             write = Some((transaction, connection.submit(request)?));
//!         } else if let Some((transaction, write)) = write.take_if(|(_, write)| write.id() == id) {
//!             if let Err(error) = write.parse(result) {
//!                 connection.submit(Request::abort(transaction))?;
//!                 return Err(error.into());
//!             }
//!             commit = Some(connection.submit(Request::commit(transaction))?);
//!         } else if let Some(end) = commit.take_if(|commit| commit.id() == id) {
//! #           commits += 1;
//!             match end.parse(result) {
//!                 Err(error) if error.is_conflict() => {
//!                     begin = Some(connection.submit(Request::begin())?);
//!                 }
//!                 result => break 'serve result?,
//!             }
//!         }
//!     }
//! }
//! # assert_eq!(commits, 2);
//! # let mut client = xenstore::Client::with_channel(StoreChannel::new(store, 5));
//! # assert_eq!(xenstore::Nodes::read(&mut client, "data/a")?, b"1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A program that is suspended also checks for a lost transaction, as above.
//!
//! [`AsyncClient::begin`]: crate::AsyncClient::begin
//! [`AsyncClient::transaction`]: crate::AsyncClient::transaction
//! [`AsyncClient`]: crate::AsyncClient
//! [`Client::transaction`]: crate::Client::transaction
//! [`Commit`]: crate::asynchronous::Commit
//! [`Connection`]: crate::Connection
//! [`Error`]: crate::Error
//! [`pipeline`]: crate::Nodes::pipeline
//! [`Request::abort`]: crate::Request::abort
//! [`Request::begin`]: crate::Request::begin
//! [`Request::commit`]: crate::Request::commit
//! [`Request::within`]: crate::Request::within
//! [`SharedClient`]: crate::SharedClient
//! [`SharedClient::transaction`]: crate::SharedClient::transaction
//! [`walk`]: crate::Nodes::walk
