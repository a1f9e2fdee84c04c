//! Calls that wait for their reply, over the non-blocking core.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::calls::{self, domain_calls, node_calls};
use crate::connection::{Connection, parse_transaction};
use crate::error::{Error, ErrorCode, Result};
use crate::event::{Event, RequestId, WatchEvent};
use crate::path::Path;
use crate::permission::{DomId, Permission};
use crate::request::{Request, TransactionId};
use crate::transport::Transport;
use crate::walk::{self, Walk};

/// How often a transaction is started over before its conflict becomes the caller's error.
pub(crate) const TRANSACTION_TRIES: usize = 1000;

/// How many bytes of watch events are kept for who does not take them. They come at a server's pace, and while a call waits
/// nobody can take them.
pub(crate) const WATCH_EVENTS_MAX: usize = 16 << 20;

/// A client whose calls wait for the server, for as long as it takes. For a time limit there is
/// [`Connection`], or the async client.
///
/// Watch events that come while a call waits are kept, in order, for [`next_watch_event`](Self::next_watch_event). Who
/// has watches and never takes their events loses the connection at 16 MiB of them ([`Error::EventsNotTaken`]). Its
/// descriptor ([`AsFd`]) is readable when something came that is not kept here yet.
///
/// Once a call failed with an error that [is fatal](Error::is_fatal), the connection has ended, and every later call fails
/// with the same error.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    watch_events: VecDeque<WatchEvent>,
    /// Bytes of `watch_events`.
    watch_events_size: usize,
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
        Client {
            connection: Connection::new(transport),
            watch_events: VecDeque::new(),
            watch_events_size: 0,
            replies: Vec::new(),
        }
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
                self.watch_events_size -= event.size();
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
    pub fn pipeline(
        &mut self,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<Vec<Result<Vec<u8>>>> {
        let requests: Vec<_> = requests.into_iter().collect();
        requests
            .iter()
            .try_for_each(|request| self.connection.check(request))?;
        let ids = requests
            .into_iter()
            .map(|request| self.connection.submit(request))
            .collect::<Result<Vec<_>>>()?;
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
    pub fn transaction<T>(
        &mut self,
        mut body: impl FnMut(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut conflict = None;
        for _ in 0..TRANSACTION_TRIES {
            let id = parse_transaction(&self.call(Request::transaction_start())?)?;
            let result = body(&mut Transaction { client: self, id });
            if result.as_ref().is_err_and(Error::is_fatal) {
                return result;
            }
            // A suspend loses open transactions, and all that is asked in a lost one fails for that alone. This request
            // fails for nothing else.
            let probe = if result.is_err() {
                self.call(Request::domain_path(0).within(id)).err()
            } else {
                None
            };
            let end = self
                .call(Request::transaction_end(id, result.is_ok()))
                .err();
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
                Event::Watch(event) => {
                    if self.watch_events_size + event.size() > WATCH_EVENTS_MAX {
                        self.connection.end(Error::EventsNotTaken {
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

    /// Waits until something came, or `deadline`: then false.
    fn wait(&mut self, deadline: Option<Instant>) -> Result<bool> {
        // An end that the server does not know of is nothing that poll(2) would tell.
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
                return Err(self.connection.end(error));
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
    pub fn pipeline(
        &mut self,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<Vec<Result<Vec<u8>>>> {
        let id = self.id;
        self.client
            .pipeline(requests.into_iter().map(|request| request.within(id)))
    }

    fn call(&mut self, request: Request) -> Result<Vec<u8>> {
        self.client.call(request.within(self.id))
    }
}

/// Whether a transaction met a conflict, or the server does not know it any more: after a suspend C xenstored says
/// ENOENT then, oxenstored 4.17 EIO and others EINVAL.
pub(crate) fn is_lost(error: &Error) -> bool {
    let lost = [
        ErrorCode::EAGAIN,
        ErrorCode::ENOENT,
        ErrorCode::EINVAL,
        ErrorCode::EIO,
    ];
    error.code().is_some_and(|code| lost.contains(code))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::peer::Peer;
    use crate::wire::Kind;

    fn client() -> (Client, Peer) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Client::new(ours.into()), Peer::new(theirs))
    }

    /// All calls, whatever they ask, and the time that none of them may take.
    fn all_say(client: &mut Client, cause: &str) {
        for _ in 0..2 {
            let results = [
                client.read("a").map(drop),
                client.write("a", "value"),
                client.watch("a", "token"),
                client.walk("a").map(drop),
                client.domain_path(5).map(drop),
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
    fn after_the_end_of_a_connection_every_call_names_the_first_cause() {
        let cause =
            "the Xenstore server broke the protocol: a reply (READ, id 77) to no request of ours";
        let (mut client, mut peer) = client();
        // It stays open, and goes on as if nothing was.
        peer.send(Kind::WATCH_EVENT, 0, b"data\0token\0");
        peer.send(Kind::READ, 77, b"");
        (1..40).for_each(|id| peer.send(Kind::READ, id, b"value"));
        let pipeline = client.pipeline([Request::read("a").unwrap(), Request::read("b").unwrap()]);
        assert_eq!(pipeline.unwrap_err().to_string(), cause);
        // What came before it is not lost.
        assert_eq!(
            client.next_watch_event(None).unwrap().unwrap().token,
            "token"
        );
        all_say(&mut client, cause);
    }

    #[test]
    fn a_server_that_hangs_up_is_told_of_every_time() {
        let (mut client, mut peer) = client();
        peer.hang_up();
        all_say(
            &mut client,
            "the Xenstore server at a socket closed the connection",
        );
    }

    #[test]
    fn a_reply_that_means_nothing_is_one_calls_error() {
        let (mut client, mut peer) = client();
        let peer = std::thread::spawn(move || {
            for payload in ["x0\0", "value"] {
                let asked = peer.receive();
                peer.send(asked.kind, asked.request_id, payload.as_bytes());
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
    fn events_that_nobody_takes_are_not_kept_for_ever() {
        let (mut client, mut peer) = client();
        let flood = std::thread::spawn(move || {
            let payload = [b"data\0".as_slice(), &[b't'; 4000], b"\0"].concat();
            let mut sent = 0;
            while peer.send_if_open(Kind::WATCH_EVENT, 0, &payload) {
                sent += 1;
            }
            sent
        });
        // Nobody can take them while this waits.
        let error = client.read("a").unwrap_err();
        let kept = WATCH_EVENTS_MAX / client.watch_events[0].size();
        assert!(matches!(error, Error::EventsNotTaken { .. }), "{error}");
        assert_eq!(client.watch_events.len(), kept);
        for _ in 0..kept {
            client.next_watch_event(None).unwrap();
        }
        all_say(&mut client, &error.to_string());
        drop(client);
        assert!(flood.join().unwrap() > kept);
    }
}
