//! Operations on nodes.

use std::sync::Arc;

use super::caller::{Caller, RequiredAccess};
use super::store::Store;
use super::transaction::{INCONSISTENT, View};
use super::tree::{self, Node, name, owned_by, parent};
use crate::domid::DomId;
use crate::error::ErrorCode;
use crate::permission::{Access, Permission};

type Result<T> = std::result::Result<T, ErrorCode>;

impl Store {
    fn view<'a>(&'a mut self, caller: &'a mut Caller) -> View<'a> {
        // oxenstored counts the requests of a transaction instead of its nodes.
        let limit = if self.model.is_oxenstored() {
            usize::MAX
        } else {
            self.limit(caller.domain, |quotas| quotas.transaction_nodes)
        };
        View {
            tree: &mut self.tree,
            transaction: caller.transaction.as_mut(),
            limit,
        }
    }

    /// Checks that a node exists and that the caller has the required access to it.
    ///
    /// Otherwise the error is `ENOENT` or `EACCES`. A caller without the same access to the nearest
    /// existing parent always gets `EACCES`, so that it cannot find out whether the node exists. Only
    /// oxenstored tells readers.
    fn check(&mut self, caller: &mut Caller, path: &str, required: RequiredAccess) -> Result<()> {
        let code = match self.node_permissions(caller, path)? {
            Some(permissions) if caller.has(required, &permissions) => return Ok(()),
            Some(_) => ErrorCode::EACCES,
            None => ErrorCode::ENOENT,
        };
        if self.model.is_oxenstored() && required == RequiredAccess::Read {
            return Err(code);
        }

        let required_above = match required {
            RequiredAccess::Read => RequiredAccess::Read,
            RequiredAccess::Write | RequiredAccess::Own => RequiredAccess::Write,
        };
        let mut above = path;
        loop {
            above = parent(above);
            match self.node_permissions(caller, above)? {
                Some(permissions) if caller.has(required_above, &permissions) => return Err(code),
                None if above != "/" => {}
                _ => return Err(ErrorCode::EACCES),
            }
        }
    }

    fn node_permissions(
        &mut self,
        caller: &mut Caller,
        path: &str,
    ) -> Result<Option<Arc<[Permission]>>> {
        let mut view = self.view(caller);
        let node = view.node(path)?;
        Ok(node.map(|node| node.permissions.clone()))
    }

    /// Returns the result of `get` for a node that the caller may read.
    pub(super) fn get<T>(
        &mut self,
        caller: &mut Caller,
        path: &str,
        get: impl FnOnce(&Node) -> T,
    ) -> Result<T> {
        self.check(caller, path, RequiredAccess::Read)?;
        self.view(caller)
            .node(path)?
            .map(get)
            .ok_or(ErrorCode::ENOENT)
    }

    pub(super) fn write_node(
        &mut self,
        caller: &mut Caller,
        path: &str,
        value: &[u8],
    ) -> Result<()> {
        match self.check(caller, path, RequiredAccess::Write) {
            Ok(()) => {
                let new_size = |node: &Node| node.size() - node.value.len() + value.len();
                self.check_size(caller, path, new_size)?;
                self.view(caller)
                    .modify(path, |node| node.value = value.into())?;
            }
            Err(ErrorCode::ENOENT) => self.create(caller, path, value)?,
            Err(code) => return Err(code),
        }
        self.notify(caller, path, false, None);
        Ok(())
    }

    pub(super) fn make_node(&mut self, caller: &mut Caller, path: &str) -> Result<()> {
        match self.check(caller, path, RequiredAccess::Write) {
            Err(ErrorCode::ENOENT) => self.create(caller, path, b"")?,
            exists_or_refused => return exists_or_refused,
        }
        self.notify(caller, path, false, None);
        Ok(())
    }

    pub(super) fn remove_node(&mut self, caller: &mut Caller, path: &str) -> Result<()> {
        match self.check(caller, path, RequiredAccess::Write) {
            Ok(()) if path == "/" => return Err(ErrorCode::EINVAL),
            Ok(()) => {}
            Err(ErrorCode::ENOENT) => {
                let has_parent = self.view(caller).node(parent(path))?.is_some();
                return has_parent.then_some(()).ok_or(ErrorCode::ENOENT);
            }
            Err(code) => return Err(code),
        }
        if self.view(caller).node(parent(path))?.is_none() {
            return Err(ErrorCode::EINVAL);
        }

        let paths = self.view(caller).subtree(path)?;
        for removed in &paths {
            // This precedes the removal, because the permissions of node and parent decide who is
            // notified.
            self.notify(caller, removed, removed != path, None);
        }

        let mut view = self.view(caller);
        for removed in &paths {
            view.remove(removed)?;
        }
        let mut was_child = false;
        view.modify(parent(path), |above| {
            let mut children = above.children.iter();
            let found = children.position(|child| **child == *name(path));
            was_child = found.map(|index| above.children.remove(index)).is_some();
        })?;
        if was_child { Ok(()) } else { Err(INCONSISTENT) }
    }

    pub(super) fn set_node_permissions(
        &mut self,
        caller: &mut Caller,
        path: &str,
        permissions: &[Permission],
    ) -> Result<()> {
        let owner = permissions.first().ok_or(ErrorCode::EINVAL)?.domain;
        self.check(caller, path, RequiredAccess::Own)?;
        let before = self
            .node_permissions(caller, path)?
            .unwrap_or_else(|| owned_by(DomId::DOM0));
        if !caller.is_privileged() && owner != tree::owner(&before) {
            return Err(self.model.foreign_owner());
        }

        let size = |permissions: &[Permission]| tree::size(permissions.len(), 0);
        let new_size = |node: &Node| node.size() - size(&node.permissions) + size(permissions);
        self.check_size(caller, path, new_size)?;

        self.view(caller)
            .modify(path, |node| node.permissions = permissions.into())?;
        self.notify(caller, path, false, Some(&before));
        Ok(())
    }

    /// Creates a missing node, and its parents if they are missing.
    fn create(&mut self, caller: &mut Caller, path: &str, value: &[u8]) -> Result<()> {
        if let Some(transaction) = &mut caller.transaction {
            transaction.has_created_nodes = true;
        }

        // `missing` holds the nodes to create from the bottom up, and `above` the nearest existing
        // parent.
        let mut missing = vec![path];
        let mut above = parent(path);
        let inherited = loop {
            if let Some(permissions) = self.node_permissions(caller, above)? {
                break permissions;
            }
            missing.push(above);
            above = parent(above);
        };

        self.check_new(caller, &missing, inherited.len(), value.len())?;
        let new_name = missing.last().map_or("", |highest| name(highest));
        self.check_size(caller, above, |node| node.size() + new_name.len() + 1)?;

        let permissions = new_permissions(caller, inherited);
        let mut view = self.view(caller);
        let mut below = None;
        for path in missing {
            let value = if below.is_none() { value } else { b"" };
            let mut node = Node::new(value, permissions.clone());
            node.children.extend(below);
            view.put(path, node)?;
            below = Some(name(path).into());
        }
        view.modify(above, |node| node.children.extend(below))
    }

    /// Checks that the caller's quotas allow the nodes of `missing`, which are sorted from the
    /// bottom up.
    fn check_new(
        &mut self,
        caller: &mut Caller,
        missing: &[&str],
        permissions: usize,
        value: usize,
    ) -> Result<()> {
        if caller.is_privileged() {
            return Ok(());
        }

        // The commit counts the new nodes of a transaction, so that here one free place is enough.
        let more = if caller.transaction.is_some() {
            1
        } else {
            missing.len()
        };
        if self.tree.owned(caller.domain) + more > self.node_limit(caller.domain) {
            return Err(self.model.quota_full());
        }

        let limit = self.size_limit(caller.domain);
        // The lowest node contains the value, and each other node the name of the one below it.
        let names = missing.iter().map(|path| name(path).len() + 1);
        let mut contents = std::iter::once(value).chain(names).take(missing.len());
        if contents.any(|len| tree::size(permissions, len) >= limit) {
            caller.fail_transaction();
            return Err(ErrorCode::ENOSPC);
        }
        Ok(())
    }

    /// Checks that the caller's quota allows the new size of a node.
    fn check_size(
        &mut self,
        caller: &mut Caller,
        path: &str,
        new_size: impl FnOnce(&Node) -> usize,
    ) -> Result<()> {
        if caller.is_privileged() {
            return Ok(());
        }

        let limit = self.size_limit(caller.domain);
        if self.view(caller).node(path)?.map_or(0, new_size) >= limit {
            caller.fail_transaction();
            return Err(ErrorCode::ENOSPC);
        }
        Ok(())
    }

    /// Returns the size that the nodes of a domain must not reach.
    fn size_limit(&self, domain: DomId) -> usize {
        let quota = self.limit(domain, |quotas| quotas.node_size);
        self.model.node_size(quota)
    }

    /// Returns the maximum number of nodes that a domain may own.
    pub(super) fn node_limit(&mut self, domain: DomId) -> usize {
        if self.faults.fills_nodes(domain) {
            0
        } else {
            self.limit(domain, |quotas| quotas.nodes)
        }
    }

    /// Fires the watches of a change, at once or with the commit.
    fn notify(
        &mut self,
        caller: &mut Caller,
        path: &str,
        exact: bool,
        before: Option<&[Permission]>,
    ) {
        match &mut caller.transaction {
            Some(transaction) => transaction.queue_event(path, exact),
            None => self.fire(path, exact, before),
        }
    }
}

/// Returns the permissions of a node that the caller creates: the parent's, with the caller as the
/// owner.
fn new_permissions(caller: &Caller, inherited: Arc<[Permission]>) -> Arc<[Permission]> {
    if caller.is_privileged() || tree::owner(&inherited) == caller.domain {
        return inherited;
    }

    let owner = Permission {
        domain: caller.domain,
        access: inherited.first().map_or(Access::None, |first| first.access),
    };
    let others = inherited.iter().skip(1).copied();
    std::iter::once(owner).chain(others).collect()
}
