//! Schemas: what should be in Xenstore, as a function of what is known of the guest.

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

/// Nodes of the domain, path to value. Paths are relative to the domain's home.
pub type Tree = BTreeMap<Path, String>;

/// `attr/PVAddons/MajorVersion`. Not the crate's: readers hide a version whose major is 0.
const MAJOR_VERSION: &str = "1";
const MINOR_VERSION: &str = env!("CARGO_PKG_VERSION_MINOR");
const MICRO_VERSION: &str = env!("CARGO_PKG_VERSION_PATCH");
/// Must be an integer, or xapi takes the drivers for unknown.
const BUILD_VERSION: &str = "1";

/// A schema, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// What today's toolstacks read
    #[default]
    Std,
    /// One node for each fact, at paths that can be predicted
    Rfc,
}

/// A schema, with what its user set and the indices that it gave to addresses and volumes.
#[derive(Debug, Default)]
pub struct Schema {
    /// Which one.
    pub name: Name,
    /// What is shown of the network.
    pub filter: Filter,
    slots: Slots,
    volumes: volumes::Slots,
}

impl Schema {
    /// A schema that has given no index yet.
    pub fn new(name: Name, filter: Filter) -> Self {
        Schema {
            name,
            filter,
            ..Schema::default()
        }
    }

    /// Takes what the store holds, so that addresses and volumes keep their indices over a restart of the agent.
    pub fn seed<'a>(&mut self, nodes: impl IntoIterator<Item = (&'a Path, &'a str)>) {
        self.slots = Slots::default();
        self.volumes = volumes::Slots::default();
        for (path, value) in nodes {
            self.slots.seed(path, value);
            self.volumes.seed(path, value);
        }
    }

    /// What should be in Xenstore.
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

    /// Nodes that are the agent's besides those of the [layout](layout::LAYOUT), with all below them.
    pub fn owned(guest: &Guest) -> BTreeSet<Path> {
        services::owned(&guest.services).collect()
    }

    /// The part of it that tells of the network: an address that comes or goes should not wait for the rest.
    pub fn render_network(&mut self, guest: &Guest) -> Tree {
        let mut nodes = Nodes::default();
        match self.name {
            Name::Std => std::render_network(guest, &self.filter, &mut self.slots, &mut nodes),
            Name::Rfc => rfc::render_network(guest, &self.filter, &mut nodes),
        }
        nodes.0
    }
}

/// What every schema tells in the same place, since its readers look nowhere else.
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
    // The kernel's frontends do it by themselves.
    nodes.put("feature/hotplug/vif", 1);
    nodes.put("feature/hotplug/vbd", 1);
    if guest.balloon {
        // That it exists is what squeezed asks; a guest that has it and does not follow its target is punished.
        nodes.put("control/feature-balloon", 1);
    }
}

/// The longest value: with what else belongs to a node, C xenstored takes no more than 2048 bytes.
const VALUE_MAX: usize = 2000;

/// A tree that is being made.
#[derive(Default)]
struct Nodes(Tree);

impl Nodes {
    /// Readers take an empty value for a value: no node is put in place of an empty one. Control characters never reach
    /// the store, and what is too long is cut. All paths here are made of literals, numbers and names that were checked.
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
