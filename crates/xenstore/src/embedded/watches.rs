//! Watches, and who hears of what.

use super::asker::Asker;
use super::connection::Connection;
use super::domains::home;
use super::store::Store;
use super::tree;
use crate::permission::{DomId, Permission};
use crate::wire::{Kind, Message, PAYLOAD_MAX};

#[derive(Debug)]
pub(super) struct Watch {
    /// Absolute, or one of the special paths.
    path: Box<str>,
    token: Box<[u8]>,
    /// Events are told as they would be written from the domain's home.
    is_relative: bool,
}

impl Watch {
    pub(super) fn new(path: &str, token: &[u8], is_relative: bool) -> Self {
        Watch {
            path: path.into(),
            token: token.into(),
            is_relative,
        }
    }

    pub(super) fn is(&self, path: &str, token: &[u8]) -> bool {
        &*self.path == path && &*self.token == token
    }

    fn matches(&self, changed: &str, exact: bool) -> bool {
        match changed.strip_prefix(&*self.path) {
            Some("") => true,
            Some(rest) if rest.starts_with('/') => !exact,
            // Everything is below the root, the special paths too.
            _ => !exact && &*self.path == "/",
        }
    }
}

impl Store {
    /// Sends the events of a change of `path`: to all watches at or above it, or only to those exactly there.
    ///
    /// A domain hears of a node that it may read, or whose parent it may, or that it could read `before` its permissions
    /// changed. In a transaction nothing is sent yet; what is committed with a removal can only be judged by `before`.
    pub(super) fn fire(&mut self, path: &str, exact: bool, before: Option<&[Permission]>) {
        #[cfg(feature = "faults")]
        if self.faults.drop_events {
            return;
        }
        let Store {
            tree,
            connections,
            domains,
            ..
        } = self;
        let node = tree.get(path);
        let parent = node.and_then(|_| tree.get(tree::parent(path)));
        let judged_by = [
            before,
            node.map(|node| &*node.permissions),
            parent.map(|node| &*node.permissions),
        ];
        for connection in connections.values_mut() {
            let asker = Asker::new(connection.domain, domains.get(&connection.domain));
            let may_know = || {
                judged_by
                    .iter()
                    .flatten()
                    .any(|permissions| asker.rights(permissions).can_read())
            };
            if connection
                .watches
                .iter()
                .any(|watch| watch.matches(path, exact))
                && may_know()
            {
                connection.notify(path, exact);
            }
        }
    }
}

impl Connection {
    fn notify(&mut self, changed: &str, exact: bool) {
        let watches = std::mem::take(&mut self.watches);
        for watch in watches.iter().filter(|watch| watch.matches(changed, exact)) {
            self.push_event(watch, changed);
        }
        self.watches = watches;
    }

    /// A watch fires once when it is set.
    pub(super) fn fire_newest_watch(&mut self) {
        if let Some(watch) = self.watches.pop() {
            self.push_event(&watch, &watch.path);
            self.watches.push(watch);
        }
    }

    /// Makes the connection one of another domain, as a kernel does after a migration.
    pub(super) fn move_to(&mut self, domain: DomId) {
        let old_home = home(self.domain);
        self.domain = domain;
        self.transactions.clear();
        let mut watches = std::mem::take(&mut self.watches);
        for watch in &mut watches {
            if watch.is_relative {
                let below = watch.path.strip_prefix(&*old_home).unwrap_or_default();
                watch.path = format!("{}{below}", home(domain)).into();
            }
            self.push_event(watch, &watch.path);
        }
        self.watches = watches;
    }

    fn push_event(&mut self, watch: &Watch, changed: &str) {
        let skip = if watch.is_relative {
            home(self.domain).len() + 1
        } else {
            0
        };
        let mut payload = changed.as_bytes().get(skip..).unwrap_or_default().to_vec();
        payload.push(0);
        payload.extend_from_slice(&watch.token);
        payload.push(0);
        // As in C xenstored, an event that is still to be taken is not made twice; special ones are.
        let is_waiting =
            |message: &Message| message.kind == Kind::WATCH_EVENT && message.payload == payload;
        if payload.len() > PAYLOAD_MAX
            || (!changed.starts_with('@') && self.output().any(is_waiting))
        {
            return;
        }
        self.push(Message {
            kind: Kind::WATCH_EVENT,
            request_id: 0,
            transaction_id: 0,
            payload,
        });
    }
}
