//! Blocking client.

mod waiting;
mod watches;

use std::collections::{HashSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::channel::Channel;
use crate::connection::Connection;
use crate::depth::{Depth, Scope};
use crate::error::{Error, Result};
use crate::event::{RequestId, WatchEvent, WatchId};
use crate::features::Features;
use crate::nodes::Nodes;
use crate::protocol::Capabilities;
use crate::request::{Request, TransactionId};
use crate::submitted::Submitted;
use crate::transaction::Abandon;
use crate::transport::Transport;
use crate::wire::MessageKind;

/// Maximum size of the queued watch events in bytes. The limit is necessary because events arrive
/// at the server's pace, and the caller cannot take them while another call blocks.
pub(crate) const WATCH_EVENTS_MAX: usize = 16 << 20;

/// A client whose calls block until the server replies.
///
/// The calls about nodes are those of the trait [`Nodes`]. Calls about domains and the server are
/// requests:
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use xenstore::{Client, Nodes, Request};
/// # use xenstore::embedded::{Server, Store, Toolstack};
/// # let mut store = Store::new();
/// # store.introduce_guest(5, Toolstack::Xapi);
/// # let server = Server::new(store).spawn()?;
///
/// // In a guest or in dom0, use `Client::open()?`.
/// let mut client = Client::new(server.connect(5)?.into());
/// client.write("data/hello", "world")?;
/// let home = client.call(Request::domain_path(5))?;
/// assert_eq!(client.read(home.join("data/hello")?)?, b"world");
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
///
/// Watch events that arrive during a call are queued for
/// [`next_watch_event`](Self::next_watch_event). A client that sets watches but never reads their
/// events is disconnected once 16 MiB of them are queued ([`Error::EventsNotTaken`]). The
/// descriptor ([`AsFd`]) is readable if there is data that the client has not received yet.
///
/// If a call fails with a [fatal](Error::is_fatal) error, the connection is closed, and all later
/// calls return that error.
///
/// Threads share a connection by [`SharedClient`](crate::SharedClient).
#[derive(Debug)]
pub struct Client<C: Channel = Transport> {
    pub(crate) connection: Connection<C>,
    /// Set watches. An event of another watch is old, and is discarded.
    watches: Vec<(WatchId, Scope)>,
    last_watch: WatchId,
    watch_events: VecDeque<WatchEvent>,
    /// Size of `watch_events` in bytes.
    watch_events_size: usize,
    /// Replies that arrived before the one that a call waits for.
    replies: Vec<(RequestId, Result<Vec<u8>>)>,
    time_limit: Option<Duration>,
    /// Features of the server, once it has reported them.
    pub(crate) features: Option<Features>,
}

type Reply = Result<Vec<u8>>;

impl Client {
    /// Opens the Xenstore of this system. See [`Transport::open`] for the places where it looks.
    ///
    /// # Errors
    /// [`Error::NoServer`] if there is none, [`Error::Io`] if opening it fails. By default, only
    /// root may open it.
    pub fn open() -> Result<Self> {
        Ok(Self::new(Transport::open()?))
    }

    /// Creates a client over `transport`.
    pub fn new(transport: Transport) -> Self {
        Self::with_channel(transport)
    }
}

impl<C: Channel> Client<C> {
    /// Creates a client over any channel.
    pub fn with_channel(channel: C) -> Self {
        Client {
            connection: Connection::with_channel(channel),
            watches: Vec::new(),
            last_watch: WatchId::default(),
            watch_events: VecDeque::new(),
            watch_events_size: 0,
            replies: Vec::new(),
            time_limit: None,
            features: None,
        }
    }

    /// Sets the timeout of each later call, which waits for replies. After it, the call fails with
    /// [`Error::TimedOut`], and the connection stays open. There is no timeout by default.
    ///
    /// Whether the server has performed the request is then unknown. If it begins a watch or a
    /// transaction after the timeout, the client ends it at once. Calls that send several requests,
    /// such as [`walk`](Nodes::walk), wait this long for each of them.
    ///
    /// The timeout does not hold on devices whose kernel waits for the reply inside write(2); see
    /// [the manual](crate::manual::servers#transports).
    pub fn set_time_limit(&mut self, limit: Option<Duration>) {
        self.time_limit = limit;
    }

    /// Returns the features that the server offers to this domain. They are empty if the server does
    /// not know the question, as all servers but C xenstored since Xen 4.22.
    ///
    /// The client asks once and keeps the answer. A guest that migrates may get another server.
    ///
    /// ```
    /// # #[cfg(feature = "embedded")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use xenstore::embedded::{Model, Server, Store};
    /// use xenstore::{Client, Features};
    ///
    /// // In a guest or in dom0, use `Client::open()?`.
    /// let server = Server::new(Store::with_model(Model::CXenstored4_22)).spawn()?;
    /// let mut client = Client::new(server.connect(0)?.into());
    /// assert!(client.features()?.contains(Features::WATCH_DEPTH));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "embedded"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// Those that close the connection, [`Error::TimedOut`], and an unexpected refusal of the
    /// question.
    pub fn features(&mut self) -> Result<Features> {
        if let Some(features) = self.features {
            return Ok(features);
        }
        let features = Features::of_reply(self.send(Request::features()))?;
        self.features = Some(features);
        Ok(features)
    }

    /// Sets a watch: an event is sent now, and after each change of a node at or below `path`.
    ///
    /// # Errors
    /// If the quota is reached: `E2BIG` (C xenstored of Xen 4.17), `ENOSPC` (of Xen 4.22), `EQUOTA`
    /// (oxenstored) or [`Error::NotSent`] (on Linux's device). Those of every call of
    /// [`Nodes`](crate::Nodes).
    pub fn watch(&mut self, path: impl AsRef<str>) -> Result<WatchId> {
        self.set_watch(path.as_ref(), None)
    }

    /// Sets a watch of `path` like [`watch`](Self::watch), without the events of nodes more than
    /// `depth` levels below it. The removal of a node above `path` counts as a change of `path`.
    ///
    /// The server omits these events if it has [`Features::WATCH_DEPTH`] and the transport carries
    /// the depth; see [`Capabilities`](crate::protocol::Capabilities). Otherwise the client discards
    /// them. On such a transport, the first call also asks for the [features](Self::features).
    ///
    /// On `@introduceDomain` and `@releaseDomain`, such a server then also names the domain, if the
    /// depth is not [`Depth::NODE`]; see [`WatchEvent::domain`]. While an event that names none waits
    /// to be taken, the client discards equal ones.
    ///
    /// ```
    /// # #[cfg(feature = "embedded")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use xenstore::{Client, Depth, Nodes};
    /// # use xenstore::embedded::{Server, Store, Toolstack};
    /// # let mut store = Store::new();
    /// # store.introduce_guest(5, Toolstack::Xapi);
    /// # let server = Server::new(store).spawn()?;
    ///
    /// // In a guest or in dom0, use `Client::open()?`.
    /// let mut client = Client::new(server.connect(5)?.into());
    /// client.watch_to("data", Depth::CHILDREN)?;
    /// client.write("data/disk/0", "sda")?;
    /// client.write("data/disk", "1")?;
    ///
    /// let mut changed = Vec::new();
    /// while let Some(event) = client.next_watch_event(Some(Duration::ZERO))? {
    ///     changed.push(event.path.to_string());
    /// }
    /// changed.dedup();
    /// assert_eq!(changed, ["data", "data/disk"]);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "embedded"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// Those of [`watch`](Self::watch).
    pub fn watch_to(&mut self, path: impl AsRef<str>, depth: Depth) -> Result<WatchId> {
        if self.capabilities().watch_depth {
            Features::optional(self.features())?;
        }
        self.set_watch(path.as_ref(), Some(depth))
    }

    /// Ends a watch. No event of it is returned any more.
    ///
    /// # Errors
    /// `ENOENT` if there is no such watch, and those of every call of [`Nodes`](crate::Nodes).
    pub fn unwatch(&mut self, watch: WatchId) -> Result<()> {
        let request = self.end_watch(watch)?;
        self.send(request)
    }

    /// Ends all watches and transactions of this connection; see [`Request::reset_watches`]. No
    /// event of a watch is returned any more.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] on a device, and those of every call of [`Nodes`](crate::Nodes). The
    /// watches remain if the server refuses the request, or if it is not sent.
    pub fn reset_watches(&mut self) -> Result<()> {
        let reset = self.send(Request::reset_watches());
        // Even if the reply comes too late, the server ends the watches.
        let has_failed = matches!(
            reset,
            Err(Error::Refused { .. } | Error::NotSent { .. } | Error::InvalidRequest { .. })
        );
        if !has_failed {
            self.sort_events();
            self.watches.clear();
            self.watch_events.clear();
            self.watch_events_size = 0;
        }
        reset
    }

    /// Returns the next watch event. Blocks for at most `timeout`, or without limit for `None`.
    /// Returns `None` after the timeout. A signal does not end the wait.
    ///
    /// # Errors
    /// Those that close the connection.
    pub fn next_watch_event(&mut self, timeout: Option<Duration>) -> Result<Option<WatchEvent>> {
        self.wait_for(deadline(timeout), Self::take_watch_event)
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        self.connection.channel().capabilities()
    }

    /// Sends a request without a check of its kind, and returns its reply.
    fn send<T>(&mut self, request: Request<T>) -> Result<T> {
        let deadline = deadline(self.time_limit);
        let request = self.submit(request)?;
        let reply = self.reply(&request, deadline)?;
        request.parse(reply)
    }

    pub(crate) fn time_limit(&self) -> Option<Duration> {
        self.time_limit
    }

    /// Discards a request that has no reply in time, and returns its error.
    pub(crate) fn give_up<T>(&mut self, request: &Submitted<T>) -> Error {
        let id = request.id();
        let path = self.connection.give_up(&HashSet::from([id])).remove(&id);
        self.timed_out(request, path)
    }

    fn timed_out<T>(&self, request: &Submitted<T>, path: Option<Box<str>>) -> Error {
        Error::TimedOut {
            operation: request.operation(),
            path,
            limit: self.time_limit.unwrap_or_default(),
        }
    }

    /// Parses replies, and gives up the requests without one. Takes all at once, because giving up
    /// one request searches all that are pending.
    pub(crate) fn parse_all<T>(
        &mut self,
        replies: Vec<(Submitted<T>, Option<Reply>)>,
    ) -> Vec<Result<T>> {
        let late = replies.iter().filter(|(_, reply)| reply.is_none());
        let late: HashSet<_> = late.map(|(request, _)| request.id()).collect();
        let mut paths = self.connection.give_up(&late);

        let replies = replies.into_iter().map(|(request, reply)| {
            let late = || Err(self.timed_out(&request, paths.remove(&request.id())));
            let reply = reply.unwrap_or_else(late);
            request.parse(reply)
        });
        replies.collect()
    }
}

/// Rejects requests that would interfere with the client's own watches.
pub(crate) fn check<T>(request: &Request<T>) -> Result<()> {
    match request.kind() {
        MessageKind::WATCH | MessageKind::UNWATCH | MessageKind::RESET_WATCHES => Err(request
            .invalid("watch requests are not allowed here; use the client's own calls".to_owned())),
        _ => Ok(()),
    }
}

/// Returns the end of a time limit that starts now.
pub(crate) fn deadline(limit: Option<Duration>) -> Option<Instant> {
    limit.and_then(|limit| Instant::now().checked_add(limit))
}

/// Returns the time until a deadline.
pub(crate) fn left(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

impl<C: Channel> Nodes for Client<C> {
    fn call<T>(&mut self, request: Request<T>) -> Result<T> {
        check(&request)?;
        self.send(request)
    }

    fn pipeline<T>(
        &mut self,
        requests: impl IntoIterator<Item = Request<T>>,
    ) -> Result<Vec<Result<T>>> {
        let deadline = deadline(self.time_limit);
        let submitted = self.submit_all(requests)?;

        let mut is_late = false;
        let mut replies = Vec::with_capacity(submitted.len());
        for request in submitted {
            let id = request.id();
            let reply = if is_late {
                self.take_reply(id)
            } else {
                self.wait_for(deadline, |client| client.take_reply(id))?
            };
            is_late |= reply.is_none();
            replies.push((request, reply));
        }
        Ok(self.parse_all(replies))
    }
}

impl<C: Channel> Abandon for Client<C> {
    fn abandon(&mut self, transaction: TransactionId) {
        if let Ok(abort) = self.connection.submit(Request::abort(transaction)) {
            self.connection.cancel(abort.id());
            // An error closes the connection, and with it the transaction.
            let _ = self.connection.flush();
        }
    }
}

impl<C: Channel + AsFd> AsFd for Client<C> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
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
                client.watch("a").map(drop),
                client.walk("a").map(drop),
                client.call(Request::domain_path(5)).map(drop),
                client
                    .pipeline([Request::read("a").unwrap(), Request::read("b").unwrap()])
                    .map(drop),
                client.transaction(|_| Ok::<_, Error>(())),
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
        let cause = "the Xenstore server at a socket violated the protocol: reply READ without a request (id 77)";
        let (mut client, mut peer) = client();
        let (watch, _) = client.add_watch("data", None).unwrap();
        // The server keeps the connection open and continues to reply.
        peer.send(MessageKind::WATCH_EVENT, 0, b"data\x001\0");
        peer.send(MessageKind::READ, 77, b"");
        (1..40).for_each(|id| peer.send(MessageKind::READ, id, b"value"));
        let pipeline = client.pipeline([Request::read("a").unwrap(), Request::read("b").unwrap()]);
        assert_eq!(pipeline.unwrap_err().to_string(), cause);
        // The event from before is not lost.
        assert_eq!(
            client.next_watch_event(None).unwrap().unwrap().watch(),
            Some(watch)
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
            matches!(error, Error::InvalidReply { .. }) && !error.is_fatal(),
            "{error}"
        );
        assert_eq!(client.read("a").unwrap(), b"value");
        peer.join().unwrap();
    }

    #[test]
    fn unread_watch_events_are_limited() {
        let (mut client, mut peer) = client();
        client.add_watch("data", None).unwrap();
        let flood = std::thread::spawn(move || {
            let payload = [b"data/".as_slice(), &[b'n'; 2000], b"\x001\0"].concat();
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
