//! Use a [`Connection`] in an event loop.
//!
//! A [`Connection`] never blocks. Your loop waits, and calls it when its descriptor is ready. Each
//! turn of the loop does four things:
//!
//! 1. [`flush`] sends queued requests.
//! 2. [`on_readable`] receives.
//! 3. [`next_event`] returns replies and watch events, until it returns `None`. The program handles
//!    them, and may submit requests.
//! 4. The loop waits until the descriptor is readable, or writable if [`wants_write`] is true.
//!
//! Three rules keep a loop from stalling:
//!
//! - **Flush what you submitted before you wait.** poll(2) reports a socket as writable when you can
//!   send again. It never reports Linux's device as writable, because the device accepts each
//!   request at once.
//! - **Take all events before each wait, also after `flush`.** A flush can answer a request without
//!   the server: if the kernel refuses to send it ([`Error::NotSent`]), or if its transaction has
//!   ended meanwhile. The descriptor reports nothing then.
//! - **Receive until [`Received::All`] if your poller is edge-triggered.** One call of
//!   `on_readable` receives at most 4112 bytes. An edge-triggered poller (`EPOLLET`, `EV_CLEAR`,
//!   the crate `mio`) does not report the rest again.
//!
//! # A turn that suits every poller
//!
//! This function satisfies all of them. After it, nothing is left to do before the next wait:
//!
//! ```
//! use xenstore::{Connection, Event, Received, Request, Result};
//! # use xenstore::embedded::{Server, Store, Toolstack};
//!
//! /// Sends, receives and handles events, as far as possible without waiting.
//! fn turn(
//!     connection: &mut Connection,
//!     mut handle: impl FnMut(&mut Connection, Event) -> Result<()>,
//! ) -> Result<()> {
//!     loop {
//!         connection.flush()?;
//!         let received = connection.on_readable()?;
//!         let mut has_events = false;
//!         while let Some(event) = connection.next_event() {
//!             has_events = true;
//!             handle(connection, event)?;
//!         }
//!         if received == Received::All && !has_events {
//!             return Ok(());
//!         }
//!     }
//! }
//!
//! # let mut store = Store::new();
//! # store.introduce_guest(5, Toolstack::Xapi);
//! # let server = Server::new(store).spawn()?;
//! let mut connection = Connection::new(server.connect(5)?.into());
//! for number in 0..100 {
//!     connection.submit(Request::write(format!("data/{number}"), "1")?)?;
//! }
//! let mut replies = 0;
//! while replies < 100 {
//!     turn(&mut connection, |_, event| {
//!         if let Event::Reply { result, .. } = event {
//!             result?;
//!             replies += 1;
//!         }
//!         Ok(())
//!     })?;
//! #   std::thread::yield_now();
//!     // A loop waits here; see below.
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The function returns only when the server pauses. If a busy server must not keep the loop from
//! its other descriptors, use a level-triggered poller, and call `flush`, `on_readable` and
//! `next_event` once for each report.
//!
//! # poll(2)
//!
//! poll(2) is level-triggered: it reports again what was not received. So the result of
//! `on_readable` does not matter. This loop also waits for another descriptor, and limits the time
//! for a reply:
//!
//! ```
//! use std::io::{Read as _, Write as _};
//! use std::os::unix::net::UnixStream;
//! use std::time::{Duration, Instant};
//!
//! use rustix::event::{PollFd, PollFlags, Timespec, poll};
//! use rustix::io::retry_on_intr;
//! use xenstore::{Connection, Event, Request, Submitted};
//! # use xenstore::embedded::{Server, Store, Toolstack};
//! # let mut store = Store::new();
//! # store.introduce_guest(5, Toolstack::Xapi);
//! # let server = Server::new(store).spawn()?;
//!
//! // In a guest or in dom0, use `Connection::new(Transport::open()?)`.
//! let mut connection = Connection::new(server.connect(5)?.into());
//! // Another part of the program asks for a write.
//! let (mut commands, mut sender) = UnixStream::pair()?;
//! sender.write_all(b"7")?;
//!
//! let mut pending: Option<(Submitted<()>, Instant)> = None;
//! 'serve: loop {
//!     loop {
//!         // Handling an event may submit requests.
//!         connection.flush()?;
//!         let Some(event) = connection.next_event() else {
//!             break;
//!         };
//!         match event {
//!             Event::Reply { id, result } => {
//!                 if let Some((write, _)) = pending.take_if(|(write, _)| write.id() == id) {
//!                     write.parse(result)?;
//!                     break 'serve;
//!                 }
//!             }
//!             event => println!("{event:?}"),
//!         }
//!     }
//!     let left = pending
//!         .as_ref()
//!         .map(|(_, deadline)| deadline.saturating_duration_since(Instant::now()));
//!     if left == Some(Duration::ZERO) {
//!         // `Connection::cancel` gives up one request, and keeps the connection.
//!         return Err("no reply within 5 s".into());
//!     }
//!
//!     let mut interest = PollFlags::IN;
//!     interest.set(PollFlags::OUT, connection.wants_write());
//!     let mut fds = [
//!         PollFd::new(&connection, interest),
//!         PollFd::new(&commands, PollFlags::IN),
//!     ];
//!     let timeout = left.map(Timespec::try_from).transpose()?;
//!     retry_on_intr(|| poll(&mut fds, timeout.as_ref()))?;
//!     let [xenstore, command] = fds.map(|fd| fd.revents());
//!
//!     // Receiving also finds errors and hang-ups.
//!     if xenstore.intersects(!PollFlags::OUT) {
//!         let _ = connection.on_readable()?;
//!     }
//!     if !command.is_empty() {
//!         let mut value = [0];
//!         commands.read_exact(&mut value)?;
//!         let write = connection.submit(Request::write("data/example", value)?)?;
//!         pending = Some((write, Instant::now() + Duration::from_secs(5)));
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The next round begins with `flush` and `next_event`, so it handles what `on_readable` received.
//!
//! # epoll(7) and mio
//!
//! Register the descriptor once, for reading and writing. Call `turn` before the first wait, so that
//! it sends what was submitted, and after each wait. It tries both directions, so ignore which one
//! the poller reports. Each attempt that is not possible costs one system call.
//!
//! The crate `mio` needs its features `os-poll` and `os-ext`:
//!
//! ```
//! use std::io;
//! use std::os::fd::{AsFd, AsRawFd};
//!
//! use mio::unix::SourceFd;
//! use mio::{Events, Interest, Poll, Token};
//! # use xenstore::{Connection, Event, Received, Request, Result};
//! # use xenstore::embedded::{Server, Store, Toolstack};
//!
//! # fn turn(
//! #     connection: &mut Connection,
//! #     mut handle: impl FnMut(&mut Connection, Event) -> Result<()>,
//! # ) -> Result<()> {
//! #     loop {
//! #         connection.flush()?;
//! #         let received = connection.on_readable()?;
//! #         let mut has_events = false;
//! #         while let Some(event) = connection.next_event() {
//! #             has_events = true;
//! #             handle(connection, event)?;
//! #         }
//! #         if received == Received::All && !has_events {
//! #             return Ok(());
//! #         }
//! #     }
//! # }
//! # let mut store = Store::new();
//! # store.introduce_guest(5, Toolstack::Xapi);
//! # let server = Server::new(store).spawn()?;
//! let mut connection = Connection::new(server.connect(5)?.into());
//! let (mut poll, mut ready) = (Poll::new()?, Events::with_capacity(8));
//! let fd = connection.as_fd().as_raw_fd();
//! let interest = Interest::READABLE | Interest::WRITABLE;
//! poll.registry().register(&mut SourceFd(&fd), Token(0), interest)?;
//!
//! let write = connection.submit(Request::write("data/example", "1")?)?;
//! let mut is_done = false;
//! loop {
//!     turn(&mut connection, |_, event| {
//!         if let Event::Reply { id, result } = event {
//!             result?;
//!             is_done |= id == write.id();
//!         }
//!         Ok(())
//!     })?;
//!     if is_done {
//!         break;
//!     }
//!     match poll.poll(&mut ready, None) {
//!         // A signal handler ran.
//!         Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
//!         result => result?,
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # End of the connection
//!
//! The calls return a [fatal](crate::Error::is_fatal) error at the end of the connection.
//! [`next_event`] still returns what arrived before. It returns no reply for the pending requests.
//!
//! # Types of replies
//!
//! [`Event::Reply`] has the bytes of a reply. [`Submitted::parse`] makes the request's type of
//! them, so keep what [`submit`] returned.
//!
//! # Transactions
//!
//! [`Request::begin`] has a [`TransactionId`] as its reply, and [`Request::within`] makes other
//! requests part of the transaction. Your program must repeat the transaction after a conflict; see
//! [`transactions`](super::transactions).
//!
//! # Async runtimes
//!
//! The driver of an [`AsyncClient`] is this loop as a future. For a runtime other than tokio, implement
//! [`Readiness`], which tells the driver when the descriptor is ready, and spawn the driver of
//! [`AsyncClient::with_driver`].
//!
//! [`AsyncClient::with_driver`]: crate::AsyncClient::with_driver
//! [`AsyncClient`]: crate::AsyncClient
//! [`Connection`]: crate::Connection
//! [`Error::NotSent`]: crate::Error::NotSent
//! [`Event::Reply`]: crate::Event::Reply
//! [`flush`]: crate::Connection::flush
//! [`next_event`]: crate::Connection::next_event
//! [`on_readable`]: crate::Connection::on_readable
//! [`Readiness`]: crate::asynchronous::Readiness
//! [`Received::All`]: crate::Received::All
//! [`Request::begin`]: crate::Request::begin
//! [`Request::within`]: crate::Request::within
//! [`submit`]: crate::Connection::submit
//! [`Submitted::parse`]: crate::Submitted::parse
//! [`TransactionId`]: crate::TransactionId
//! [`wants_write`]: crate::Connection::wants_write
