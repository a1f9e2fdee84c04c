//! The `rfc` schema, version 0.1.0. Each fact has a node whose path follows from the fact.

use std::fmt::Display;

use super::Nodes;
use super::layout::INTERFACES;
use super::topology::Filter;
use crate::guest::Guest;

/// Version of the layout, by the rules of semantic versioning.
const VERSION: &str = "0.1.0";

/// Renders all interfaces that connect the guest to the outside, by interface index.
pub(super) fn render_network(guest: &Guest, filter: &Filter, nodes: &mut Nodes) {
    for (index, interface) in filter.topology(guest).external_interfaces() {
        let home = format!("{INTERFACES}/{index}");
        nodes.put(&home, interface.name.to_string_lossy());
        if let Some(mac) = interface.mac {
            nodes.put(format_args!("{home}/mac/{}", name(mac)), mac);
        }
        for address in filter.own_addresses(interface) {
            let family = if address.ip.is_ipv4() { "ipv4" } else { "ipv6" };
            nodes.put(
                format_args!("{home}/{family}/{}", name(address.ip)),
                address.ip,
            );
        }
    }
}

/// Returns an address in the form for paths, which may have neither dots nor colons.
fn name(address: impl Display) -> String {
    address.to_string().replace(['.', ':'], "_")
}

pub(super) fn render_system(guest: &Guest, nodes: &mut Nodes) {
    nodes.put("data/xen-guest-agent", VERSION);
    if let Some(distribution) = &guest.distribution {
        nodes.put("data/os/name", &distribution.name);
        nodes.put_some("data/os/version", distribution.version.as_ref());
    }
    nodes.put("data/os/class", "unix");
    nodes.put("data/os/unix/kernel-version", &guest.kernel);
    if let Some(memory) = guest.memory {
        nodes.put("data/memory/total", memory.total);
    }
}
