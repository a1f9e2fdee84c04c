//! Domains that come, go, and resume.

use super::caller::Caller;
use super::connection::ConnectionId;
use super::store::Store;
use super::tree::owned_by;
use crate::domid::DomId;
use crate::event::{INTRODUCE_DOMAIN, RELEASE_DOMAIN};

impl Store {
    /// Opens a connection of `domain`, and introduces the domain if that has not happened yet.
    pub fn connect(&mut self, domain: impl Into<DomId>) -> ConnectionId {
        let domain = domain.into();
        self.introduce(domain);
        self.add_connection(domain)
    }

    /// Introduces a domain, and fires `@introduceDomain` if the domain is new. Creates no nodes.
    pub fn introduce(&mut self, domain: impl Into<DomId>) {
        let domain = domain.into();
        let state = self.domains.entry(domain).or_default();
        if !std::mem::replace(&mut state.introduced, true) {
            self.fire_special(INTRODUCE_DOMAIN, domain);
        }
    }

    /// Whether a domain was introduced and not released since.
    pub fn is_introduced(&self, domain: impl Into<DomId>) -> bool {
        let domain = domain.into();
        self.domains
            .get(&domain)
            .is_some_and(|state| state.introduced)
    }

    /// Releases a domain that no longer exists. Domain 0 cannot be released.
    ///
    /// Closes the domain's connections, removes the nodes that it owns with all nodes below them,
    /// removes it from all permissions, and fires `@releaseDomain`. Its home and other nodes that
    /// domain 0 owns remain.
    pub fn release(&mut self, domain: impl Into<DomId>) {
        let domain = domain.into();
        if domain == DomId::DOM0 {
            return;
        }

        self.connections
            .retain(|_, connection| connection.domain != domain);
        for state in self.domains.values_mut() {
            state.target = state.target.filter(|target| *target != domain);
        }

        self.remove_owned(domain);
        self.tree.forget_domain(domain);
        for connection in self.connections.values_mut() {
            for transaction in connection.transactions.values_mut() {
                transaction.forget_domain(domain);
            }
        }

        let released = self.domains.remove(&domain);
        if released.is_some_and(|state| state.introduced) {
            self.fire_special(RELEASE_DOMAIN, domain);
        }
    }

    /// Does what a guest sees after a suspend and resume.
    ///
    /// The guest's transactions are lost, and each of its watches fires once, because its kernel
    /// has set them again. The tree stays as it is; a toolstack makes a new one.
    pub fn resume(&mut self, domain: impl Into<DomId>) {
        let domain = domain.into();
        self.migrate(domain, domain);
    }

    /// Does what a guest sees after a migration or a restore, when it continues as a new domain.
    ///
    /// This is a [`resume`](Self::resume) after which the guest's connections belong to `to`, so
    /// that relative paths start from that domain's home. Introduces `to`. The domain `from` and
    /// both trees stay as they are.
    pub fn migrate(&mut self, from: impl Into<DomId>, to: impl Into<DomId>) {
        let (from, to) = (from.into(), to.into());
        self.introduce(to);
        let connections = self.connections.values_mut();
        for connection in connections.filter(|connection| connection.domain == from) {
            connection.move_to(to);
        }
    }

    /// Removes the nodes that a domain owns and all nodes below them. Gives the root and the
    /// special nodes to domain 0.
    pub(super) fn remove_owned(&mut self, domain: DomId) {
        for path in ["/", INTRODUCE_DOMAIN, RELEASE_DOMAIN] {
            let node = self.tree.get(path);
            if node.is_some_and(|node| node.owner() == domain) {
                self.tree
                    .modify(path, |node| node.permissions = owned_by(DomId::DOM0));
            }
        }

        let owned: Vec<_> = self
            .tree
            .at_and_below("/")
            .filter(|(_, node)| node.owner() == domain)
            .map(|(path, _)| path.to_owned())
            .collect();
        for path in owned {
            // A node may already be gone together with its parent.
            let _ = self.remove_node(&mut Caller::domain_0(), &path);
        }
    }
}
