//! Nodes that the agent owns, and how each is published.

use xenstore::Path;

/// Node of the toolstack with the domain ID.
pub(crate) const DOMAIN_ID: &str = "domid";

/// Node of the toolstack with the virtual functions. Each has a child with its number, and the
/// hardware address is in that child's `mac`.
pub(crate) const GIVEN_FUNCTIONS: &str = "xenserver/device/net-sriov-vf";

/// Parent node of VIFs, which are below it by number.
pub(super) const VIFS: &str = "attr/vif";

/// Parent node of virtual functions, which are below it by number.
pub(super) const VIRTUAL_FUNCTIONS: &str = "xenserver/attr/net-sriov-vf";

/// Parent node of all interfaces, which are below it by interface index.
pub(super) const INTERFACES: &str = "data/net";

/// Nodes that the agent owns. The list covers the nodes of all schemas, so that a change of the
/// schema removes the nodes of the former one.
pub const LAYOUT: Layout = Layout {
    claims: &[
        node("data", "os_distro"),
        node("data", "os_name"),
        node("data", "os_majorver"),
        node("data", "os_minorver"),
        node("data", "os_uname"),
        // The former Rust agent wrote this one. No known reader uses it.
        node("data", "os_buildver"),
        node("data", "host_name_dns"),
        node("data", "domain"),
        Claim {
            upkeep: Upkeep::Rewritten,
            removes_stale: false,
            ..node("data", "meminfo_total")
        },
        Claim {
            upkeep: Upkeep::Rewritten,
            removes_stale: false,
            ..node("data", "meminfo_free")
        },
        Claim {
            removes_stale: false,
            ..node("data", "updated")
        },
        Claim {
            upkeep: Upkeep::Watched,
            ..tree("attr", "PVAddons")
        },
        Claim {
            upkeep: Upkeep::Watched,
            ..tree("attr", "vif")
        },
        // Older versions of the Go agent wrote these instead of `attr/vif`.
        Claim {
            upkeep: Upkeep::Watched,
            ..tree("attr", "eth*")
        },
        Claim {
            upkeep: Upkeep::Watched,
            ..tree("xenserver/attr", "net-sriov-vf")
        },
        Claim {
            removes_stale: false,
            ..node("feature/hotplug", "vif")
        },
        Claim {
            removes_stale: false,
            ..node("feature/hotplug", "vbd")
        },
        node("control", "feature-balloon"),
        // The Go agent introduced these. No known reader uses them.
        tree("data", "volumes"),
        // The former Rust agent wrote the parts of its version below this node.
        tree("data", "xen-guest-agent"),
        tree("data", "os"),
        Claim {
            upkeep: Upkeep::Watched,
            ..tree("data", "net")
        },
        tree("data", "memory"),
    ],
    watches: &["data/os_name", INTERFACES, "attr", VIRTUAL_FUNCTIONS],
    resume: DOMAIN_ID,
    date: "data/updated",
    networks: &[VIFS, INTERFACES, VIRTUAL_FUNCTIONS],
    removable_parents: &["feature/hotplug", super::services::TOP],
    optional: "control/feature-balloon",
    rank,
};

/// Returns a claim for a polled node. The node is removed when it is not desired.
const fn node(parent: &'static str, child: &'static str) -> Claim {
    Claim {
        parent,
        child,
        is_tree: false,
        removes_stale: true,
        upkeep: Upkeep::Polled,
    }
}

/// Returns the same claim with all nodes below.
const fn tree(parent: &'static str, child: &'static str) -> Claim {
    Claim {
        is_tree: true,
        ..node(parent, child)
    }
}

/// Priority of an address.
const ADDRESS: u8 = 5;

fn rank(path: &Path) -> Rank {
    let mut parts = [""; 7];
    for (part, name) in parts.iter_mut().zip(path.components()) {
        *part = name;
    }

    let (write_order, priority, role) = match parts {
        [
            "data",
            "os_distro" | "os_name" | "os_majorver" | "os_minorver" | "os_uname",
            ..,
        ] => (1, 2, Role::Cached),
        ["data", "host_name_dns" | "domain", ..] => (1, 4, Role::Cached),
        ["data", "meminfo_total" | "meminfo_free", ..] => (1, 3, Role::Plain),
        ["attr", "PVAddons", "Installed", ..] => (2, 1, Role::Announcement),
        // In its write order it comes after the other announcement.
        ["data", "updated", ..] => (2, 3, Role::Announcement),
        ["attr", "PVAddons", ..] => (2, 1, Role::Plain),
        ["feature", "hotplug", ..] => (2, 4, Role::Plain),
        ["control", "feature-balloon", ..] => (2, 3, Role::Plain),
        ["attr", "vif", _, "ipv4" | "ipv6", _, "", ..]
        | ["xenserver", "attr", _, _, "ipv4" | "ipv6", ..]
        | ["data", "net", _, "ipv4" | "ipv6", ..] => (3, ADDRESS, Role::Plain),
        ["data", "xen-guest-agent" | "os", ..] | ["data", "net", _, "", ..] => (3, 2, Role::Plain),
        ["data", "memory", ..] => (3, 3, Role::Plain),
        ["data", "net", ..] | ["attr", ..] => (4, 6, Role::Plain),
        _ => (5, 7, Role::Plain),
    };

    let is_main_address = matches!(
        parts,
        ["attr", "vif", _, "ipv4" | "ipv6", "0", "", ..]
            | ["xenserver", "attr", _, _, "ipv4" | "ipv6", "0", ""]
    );
    // Readers know the guest by the first address of a family.
    let priority_of_first = if priority == ADDRESS { 2 } else { priority };
    Rank {
        write_order,
        is_replaced_last: is_main_address,
        priority,
        priority_of_first,
        role,
    }
}

/// Properties of nodes other than their values.
#[derive(Debug)]
pub struct Layout {
    /// Nodes that the agent reads to learn the actual state.
    pub claims: &'static [Claim],
    /// Nodes that the agent watches for changes by other processes.
    pub watches: &'static [&'static str],
    /// Node that no process writes while the domain runs. Its watch fires after a resume or a
    /// migration.
    pub resume: &'static str,
    /// Last announcement. Its value is the date, and a new date alone is no reason to write it. The
    /// node is empty while cached nodes are being changed, so that another agent can complete the
    /// announcement.
    pub date: &'static str,
    /// Parent nodes of everything about the network.
    pub networks: &'static [&'static str],
    /// Parents of owned nodes that agents create and toolstacks do not. An empty one is removed
    /// when the nodes are withdrawn, and that of a claim also if the node quota is short.
    pub removable_parents: &'static [&'static str],
    /// Node that some toolstacks let no guest write. xapi does, libxl does not.
    pub optional: &'static str,
    /// Returns how a node is published.
    pub rank: fn(&Path) -> Rank,
}

/// A child of a node that the agent owns, or several.
#[derive(Debug)]
pub struct Claim {
    /// Path of the parent.
    pub parent: &'static str,
    /// Name of the child. A `*` at the end matches any number.
    pub child: &'static str,
    /// Whether the claim includes all nodes below.
    pub is_tree: bool,
    /// Whether the node is removed when it is not desired.
    pub removes_stale: bool,
    /// How the agent notices that another process changed it.
    pub upkeep: Upkeep,
}

/// How the agent notices, and repairs, changes that another process made to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// A watch reports changes.
    Watched,
    /// The agent reads the node at each comparison, every ten minutes.
    Polled,
    /// The agent writes the node every ten minutes, whether or not it changed.
    Rewritten,
}

/// How a node is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// Nodes of a lower number are written first. A watched node comes after the nodes that its
    /// readers read when the watch fires.
    pub write_order: u8,
    /// Whether a changed value of this node is written after all others of the same write order,
    /// because its old value may move to one of them.
    pub is_replaced_last: bool,
    /// Nodes of a lower number are published first if the node quota has no room for all nodes.
    pub priority: u8,
    /// Replaces `priority` for the first of several siblings, which is the one with the lowest
    /// index.
    pub priority_of_first: u8,
    /// Effect of a change on other nodes.
    pub role: Role,
}

/// Effect of a node's change on other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// No effect.
    Plain,
    /// Toolstacks cache the node without a watch, so a change must be announced.
    Cached,
    /// The node is written again after a change of cached nodes.
    Announcement,
}

impl Layout {
    /// Whether the node is about the network.
    pub fn is_network(&self, path: &Path) -> bool {
        self.networks.iter().any(|top| path.is_at_or_below(top))
    }
}

impl Claim {
    /// Whether the claim includes this child of its parent.
    pub fn covers(&self, child: &str) -> bool {
        match self.child.strip_suffix('*') {
            Some(start) => child.strip_prefix(start).is_some_and(is_number),
            None => child == self.child,
        }
    }

    /// Whether the claim includes the node.
    pub fn owns(&self, path: &Path) -> bool {
        let below = path.strip_prefix(self.parent);
        match below.map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
            Some((child, rest)) => self.covers(child) && (self.is_tree || rest.is_empty()),
            None => false,
        }
    }

    /// Whether a change of the node may affect claimed nodes, because it is one or is above one.
    pub fn concerns(&self, path: &Path) -> bool {
        let is_above = match self.parent.strip_prefix(path.as_str()) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        };
        is_above || self.owns(path)
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_own_children_by_name() {
        let claim = |child, is_tree| Claim {
            parent: "attr",
            child,
            is_tree,
            removes_stale: true,
            upkeep: Upkeep::Watched,
        };
        let owns = |claim: &Claim, path: &str| claim.owns(&Path::new(path).unwrap());
        assert!(owns(&claim("vif", true), "attr/vif"));
        assert!(owns(&claim("vif", true), "attr/vif/0/name"));
        assert!(!owns(&claim("vif", false), "attr/vif/0"));
        assert!(!owns(&claim("vif", true), "attr/vifs"));
        assert!(!owns(&claim("vif", true), "attr"));
        for (path, is_concerned) in [
            ("attr", true),
            ("attr/vif/0", true),
            ("attr/os", false),
            ("att", false),
            ("data", false),
        ] {
            assert_eq!(
                claim("vif", true).concerns(&Path::new(path).unwrap()),
                is_concerned,
                "{path}"
            );
        }
        assert!(owns(&claim("eth*", true), "attr/eth0/ip"));
        assert!(!owns(&claim("eth*", true), "attribute/eth0"));
        assert!(!owns(&claim("eth*", true), "attr/ethics"));
        assert!(!owns(&claim("eth*", true), "attr/eth"));
    }
}
