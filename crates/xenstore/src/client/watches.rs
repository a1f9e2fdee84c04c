//! Watches of the blocking client.

use super::Client;
use crate::channel::Channel;
use crate::depth::{Depth, Scope};
use crate::error::{Error, ErrorCode, Result};
use crate::event::{WatchEvent, WatchId};
use crate::features::Features;
use crate::path::Path;
use crate::request::Request;
use crate::wire::MessageKind;

impl<C: Channel> Client<C> {
    pub(super) fn set_watch(&mut self, path: &str, depth: Option<Depth>) -> Result<WatchId> {
        let (watch, request) = self.add_watch(path, depth)?;
        let set = self.send(request);
        if set.is_err() {
            self.forget_watch(watch);
        }
        set.map(|()| watch)
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
