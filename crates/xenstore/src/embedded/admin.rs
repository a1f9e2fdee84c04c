//! Calls that act as domain 0, without a connection.

use super::caller::Caller;
use super::domain::home;
use super::model::Model;
use super::store::Store;
use super::tree::{Node, owned_by};
use crate::domid::DomId;
use crate::error::{Error, ErrorCode, Result};
use crate::event::{INTRODUCE_DOMAIN, RELEASE_DOMAIN};
use crate::permission::{Permission, Permissions};
use crate::wire::MessageKind;

impl Default for Store {
    fn default() -> Self {
        Store::new()
    }
}

impl Store {
    /// Returns a store with the nodes that xenstored and `xen-init-dom0` create when a host starts.
    ///
    /// These are `/tool/xenstored`, and the name and number of domain 0 in `/local/domain/0`.
    /// Domain 0 owns them, and no other domain may read them (`n0`).
    ///
    /// The store imitates the C xenstored of Xen 4.17, the default [`Model`].
    pub fn new() -> Self {
        Store::with_model(Model::default())
    }

    /// Returns a store like that of [`new`](Self::new) that imitates another server.
    pub fn with_model(model: Model) -> Self {
        let mut store = Store::without_nodes(model);
        for path in ["/", INTRODUCE_DOMAIN, RELEASE_DOMAIN] {
            store.tree.put(path, Node::new(b"", owned_by(DomId::DOM0)));
        }
        if model == Model::CXenstored4_22 {
            let readable_by_all = [Permission::none(DomId::DOM0), Permission::read(DomId::ANY)];
            store.tree.modify(RELEASE_DOMAIN, |node| {
                node.permissions = readable_by_all.into();
            });
        }
        for (path, value) in [
            ("/tool/xenstored", ""),
            ("/local/domain/0/domid", "0"),
            ("/local/domain/0/name", "Domain-0"),
        ] {
            store.set(path, value);
        }
        store
    }

    /// Returns a node's value, or `None` if the node does not exist.
    pub fn read(&self, path: impl AsRef<str>) -> Option<&[u8]> {
        self.node(path.as_ref()).map(|node| &*node.value)
    }

    /// Returns the names of a node's children in the order of their creation, or `None` if the node
    /// does not exist.
    pub fn list(&self, path: impl AsRef<str>) -> Option<impl Iterator<Item = &str>> {
        self.node(path.as_ref())
            .map(|node| node.children.iter().map(|name| &**name))
    }

    /// Returns a node's permissions, or `None` if the node does not exist.
    pub fn permissions(&self, path: impl AsRef<str>) -> Option<Permissions> {
        let node = self.node(path.as_ref())?;
        Permissions::from_list(node.permissions.iter().copied())
    }

    /// Returns the paths and values of a node and all nodes below it, sorted by path. `path` must
    /// be absolute.
    pub fn walk<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.tree
            .at_and_below(path)
            .map(|(path, node)| (path, &*node.value))
    }

    /// Sets a node's value. Creates the node and missing parents with the permissions of the
    /// nearest existing parent.
    ///
    /// # Errors
    /// `EINVAL` for an invalid or special path.
    pub fn write(&mut self, path: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<()> {
        self.as_domain_0(MessageKind::WRITE, path.as_ref(), |store, caller, path| {
            store.write_node(caller, path, value.as_ref())
        })
    }

    /// Removes a node and all nodes below it. Succeeds if the node is missing but its parent
    /// exists.
    ///
    /// # Errors
    /// `EINVAL` for an invalid or special path and for the root, `ENOENT` if the parent is missing.
    pub fn remove(&mut self, path: impl AsRef<str>) -> Result<()> {
        self.as_domain_0(MessageKind::RM, path.as_ref(), Store::remove_node)
    }

    /// Sets a node's permissions.
    ///
    /// # Errors
    /// `EINVAL` for an invalid path, `ENOENT` if the node is missing.
    pub fn set_permissions(
        &mut self,
        path: impl AsRef<str>,
        permissions: &Permissions,
    ) -> Result<()> {
        let list: Vec<_> = permissions.to_list().collect();
        self.as_domain_0(
            MessageKind::SET_PERMS,
            path.as_ref(),
            |store, caller, path| store.set_node_permissions(caller, path, &list),
        )
    }

    /// Writes a node whose path is known to be valid.
    pub(super) fn set(&mut self, path: &str, value: impl AsRef<[u8]>) {
        let written = self.write(path, value);
        debug_assert!(written.is_ok(), "{written:?}");
    }

    fn node(&self, path: &str) -> Option<&Node> {
        let found = if path.starts_with(['/', '@']) {
            self.tree.get(path)
        } else {
            self.tree.get(&format!("{}/{path}", home(DomId::DOM0)))
        };
        found.map(|node| &**node)
    }

    fn as_domain_0(
        &mut self,
        operation: MessageKind,
        path: &str,
        perform: impl FnOnce(&mut Store, &mut Caller, &str) -> Result<(), ErrorCode>,
    ) -> Result<()> {
        let mut caller = Caller::domain_0();
        self.canonical(
            DomId::DOM0,
            path.as_bytes(),
            operation == MessageKind::SET_PERMS,
        )
        .and_then(|path| perform(self, &mut caller, &path))
        .map_err(|code| Error::refused(code, operation, Some(path)))
    }
}
