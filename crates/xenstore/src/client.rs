//! Calls that wait for their reply, over the non-blocking core.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::calls::{self, domain_calls, node_calls};
use crate::connection::{Connection, Event, RequestId, WatchEvent, parse_transaction};
use crate::error::{Error, ErrorCode, Result};
use crate::path::Path;
use crate::permission::{DomId, Permission};
use crate::request::{Request, TransactionId};
use crate::transport::Transport;
use crate::walk::Walk;

/// How often a transaction is started over before its conflict becomes the caller's error.
pub(crate) const TRANSACTION_TRIES: usize = 1000;

/// A client whose calls wait for the server.
///
/// Watch events that come while a call waits are kept, in order, for [`next_watch_event`](Self::next_watch_event). Its
/// descriptor ([`AsFd`]) is readable when something came that is not kept here yet.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    watch_events: VecDeque<WatchEvent>,
    /// Replies to requests of a pipeline that came before the one that is waited for.
    replies: Vec<(RequestId, Result<Vec<u8>>)>,
}

impl Client {
    /// Opens the Xenstore of this system; see [`Transport::open`] for where it looks.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is none, [`Error::Io`] where it cannot be used.
    pub fn open() -> Result<Self> {
        Ok(Self::new(Transport::open()?))
    }

    /// Speaks over `transport`.
    pub fn new(transport: Transport) -> Self {
        Client { connection: Connection::new(transport), watch_events: VecDeque::new(), replies: Vec::new() }
    }

    node_calls!(self [&mut self] [] []);
    domain_calls!(self [&mut self] [] []);

    /// Asks for an event, marked with `token`, now and at each change at or below `path`.
    ///
    /// # Errors
    /// `EEXIST` for the same path and token twice, `E2BIG` or [`Error::NotSent`] for more watches than allowed.
    pub fn watch(&mut self, path: impl AsRef<str>, token: &str) -> Result<()> {
        self.call(Request::watch(path, token)?).map(drop)
    }

    /// Ends a watch. Events that it caused before may still be given out.
    ///
    /// # Errors
    /// `ENOENT` where there is no such watch.
    pub fn unwatch(&mut self, path: impl AsRef<str>, token: &str) -> Result<()> {
        self.call(Request::unwatch(path, token)?).map(drop)
    }

    /// Ends all watches and transactions of this connection; see [`Request::reset_watches`]. Events that the watches
    /// caused before may still be given out.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] on a device.
    pub fn reset_watches(&mut self) -> Result<()> {
        self.call(Request::reset_watches()).map(drop)
    }

    /// The next watch event, waiting for it for at most `timeout`, or for ever. None when the time is over.
    ///
    /// # Errors
    /// Only those that end a connection.
    pub fn next_watch_event(&mut self, timeout: Option<Duration>) -> Result<Option<WatchEvent>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            self.sort_events();
            if let Some(event) = self.watch_events.pop_front() {
                return Ok(Some(event));
            }
            if !self.wait(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Sends all `requests` and waits for all replies, which come back in the same order. Where the transport bears it
    /// (a socket), no request waits for the reply to the one before.
    ///
    /// # Errors
    /// Those that end a connection, and [`Error::InvalidRequest`] for a request that may not be sent; then none is. What
    /// the server answers to each is in the result.
    pub fn pipeline(&mut self, requests: impl IntoIterator<Item = Request>) -> Result<Vec<Result<Vec<u8>>>> {
        let requests: Vec<_> = requests.into_iter().collect();
        requests.iter().try_for_each(|request| self.connection.check(request))?;
        let ids = requests.into_iter().map(|request| self.connection.submit(request)).collect::<Result<Vec<_>>>()?;
        self.connection.flush()?;
        ids.into_iter().map(|id| self.reply(id)).collect()
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// What the server answers, and those that end a connection.
    pub fn call(&mut self, request: Request) -> Result<Vec<u8>> {
        let id = self.connection.submit(request)?;
        self.connection.flush()?;
        self.reply(id)?
    }

    /// Runs `body` in a transaction and commits it: all that it writes is there at once, or nothing is.
    ///
    /// On a conflict with another client, and when the transaction was lost because the domain was suspended in the
    /// middle, all is started over: `body` may run several times. An error from `body` abandons the transaction.
    ///
    /// ```no_run
    /// # fn main() -> xenstore::Result<()> {
    /// let mut client = xenstore::Client::open()?;
    /// client.transaction(|transaction| {
    ///     let count = transaction.read("data/count").ok();
    ///     let count = count.and_then(|value| String::from_utf8(value).ok()?.parse::<u32>().ok()).unwrap_or(0);
    ///     transaction.write("data/count", (count + 1).to_string())
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of `body`; `EAGAIN` when the conflicts do not end; those that end a connection.
    pub fn transaction<T>(&mut self, mut body: impl FnMut(&mut Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut conflict = None;
        for _ in 0..TRANSACTION_TRIES {
            let id = parse_transaction(&self.call(Request::transaction_start())?)?;
            let result = body(&mut Transaction { client: self, id });
            if result.as_ref().is_err_and(Error::is_fatal) {
                return result;
            }
            // A suspend loses open transactions, and all that is asked in a lost one fails for that alone. This request
            // fails for nothing else.
            let probe = if result.is_err() { self.call(Request::domain_path(0).within(id)).err() } else { None };
            let end = self.call(Request::transaction_end(id, result.is_ok())).err();
            match probe.or(end) {
                None => return result,
                Some(error) if is_lost(&error) => conflict = Some(error),
                Some(error) => return Err(error),
            }
        }
        Err(conflict.unwrap_or_else(|| Error::Protocol("no transaction was tried".to_owned())))
    }

    fn reply(&mut self, id: RequestId) -> Result<Result<Vec<u8>>> {
        loop {
            self.sort_events();
            if let Some(index) = self.replies.iter().position(|(of, _)| *of == id) {
                return Ok(self.replies.swap_remove(index).1);
            }
            self.wait(None)?;
        }
    }

    fn sort_events(&mut self) {
        while let Some(event) = self.connection.next_event() {
            match event {
                Event::Watch(event) => self.watch_events.push_back(event),
                Event::Reply { id, result } => self.replies.push((id, result)),
            }
        }
    }

    /// Waits until something came, or `deadline`: then false.
    fn wait(&mut self, deadline: Option<Instant>) -> Result<bool> {
        let mut interest = PollFlags::IN;
        interest.set(PollFlags::OUT, self.connection.wants_write());
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds = [PollFd::new(&self.connection, interest)];
        let ready = match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Ok(false),
            Err(Errno::INTR) => return Ok(true),
            Err(error) => return Err(self.connection.transport().failed("wait for", error)),
            Ok(_) => fds.iter().fold(PollFlags::empty(), |all, fd| all | fd.revents()),
        };
        if ready.contains(PollFlags::OUT) {
            self.connection.flush()?;
        }
        if ready.intersects(!PollFlags::OUT) {
            self.connection.on_readable()?;
        }
        Ok(true)
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

/// An open transaction: sees the store as it was when the transaction began, and its own changes.
#[derive(Debug)]
pub struct Transaction<'a> {
    client: &'a mut Client,
    id: TransactionId,
}

impl Transaction<'_> {
    node_calls!(self [&mut self] [] []);

    /// As [`Client::pipeline`].
    ///
    /// # Errors
    /// As there.
    pub fn pipeline(&mut self, requests: impl IntoIterator<Item = Request>) -> Result<Vec<Result<Vec<u8>>>> {
        let id = self.id;
        self.client.pipeline(requests.into_iter().map(|request| request.within(id)))
    }

    fn call(&mut self, request: Request) -> Result<Vec<u8>> {
        self.client.call(request.within(self.id))
    }
}

/// Whether a transaction met a conflict, or the server does not know it any more: after a suspend C xenstored says
/// ENOENT then, oxenstored 4.17 EIO and others EINVAL.
pub(crate) fn is_lost(error: &Error) -> bool {
    let lost = [ErrorCode::EAGAIN, ErrorCode::ENOENT, ErrorCode::EINVAL, ErrorCode::EIO];
    error.code().is_some_and(|code| lost.contains(code))
}
