//! Delivery of watch events to connections.

use super::caller::Caller;
use super::connection::Connection;
use super::domain::home;
use super::model::Model;
use super::store::Store;
use super::tree;
use super::watch::Watch;
use crate::domid::DomId;
use crate::permission::Permission;
use crate::wire::{Message, MessageKind, PAYLOAD_MAX};

impl Store {
    /// Sends the events of a change of `path` to all watches at or above it, or with `exact` only
    /// to those of that very path.
    ///
    /// A domain receives an event if it may read the node or its parent, or if the permissions
    /// `before` the change let it read the node. For a removal that a transaction commits, `before`
    /// is all that remains to decide by.
    pub(super) fn fire(&mut self, path: &str, exact: bool, before: Option<&[Permission]>) {
        let Store {
            model,
            tree,
            connections,
            domains,
            faults,
            ..
        } = self;

        let node = tree.get(path);
        let parent = node.and_then(|_| tree.get(tree::parent(path)));
        let deciding = [
            before,
            node.map(|node| &*node.permissions),
            parent.map(|node| &*node.permissions),
        ];

        for connection in connections.values_mut() {
            let caller = Caller::new(connection.domain, domains.get(&connection.domain), *model);
            let is_watching = connection
                .watches
                .iter()
                .any(|watch| watch.matches(path, exact));
            let may_know = || {
                let mut deciding = deciding.iter().flatten();
                deciding.any(|permissions| caller.access(permissions).can_read())
            };
            if is_watching && may_know() && !faults.drops_event(caller.domain, path) {
                connection.notify(path, exact);
            }
        }
    }

    /// Sends the events of a special node about a domain.
    ///
    /// A watch of the special node gets the node as the path, or with a depth the domain below it. Xen
    /// 4.22 also has watches of the domain below it. The permissions of the special node decide who
    /// receives the events.
    pub(super) fn fire_special(&mut self, node: &str, domain: DomId) {
        let Store {
            model,
            tree,
            connections,
            domains,
            faults,
            ..
        } = self;
        let permissions = tree.get(node).map(|node| &*node.permissions);
        let of_domain = format!("{node}/{domain}");

        for connection in connections.values_mut() {
            let caller = Caller::new(connection.domain, domains.get(&connection.domain), *model);
            let may_know = permissions.is_some_and(|entries| caller.access(entries).can_read());
            let watches_it = |watch: &Watch| {
                *watch.path == *node
                    || (*model == Model::CXenstored4_22 && *watch.path == *of_domain)
            };
            let is_watching = connection.watches.iter().any(watches_it);
            if !is_watching || !may_know || faults.drops_event(caller.domain, node) {
                continue;
            }

            let watches = std::mem::take(&mut connection.watches);
            for watch in watches.iter().filter(|watch| watches_it(watch)) {
                let is_plain = *watch.path == *node && watch.depth.is_none();
                connection.push_event(watch, if is_plain { node } else { &of_domain });
            }
            connection.watches = watches;
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

    /// Sends the event that every watch fires when it is set.
    pub(super) fn fire_newest_watch(&mut self) {
        if let Some(watch) = self.watches.pop() {
            self.push_event(&watch, &watch.path);
            self.watches.push(watch);
        }
    }

    /// Makes this the connection of another domain, like a kernel that resumes after a migration.
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

        // C xenstored drops an event that equals one still queued, unless it is a special one.
        let is_queued = |message: &Message| {
            message.kind == MessageKind::WATCH_EVENT && message.payload == payload
        };
        if payload.len() > PAYLOAD_MAX
            || (!self.model.is_oxenstored()
                && !changed.starts_with('@')
                && self.output().any(is_queued))
        {
            return;
        }

        self.push(Message {
            kind: MessageKind::WATCH_EVENT,
            request_id: 0,
            transaction_id: 0,
            payload,
        });
    }
}
