//! Watches of the blocking client.

use std::time::Duration;

use super::{Client, deadline};
use crate::channel::Channel;
use crate::depth::{Depth, Scope};
use crate::error::{Error, ErrorCode, Result};
use crate::event::{WatchEvent, WatchId};
use crate::features::Features;
use crate::path::Path;
use crate::request::Request;
use crate::wire::MessageKind;

impl<C: Channel> Client<C> {
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

    fn set_watch(&mut self, path: &str, depth: Option<Depth>) -> Result<WatchId> {
        let (watch, request) = self.add_watch(path, depth)?;
        let set = self.send(request);
        if set.is_err() {
            self.forget_watch(watch);
        }
        set.map(|()| watch)
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

    /// Registers a watch, because its first event may arrive before the reply to its request. The
    /// server limits the depth only if its features are known already.
    pub(crate) fn add_watch(
        &mut self,
        path: &str,
        depth: Option<Depth>,
    ) -> Result<(WatchId, Request<()>)> {
        let features = self.features.unwrap_or_default();
        let can_limit = self.capabilities().watch_depth && features.contains(Features::WATCH_DEPTH);

        let watch = self.last_watch.next();
        let scope = Scope::new(path, depth)?;
        let request = scope.request(&watch.to_string(), can_limit)?;
        self.last_watch = watch;
        self.watches.push((watch, scope));
        Ok((watch, request))
    }

    /// Removes a watch and its queued events. Returns its path.
    pub(crate) fn forget_watch(&mut self, watch: WatchId) -> Option<Path> {
        self.sort_events();
        let index = self.watches.iter().position(|(id, _)| *id == watch)?;
        self.watch_events
            .retain(|event| event.watch() != Some(watch));
        self.watch_events_size = self.watch_events.iter().map(WatchEvent::size).sum();
        Some(self.watches.swap_remove(index).1.path)
    }

    /// Removes a watch, and returns the request that ends it.
    pub(crate) fn end_watch(&mut self, watch: WatchId) -> Result<Request<()>> {
        let path = self.forget_watch(watch).ok_or_else(|| {
            // The server would reply this.
            Error::refused(ErrorCode::ENOENT, MessageKind::UNWATCH, None)
        })?;
        Request::unwatch(path, &watch.to_string())
    }

    /// Returns a received watch event.
    pub(crate) fn take_watch_event(&mut self) -> Option<WatchEvent> {
        self.sort_events();
        let event = self.watch_events.pop_front()?;
        self.watch_events_size -= event.size();
        Some(event)
    }
}
