//! What can be done with nodes.

use std::sync::Arc;

use super::asker::{Asker, Need};
use super::domains::home;
use super::store::Store;
use super::transaction::{Transaction, View};
use super::tree::{self, Node, name, owned_by, parent};
use crate::error::ErrorCode;
use crate::path::Path;
use crate::permission::{Access, DomId, Permission};

type Result<T> = std::result::Result<T, ErrorCode>;

/// What C xenstored answers where a transaction has a node and its parent from different times, so that they do not know
/// of each other. Such a transaction cannot be committed.
pub(super) const TORN: ErrorCode = ErrorCode::EIO;

impl Store {
    /// The absolute path that a domain means by `path`, or the special path where those are allowed.
    pub(super) fn canonical(&self, domain: DomId, path: &[u8], special: bool) -> Result<String> {
        let text = std::str::from_utf8(path).map_err(|_| ErrorCode::EINVAL)?;
        let absolute = match text.as_bytes().first() {
            None => return Err(ErrorCode::EINVAL),
            Some(b'@') if !special => return Err(ErrorCode::EINVAL),
            Some(b'/' | b'@') => text.to_owned(),
            Some(_) => format!("{}/{text}", home(domain)),
        };
        // A relative path's own limit is its quota: what is checked here is the whole.
        let is_path = Path::new(absolute.as_str()).is_ok();
        if is_path && local_part(&absolute).len() <= self.limit(domain, |quotas| quotas.path) {
            Ok(absolute)
        } else {
            Err(ErrorCode::EINVAL)
        }
    }

    fn view<'a>(&'a mut self, asker: &'a mut Asker) -> View<'a> {
        let most = self.limit(asker.domain, |quotas| quotas.transaction_nodes);
        View {
            tree: &mut self.tree,
            transaction: asker.transaction.as_mut(),
            most,
        }
    }

    /// Whether there is a node that the asker may use as it needs.
    ///
    /// Otherwise ENOENT or EACCES. The first is for those who could do the same with the nearest node above that is
    /// there; others do not learn whether there is one.
    fn check(&mut self, asker: &mut Asker, path: &str, need: Need) -> Result<()> {
        let found = self
            .view(asker)
            .node(path)?
            .map(|node| node.permissions.clone());
        let code = match found {
            Some(permissions) if asker.may(need, &permissions) => return Ok(()),
            Some(_) => ErrorCode::EACCES,
            None => ErrorCode::ENOENT,
        };
        let need_above = if need == Need::Read {
            Need::Read
        } else {
            Need::Write
        };
        let mut above = path;
        loop {
            above = parent(above);
            let found = self
                .view(asker)
                .node(above)?
                .map(|node| node.permissions.clone());
            match found {
                Some(permissions) if asker.may(need_above, &permissions) => return Err(code),
                None if above != "/" => {}
                _ => return Err(ErrorCode::EACCES),
            }
        }
    }

    /// What `get` takes from a node that the asker may read.
    pub(super) fn look<T>(
        &mut self,
        asker: &mut Asker,
        path: &str,
        get: impl FnOnce(&Node) -> T,
    ) -> Result<T> {
        self.check(asker, path, Need::Read)?;
        self.view(asker)
            .node(path)?
            .map(get)
            .ok_or(ErrorCode::ENOENT)
    }

    pub(super) fn write_node(&mut self, asker: &mut Asker, path: &str, value: &[u8]) -> Result<()> {
        match self.check(asker, path, Need::Write) {
            Ok(()) => {
                self.check_size(asker, path, |node| {
                    node.size() - node.value.len() + value.len()
                })?;
                self.view(asker)
                    .modify(path, |node| node.value = value.into())?;
            }
            Err(ErrorCode::ENOENT) => self.create(asker, path, value)?,
            Err(code) => return Err(code),
        }
        self.changed(asker, path, false, None);
        Ok(())
    }

    pub(super) fn make_node(&mut self, asker: &mut Asker, path: &str) -> Result<()> {
        match self.check(asker, path, Need::Write) {
            Err(ErrorCode::ENOENT) => self.create(asker, path, b"")?,
            exists_or_refused => return exists_or_refused,
        }
        self.changed(asker, path, false, None);
        Ok(())
    }

    pub(super) fn remove_node(&mut self, asker: &mut Asker, path: &str) -> Result<()> {
        match self.check(asker, path, Need::Write) {
            Ok(()) if path == "/" => return Err(ErrorCode::EINVAL),
            Ok(()) => {}
            Err(ErrorCode::ENOENT) => {
                return self
                    .view(asker)
                    .node(parent(path))?
                    .map(|_| ())
                    .ok_or(ErrorCode::ENOENT);
            }
            Err(code) => return Err(code),
        }
        if self.view(asker).node(parent(path))?.is_none() {
            return Err(ErrorCode::EINVAL);
        }
        let paths = self.view(asker).subtree(path)?;
        for removed in &paths {
            // While all is still there, since who may hear of a node is judged by it and its parent.
            self.changed(asker, removed, removed != path, None);
        }
        let mut view = self.view(asker);
        for removed in &paths {
            view.remove(removed)?;
        }
        let mut was_child = false;
        view.modify(parent(path), |above| {
            let found = above
                .children
                .iter()
                .position(|child| **child == *name(path));
            was_child = found.map(|index| above.children.remove(index)).is_some();
        })?;
        if was_child { Ok(()) } else { Err(TORN) }
    }

    pub(super) fn set_node_permissions(
        &mut self,
        asker: &mut Asker,
        path: &str,
        permissions: &[Permission],
    ) -> Result<()> {
        let owner = permissions.first().ok_or(ErrorCode::EINVAL)?.domain;
        self.check(asker, path, Need::Own)?;
        let before = self
            .view(asker)
            .node(path)?
            .map_or_else(|| owned_by(0), |node| node.permissions.clone());
        if !asker.is_privileged() && owner != tree::owner(&before) {
            return Err(ErrorCode::EPERM);
        }
        self.check_size(asker, path, |node| {
            node.size() - tree::size(node.permissions.len(), 0) + tree::size(permissions.len(), 0)
        })?;
        self.view(asker)
            .modify(path, |node| node.permissions = permissions.into())?;
        self.changed(asker, path, false, Some(&before));
        Ok(())
    }

    /// Makes a node that is missing, and its parents where they are.
    fn create(&mut self, asker: &mut Asker, path: &str, value: &[u8]) -> Result<()> {
        if let Some(transaction) = &mut asker.transaction {
            transaction.has_made_nodes = true;
        }
        // From the node up: those to be made, then the nearest that is there.
        let mut missing = vec![path];
        let mut above = parent(path);
        let inherited = loop {
            if let Some(node) = self.view(asker).node(above)? {
                break node.permissions.clone();
            }
            missing.push(above);
            above = parent(above);
        };
        self.check_new(asker, &missing, inherited.len(), value.len())?;
        let new_name = missing.last().map_or("", |highest| name(highest));
        self.check_size(asker, above, |node| node.size() + new_name.len() + 1)?;

        let permissions: Arc<[Permission]> =
            if asker.is_privileged() || tree::owner(&inherited) == asker.domain {
                inherited
            } else {
                let others = inherited.iter().skip(1).copied();
                let access = inherited.first().map_or(Access::None, |first| first.access);
                std::iter::once(Permission {
                    domain: asker.domain,
                    access,
                })
                .chain(others)
                .collect()
            };
        let mut view = self.view(asker);
        let mut below = None;
        for path in missing {
            let mut node = Node::new(
                if below.is_none() { value } else { b"" },
                permissions.clone(),
            );
            node.children.extend(below);
            view.put(path, node)?;
            below = Some(name(path).into());
        }
        view.modify(above, |node| node.children.extend(below))
    }

    /// Whether the asker's quotas let it make the nodes of `missing`, the last of which stands highest.
    fn check_new(
        &mut self,
        asker: &mut Asker,
        missing: &[&str],
        permissions: usize,
        value: usize,
    ) -> Result<()> {
        if asker.is_privileged() {
            return Ok(());
        }
        // In a transaction, new nodes count only at the commit: here it is enough that the quota was not full before.
        let more = if asker.transaction.is_some() {
            1
        } else {
            missing.len()
        };
        if self.tree.owned(asker.domain) + more > self.node_limit(asker.domain) {
            return Err(self.quotas_of(asker.domain).nodes_full.clone());
        }
        let most = self.limit(asker.domain, |quotas| quotas.node_size);
        // Each of them but the lowest, which has the value, holds the name of the one below.
        let names = missing.iter().map(|path| name(path).len() + 1);
        if std::iter::once(value)
            .chain(names)
            .take(missing.len())
            .any(|len| tree::size(permissions, len) >= most)
        {
            asker.fail_transaction();
            return Err(ErrorCode::ENOSPC);
        }
        Ok(())
    }

    /// Whether the asker may give a node the size that `size` tells.
    fn check_size(
        &mut self,
        asker: &mut Asker,
        path: &str,
        size: impl FnOnce(&Node) -> usize,
    ) -> Result<()> {
        if asker.is_privileged() {
            return Ok(());
        }
        let most = self.limit(asker.domain, |quotas| quotas.node_size);
        if self.view(asker).node(path)?.map_or(0, size) >= most {
            asker.fail_transaction();
            return Err(ErrorCode::ENOSPC);
        }
        Ok(())
    }

    /// How many nodes a domain may own.
    fn node_limit(&self, domain: DomId) -> usize {
        #[cfg(feature = "faults")]
        if self.faults.nodes_full {
            return 0;
        }
        self.limit(domain, |quotas| quotas.nodes)
    }

    /// Tells of a change, now or at the commit.
    fn changed(
        &mut self,
        asker: &mut Asker,
        path: &str,
        exact: bool,
        before: Option<&[Permission]>,
    ) {
        match &mut asker.transaction {
            Some(transaction) => transaction.queue_event(path, exact),
            None => self.fire(path, exact, before),
        }
    }

    /// Makes the changes of a transaction those of the store, or none of them.
    pub(super) fn commit(&mut self, asker: &Asker, transaction: Transaction) -> Result<()> {
        if transaction.has_failed {
            return Err(ErrorCode::ENOMEM);
        }
        if transaction.has_made_nodes && !asker.is_privileged() {
            for domain in transaction.changed_domains().filter(|domain| *domain != 0) {
                if transaction.owned(&self.tree, domain) >= self.node_limit(domain) {
                    return Err(self.quotas_of(domain).nodes_full.clone());
                }
            }
        }
        #[cfg(feature = "faults")]
        if self.faults.conflicts() {
            return Err(ErrorCode::EAGAIN);
        }
        if transaction.conflicts(&self.tree) {
            return Err(ErrorCode::EAGAIN);
        }
        for (path, change) in transaction.into_changes() {
            match change.node {
                Some(node) => self.tree.put(&path, Arc::unwrap_or_clone(node)),
                None => self.tree.remove(&path),
            }
            if let Some(exact) = change.event {
                self.fire(&path, exact, change.before.as_deref());
            }
        }
        Ok(())
    }
}

/// A path without the leading `/local/domain/<n>/`, which the quota of a path's length leaves out.
fn local_part(path: &str) -> &str {
    let local = path
        .strip_prefix("/local/domain/")
        .and_then(|rest| rest.split_once('/'));
    match local {
        Some((domain, rest)) if domain.parse::<DomId>().is_ok() => rest,
        _ => path,
    }
}
