//! Schemas: functions from a [`Guest`] to the desired [`Tree`].

pub mod layout;
mod rfc;
mod services;
pub mod slots;
mod std;
#[cfg(test)]
mod tests;
pub mod topology;
mod volumes;

use ::std::collections::{BTreeMap, BTreeSet};
use ::std::fmt::Display;

use xenstore::Path;

use crate::guest::Guest;
use slots::Slots;
use topology::Filter;

/// Nodes of the domain: values by path. Paths are relative to the domain's home.
pub type Tree = BTreeMap<Path, String>;

/// Value of `attr/PVAddons/MajorVersion`. It must not be 0, because Xen Orchestra hides 0.
const MAJOR_VERSION: &str = env!("CARGO_PKG_VERSION_MAJOR");
const MINOR_VERSION: &str = env!("CARGO_PKG_VERSION_MINOR");
const MICRO_VERSION: &str = env!("CARGO_PKG_VERSION_PATCH");
/// Value of `attr/PVAddons/BuildVersion`. xapi requires an integer to recognise the drivers.
const BUILD_VERSION: &str = "1";

/// Name of a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// Nodes that today's toolstacks read
    #[default]
    Std,
    /// One node for each fact, at paths that can be predicted
    Rfc,
}

/// A schema with the user's filter and the indices of addresses and volumes.
#[derive(Debug, Default)]
pub struct Schema {
    /// Name of the schema.
    pub name: Name,
    /// Part of the network that is published.
    pub filter: Filter,
    slots: Slots,
    volumes: volumes::Slots,
}

impl Schema {
    /// Returns a schema without indices.
    pub fn new(name: Name, filter: Filter) -> Self {
        Schema {
            name,
            filter,
            ..Schema::default()
        }
    }

    /// Restores the indices of addresses and volumes from the store, so that a restart keeps them.
    pub fn seed<'a>(&mut self, nodes: impl IntoIterator<Item = (&'a Path, &'a str)>) {
        self.slots = Slots::default();
        self.volumes = volumes::Slots::default();
        for (path, value) in nodes {
            self.slots.seed(path, value);
            self.volumes.seed(path, value);
        }
    }

    /// Returns the desired nodes.
    pub fn render(&mut self, guest: &Guest) -> Tree {
        let mut nodes = Nodes(self.render_network(guest));
        match self.name {
            Name::Std => std::render_system(guest, &mut nodes),
            Name::Rfc => rfc::render_system(guest, &mut nodes),
        }
        render_shared(guest, &mut nodes);
        volumes::render(&guest.volumes, &mut self.volumes, &mut nodes);
        services::render(&guest.services, &mut nodes);
        nodes.0
    }

    /// Returns the roots of the subtrees that the agent owns in addition to the
    /// [layout](layout::LAYOUT).
    pub fn owned(guest: &Guest) -> BTreeSet<Path> {
        services::owned(&guest.services).collect()
    }

    /// Returns the desired nodes of the network only, because a new address should not wait for the
    /// other nodes.
    pub fn render_network(&mut self, guest: &Guest) -> Tree {
        let mut nodes = Nodes::default();
        match self.name {
            Name::Std => std::render_network(guest, &self.filter, &mut self.slots, &mut nodes),
            Name::Rfc => rfc::render_network(guest, &self.filter, &mut nodes),
        }
        nodes.0
    }
}

/// Renders the nodes that are the same in every schema, because their readers look nowhere else.
fn render_shared(guest: &Guest, nodes: &mut Nodes) {
    if let Some(memory) = guest.memory {
        nodes.put("data/meminfo_total", memory.total);
        nodes.put("data/meminfo_free", memory.available);
    }
    nodes.put("attr/PVAddons/MajorVersion", MAJOR_VERSION);
    nodes.put("attr/PVAddons/MinorVersion", MINOR_VERSION);
    nodes.put("attr/PVAddons/MicroVersion", MICRO_VERSION);
    nodes.put("attr/PVAddons/BuildVersion", BUILD_VERSION);
    nodes.put("attr/PVAddons/Installed", 1);
    // The kernel's frontends support this without the agent.
    nodes.put("feature/hotplug/vif", 1);
    nodes.put("feature/hotplug/vbd", 1);
    if guest.balloon {
        // squeezed only checks that the node exists. It punishes a guest that has it and does not
        // follow its target.
        nodes.put("control/feature-balloon", 1);
    }
}

/// Maximum length of a value in bytes. C xenstored accepts no node over 2048 bytes, its path and
/// permissions included.
const VALUE_MAX: usize = 2000;

/// A tree under construction.
#[derive(Default)]
struct Nodes(Tree);

impl Nodes {
    /// Inserts a node. Control characters are removed, long values are truncated, and an empty
    /// value inserts nothing because readers would take it for a value. Every path here consists of
    /// literals, numbers and validated names.
    fn put(&mut self, path: impl Display, value: impl Display) {
        let mut value = value.to_string();
        if value.contains(char::is_control) {
            value.retain(|char| !char.is_control());
        }
        let end = (0..=VALUE_MAX.min(value.len()))
            .rev()
            .find(|end| value.is_char_boundary(*end));
        value.truncate(end.unwrap_or(0));
        if value.is_empty() {
            return;
        }
        if let Ok(path) = Path::new(path.to_string()) {
            self.0.insert(path, value);
        }
    }

    fn put_some(&mut self, path: impl Display, value: Option<impl Display>) {
        if let Some(value) = value {
            self.put(path, value);
        }
    }
}
