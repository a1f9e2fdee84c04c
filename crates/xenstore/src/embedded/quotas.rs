//! Limits for domains.

/// Resources that a domain may use. A limit of 0 means no limit.
///
/// The [manual](crate::manual::servers) says what each server reports when a limit is reached, and
/// which limits domain 0 has.
///
/// ```
/// # #[cfg(unix)]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::{Arc, Mutex};
/// use xenstore::embedded::{Store, StoreChannel, Toolstack};
/// use xenstore::Client;
///
/// let mut store = Store::new();
/// store.introduce_guest(5, Toolstack::Xapi);
/// store.quotas.watches = 1;
/// let mut guest = Client::with_channel(StoreChannel::new(Arc::new(Mutex::new(store)), 5));
///
/// // C xenstored of Xen 4.17 allows one more.
/// guest.watch("data")?;
/// guest.watch("attr")?;
/// assert!(guest.watch("error").unwrap_err().is_quota_exceeded());
/// # Ok(())
/// # }
/// # #[cfg(not(unix))]
/// # fn main() {}
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quotas {
    /// Number of nodes that the domain owns.
    pub nodes: usize,
    /// Size of a node in bytes, which a node must not reach.
    ///
    /// As in C xenstored, each node counts 24 bytes (16 in Xen 4.22), each permission 8, and each
    /// child the length of its name and one byte more. Of the default 2048 bytes, a node with one
    /// permission and no children has 2015 for its value. oxenstored counts only the value, and
    /// allows exactly this size.
    pub node_size: usize,
    /// Number of watches. As the servers count, one more can be set, or one less in Xen 4.22.
    pub watches: usize,
    /// Number of open transactions. As the servers count, one more can be opened, or one less in
    /// Xen 4.22.
    pub transactions: usize,
    /// Number of nodes that one transaction reads or changes, or in oxenstored the number of its
    /// requests. In C xenstored the request beyond it fails, and so does the commit.
    pub transaction_nodes: usize,
    /// Number of permissions of one node, including the owner's.
    pub permissions: usize,
    /// Length of a path in bytes, without a leading `/local/domain/<n>/`. A longer path is
    /// `EINVAL`.
    pub path: usize,
}

impl Default for Quotas {
    /// Returns C xenstored's defaults.
    fn default() -> Self {
        Quotas {
            nodes: 1000,
            node_size: 2048,
            watches: 128,
            transactions: 10,
            transaction_nodes: 1024,
            permissions: 5,
            path: 2048,
        }
    }
}

/// Names in `GET_QUOTA` and `SET_QUOTA`.
pub(super) const NAMES: [&str; 7] = [
    "nodes",
    "watches",
    "transactions",
    "transaction-nodes",
    "node-permissions",
    "path-max",
    "node-size",
];

impl Quotas {
    /// Returns the limit with this name in [`NAMES`].
    pub(super) fn by_name(&mut self, name: &[u8]) -> Option<&mut usize> {
        match name {
            b"nodes" => Some(&mut self.nodes),
            b"watches" => Some(&mut self.watches),
            b"transactions" => Some(&mut self.transactions),
            b"transaction-nodes" => Some(&mut self.transaction_nodes),
            b"node-permissions" => Some(&mut self.permissions),
            b"path-max" => Some(&mut self.path),
            b"node-size" => Some(&mut self.node_size),
            _ => None,
        }
    }
}
