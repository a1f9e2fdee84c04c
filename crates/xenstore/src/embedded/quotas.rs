//! Limits for the domains that are not domain 0.

use crate::error::ErrorCode;

/// What a domain other than domain 0 may use. A limit of 0 is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Nodes that it owns.
    pub nodes: usize,
    /// Bytes of one node. As C xenstored counts, 24 of them are the node itself, 8 are each permission, and the names of
    /// the children count with a byte each for their end: of 2048, 2015 are left for the value of a usual node. One that
    /// is reached is ENOSPC.
    pub node_size: usize,
    /// Watches. C xenstored lets one more be set and then answers E2BIG.
    pub watches: usize,
    /// Open transactions. C xenstored lets one more be opened and then answers ENOSPC.
    pub transactions: usize,
    /// Nodes that one transaction touches, those read included. Beyond is ENOSPC, and the transaction has failed.
    pub transaction_nodes: usize,
    /// Permissions of one node, the owner's included. More is ENOSPC.
    pub permissions: usize,
    /// Bytes of a path, a leading `/local/domain/<n>/` not counted. A longer one is EINVAL.
    pub path: usize,
    /// What is answered where [`nodes`](Self::nodes) are full: ENOSPC as C xenstored does, or EQUOTA as oxenstored.
    pub nodes_full: ErrorCode,
}

impl Default for Quotas {
    /// Those of C xenstored.
    fn default() -> Self {
        Quotas {
            nodes: 1000,
            node_size: 2048,
            watches: 128,
            transactions: 10,
            transaction_nodes: 1024,
            permissions: 5,
            path: 2048,
            nodes_full: ErrorCode::ENOSPC,
        }
    }
}

/// The names that `GET_QUOTA` and `SET_QUOTA` use.
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
    /// The limit that has this name on the wire.
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
