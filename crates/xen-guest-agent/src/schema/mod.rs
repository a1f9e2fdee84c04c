//! Schemas: what should be in Xenstore, as a function of what is known of the guest.

pub mod slots;
pub mod std;

use ::std::collections::BTreeMap;

use xenstore::Path;

/// Nodes of the domain, path to value. Paths are relative to the domain's home.
pub type Tree = BTreeMap<Path, String>;

/// What a schema says about the nodes that it owns.
#[derive(Debug)]
pub struct Layout {
    /// What it looks for in the store, to know what is there already.
    pub claims: &'static [Claim],
    /// Where it asks to be told when somebody else changes something.
    pub watches: &'static [&'static str],
    /// How a node is published.
    pub rank: fn(&Path) -> Rank,
}

/// A child of a node, or several, that a schema owns.
#[derive(Debug)]
pub struct Claim {
    /// The node above.
    pub parent: &'static str,
    /// The child's name; a `*` at the end stands for any ending.
    pub child: &'static str,
    /// Whether all below it is meant too.
    pub is_tree: bool,
    /// Whether it is removed when it should not be there.
    pub removes_stale: bool,
    /// What brings it back when somebody else changes it.
    pub kept: Kept,
}

/// What brings a node back when somebody else changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// A watch.
    Watched,
    /// A comparison from time to time.
    Compared,
    /// It is written again from time to time, changed or not.
    Rewritten,
}

/// How a node is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// Lower ones are written first: what is watched comes after what its readers look at when it fires.
    pub order: u8,
    /// Lower ones stay longer when the quota is short.
    pub worth: u8,
    /// What its change has to do with other nodes.
    pub role: Role,
}

/// What a node's change has to do with other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing.
    Plain,
    /// Toolstacks keep a copy of it and do not watch it: its change must be announced.
    Cached,
    /// Written again after cached nodes changed, and only then, whatever its value.
    Announcement,
}

impl Claim {
    /// Whether the claim is for this child of its parent.
    pub fn covers(&self, child: &str) -> bool {
        match self.child.strip_suffix('*') {
            Some(start) => child.starts_with(start),
            None => child == self.child,
        }
    }

    /// Whether the node is claimed: a child that it is for, or something below one.
    pub fn owns(&self, path: &Path) -> bool {
        let below = path.strip_prefix(self.parent).and_then(|rest| rest.strip_prefix('/'));
        match below.map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
            Some((child, rest)) => self.covers(child) && (self.is_tree || rest.is_empty()),
            None => false,
        }
    }

    /// Whether what is claimed may have changed when the node did: it is claimed, or stands above what is.
    pub fn concerns(&self, path: &Path) -> bool {
        let is_above =
            self.parent.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        is_above || self.owns(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_claim_owns() {
        let claim = |child, is_tree| Claim { parent: "attr", child, is_tree, removes_stale: true, kept: Kept::Watched };
        let owns = |claim: &Claim, path: &str| claim.owns(&Path::new(path).unwrap());
        assert!(owns(&claim("vif", true), "attr/vif"));
        assert!(owns(&claim("vif", true), "attr/vif/0/name"));
        assert!(!owns(&claim("vif", false), "attr/vif/0"));
        assert!(!owns(&claim("vif", true), "attr/vifs"));
        assert!(!owns(&claim("vif", true), "attr"));
        for (path, is_concerned) in
            [("attr", true), ("attr/vif/0", true), ("attr/os", false), ("att", false), ("data", false)]
        {
            assert_eq!(claim("vif", true).concerns(&Path::new(path).unwrap()), is_concerned, "{path}");
        }
        assert!(owns(&claim("eth*", true), "attr/eth0/ip"));
        assert!(!owns(&claim("eth*", true), "attribute/eth0"));
    }
}
