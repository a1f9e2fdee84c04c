//! Blocking client.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::connection::Connection;
use crate::error::{Error, ErrorCode, Result};
use crate::event::{Event, RequestId, WatchEvent};
use crate::nodes::Nodes;
use crate::request::{Request, TransactionId};
use crate::transport::Transport;

/// Maximum number of attempts of a transaction. After the last one the caller gets the conflict as
/// an error.
pub(crate) const TRANSACTION_ATTEMPTS: usize = 1000;

/// Maximum size of the queued watch events in bytes. The limit is necessary because events arrive
/// at the server's pace, and the caller cannot take them while another call blocks.
pub(crate) const WATCH_EVENTS_MAX: usize = 16 << 20;

/// A client whose calls block until the server replies.
///
/// There is no time limit. If you need one, use [`Connection`] or the async client.
///
/// Watch events that arrive during a call are queued for
/// [`next_watch_event`](Self::next_watch_event). A client that sets watches but never reads their
/// events is disconnected once 16 MiB of them are queued ([`Error::EventsNotTaken`]). The
/// descriptor ([`AsFd`]) is readable if there is data that the client has not received yet.
///
/// If a call fails with a [fatal](Error::is_fatal) error, the connection is closed, and all later
/// calls return that error.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    watch_events: VecDeque<WatchEvent>,
    /// Size of `watch_events` in bytes.
    watch_events_size: usize,
    /// Replies that arrived before the one that a call waits for.
    replies: Vec<(RequestId, Result<Vec<u8>>)>,
}

impl Client {
    /// Opens the Xenstore of this system. See [`Transport::open`] for the places where it looks.
    ///
    /// # Errors
    /// [`Error::NoServer`] if there is none, [`Error::Io`] if opening it fails.
    pub fn open() -> Result<Self> {
        Ok(Self::new(Transport::open()?))
    }

    /// Creates a client over `transport`.
    pub fn new(transport: Transport) -> Self {
        Client {
            connection: Connection::new(transport),
            watch_events: VecDeque::new(),
            watch_events_size: 0,
            replies: Vec::new(),
        }
    }

    /// Sets a watch: an event with `token` is sent now, and after each change of a node at or below
    /// `path`.
    ///
    /// # Errors
    /// `EEXIST` if a watch with this path and token exists, `E2BIG` or [`Error::NotSent`] if the
    /// quota is reached.
    pub fn watch(&mut self, path: impl AsRef<str>, token: &str) -> Result<()> {
        self.call(Request::watch(path, token)?).map(drop)
    }

    /// Ends a watch. Events from before may still be returned.
    ///
    /// # Errors
    /// `ENOENT` if there is no such watch.
    pub fn unwatch(&mut self, path: impl AsRef<str>, token: &str) -> Result<()> {
        self.call(Request::unwatch(path, token)?).map(drop)
    }

    /// Ends all watches and transactions of this connection; see [`Request::reset_watches`]. Events
    /// from before may still be returned.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] on a device.
    pub fn reset_watches(&mut self) -> Result<()> {
        self.call(Request::reset_watches()).map(drop)
    }

    /// Returns the next watch event. Blocks for at most `timeout`, or without limit for `None`.
    /// Returns `None` after the timeout.
    ///
    /// # Errors
    /// Those that close the connection.
    pub fn next_watch_event(&mut self, timeout: Option<Duration>) -> Result<Option<WatchEvent>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            self.sort_events();
            if let Some(event) = self.watch_events.pop_front() {
                self.watch_events_size -= event.size();
                return Ok(Some(event));
            }
            if !self.wait(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Runs `body` in a transaction and commits it, so that all of its changes happen at once or
    /// not at all.
    ///
    /// The transaction is repeated after a conflict with another client, and if a suspend of the
    /// domain interrupted it. So `body` may run several times. If `body` returns an error, the
    /// transaction is aborted.
    ///
    /// ```no_run
    /// # fn main() -> xenstore::Result<()> {
    /// use xenstore::Nodes;
    ///
    /// let mut client = xenstore::Client::open()?;
    /// client.transaction(|transaction| {
    ///     let count = transaction.read_text("data/count")?.parse().unwrap_or(0);
    ///     transaction.write("data/count", (count + 1).to_string())
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of `body`, `EAGAIN` after 1000 conflicts, and those that close the connection.
    pub fn transaction<T>(
        &mut self,
        mut body: impl FnMut(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut conflict = None;
        for _ in 0..TRANSACTION_ATTEMPTS {
            let id = self.call(Request::transaction_start())?;
            let result = body(&mut Transaction { client: self, id });
            if result.as_ref().is_err_and(Error::is_fatal) {
                return result;
            }

            // In a transaction that a suspend has ended, every request fails. This request fails
            // for no other reason.
            let probe = if result.is_err() {
                self.call(Request::domain_path(0).within(id))
                    .err()
                    .filter(|error| !matches!(error, Error::InvalidReply(_)))
            } else {
                None
            };

            let end = self
                .call(Request::transaction_end(id, result.is_ok()))
                .err();
            match probe.or(end) {
                None => return result,
                Some(error) if is_repeatable(&error) => conflict = Some(error),
                Some(error) => return Err(error),
            }
        }
        Err(conflict.unwrap_or_else(|| {
            Error::Protocol(
                "the transaction was not started, because it may be tried 0 times".to_owned(),
            )
        }))
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

    /// Moves received events and replies to their queues.
    fn sort_events(&mut self) {
        while let Some(event) = self.connection.next_event() {
            match event {
                Event::Watch(event) => {
                    if self.watch_events_size + event.size() > WATCH_EVENTS_MAX {
                        self.connection.close(Error::EventsNotTaken {
                            most: WATCH_EVENTS_MAX,
                        });
                        return;
                    }
                    self.watch_events_size += event.size();
                    self.watch_events.push_back(event);
                }
                Event::Reply { id, result } => self.replies.push((id, result)),
            }
        }
    }

    /// Waits until something was received or sent. Returns false at the deadline.
    fn wait(&mut self, deadline: Option<Instant>) -> Result<bool> {
        // If the client closed the connection itself, poll(2) would not report that.
        self.connection.check_open()?;

        let mut interest = PollFlags::IN;
        interest.set(PollFlags::OUT, self.connection.wants_write());
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds = [PollFd::new(&self.connection, interest)];
        let ready = match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Ok(false),
            Err(Errno::INTR) => return Ok(true),
            Err(error) => {
                let error = self.connection.transport().failed("wait for", error);
                return Err(self.connection.close(error));
            }
            Ok(_) => fds
                .iter()
                .fold(PollFlags::empty(), |all, fd| all | fd.revents()),
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

impl Nodes for Client {
    fn call<T>(&mut self, request: Request<T>) -> Result<T> {
        let parse = request.parser();
        let id = self.connection.submit(request)?;
        self.connection.flush()?;
        self.reply(id)?.and_then(parse)
    }

    fn pipeline<T>(
        &mut self,
        requests: impl IntoIterator<Item = Request<T>>,
    ) -> Result<Vec<Result<T>>> {
        let requests: Vec<_> = requests.into_iter().collect();
        requests
            .iter()
            .try_for_each(|request| self.connection.check(request))?;

        let submitted = requests
            .into_iter()
            .map(|request| {
                let parse = request.parser();
                Ok((self.connection.submit(request)?, parse))
            })
            .collect::<Result<Vec<_>>>()?;
        self.connection.flush()?;
        let replies = submitted.into_iter();
        replies
            .map(|(id, parse)| Ok(self.reply(id)?.and_then(parse)))
            .collect()
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

/// An open transaction. It sees the store as of its start, and its own changes.
#[derive(Debug)]
pub struct Transaction<'a> {
    client: &'a mut Client,
    id: TransactionId,
}

impl Nodes for Transaction<'_> {
    fn call<T>(&mut self, request: Request<T>) -> Result<T> {
        self.client.call(request.within(self.id))
    }

    fn pipeline<T>(
        &mut self,
        requests: impl IntoIterator<Item = Request<T>>,
    ) -> Result<Vec<Result<T>>> {
        let id = self.id;
        let requests = requests.into_iter();
        self.client
            .pipeline(requests.map(|request| request.within(id)))
    }
}

/// Whether a transaction must be repeated, because of a conflict or because the server no longer
/// knows it.
///
/// The latter happens after a suspend. C xenstored then replies ENOENT, oxenstored 4.17 EIO, and
/// other versions EINVAL.
pub(crate) fn is_repeatable(error: &Error) -> bool {
    let repeatable = [
        ErrorCode::EAGAIN,
        ErrorCode::ENOENT,
        ErrorCode::EINVAL,
        ErrorCode::EIO,
    ];
    error.code().is_some_and(|code| repeatable.contains(code))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::peer::Peer;
    use crate::wire::MessageKind;

    fn client() -> (Client, Peer) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Client::new(ours.into()), Peer::new(theirs))
    }

    /// Checks that every call fails with `cause`, without waiting.
    fn assert_all_fail(client: &mut Client, cause: &str) {
        for _ in 0..2 {
            let results = [
                client.read("a").map(drop),
                client.write("a", "value"),
                client.watch("a", "token"),
                client.walk("a").map(drop),
                client.call(Request::domain_path(5)).map(drop),
                client
                    .pipeline([Request::read("a").unwrap(), Request::read("b").unwrap()])
                    .map(drop),
                client.transaction(|_| Ok(())),
                client.next_watch_event(Some(Duration::ZERO)).map(drop),
                client.next_watch_event(None).map(drop),
            ];
            for result in results {
                let error = result.unwrap_err();
                assert!(error.is_fatal());
                assert_eq!(error.to_string(), cause);
            }
        }
    }

    #[test]
    fn every_call_after_a_fatal_error_returns_that_error() {
        let cause =
            "the Xenstore server violated the protocol: reply READ without a request (id 77)";
        let (mut client, mut peer) = client();
        // The server keeps the connection open and continues to reply.
        peer.send(MessageKind::WATCH_EVENT, 0, b"data\0token\0");
        peer.send(MessageKind::READ, 77, b"");
        (1..40).for_each(|id| peer.send(MessageKind::READ, id, b"value"));
        let pipeline = client.pipeline([Request::read("a").unwrap(), Request::read("b").unwrap()]);
        assert_eq!(pipeline.unwrap_err().to_string(), cause);
        // The event from before is not lost.
        assert_eq!(
            client.next_watch_event(None).unwrap().unwrap().token,
            "token"
        );
        assert_all_fail(&mut client, cause);
    }

    #[test]
    fn every_call_after_a_disconnect_reports_it() {
        let (mut client, mut peer) = client();
        peer.hang_up();
        assert_all_fail(
            &mut client,
            "the Xenstore server at a socket closed the connection",
        );
    }

    #[test]
    fn malformed_reply_fails_only_its_own_call() {
        let (mut client, mut peer) = client();
        let peer = std::thread::spawn(move || {
            for payload in ["x0\0", "value"] {
                let request = peer.receive();
                peer.send(request.kind, request.request_id, payload.as_bytes());
            }
        });
        let error = client.permissions("a").unwrap_err();
        assert!(
            matches!(error, Error::InvalidReply(_)) && !error.is_fatal(),
            "{error}"
        );
        assert_eq!(client.read("a").unwrap(), b"value");
        peer.join().unwrap();
    }

    #[test]
    fn unread_watch_events_are_limited() {
        let (mut client, mut peer) = client();
        let flood = std::thread::spawn(move || {
            let payload = [b"data\0".as_slice(), &[b't'; 4000], b"\0"].concat();
            let mut sent = 0;
            while peer.send_if_open(MessageKind::WATCH_EVENT, 0, &payload) {
                sent += 1;
            }
            sent
        });
        // Events cannot be taken while this call blocks.
        let error = client.read("a").unwrap_err();
        let kept = WATCH_EVENTS_MAX / client.watch_events[0].size();
        assert!(matches!(error, Error::EventsNotTaken { .. }), "{error}");
        assert_eq!(client.watch_events.len(), kept);
        for _ in 0..kept {
            client.next_watch_event(None).unwrap();
        }
        assert_all_fail(&mut client, &error.to_string());
        drop(client);
        assert!(flood.join().unwrap() > kept);
    }
}
