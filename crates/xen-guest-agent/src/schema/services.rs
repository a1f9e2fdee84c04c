//! `data/service/<service>/<key>`: what an administrator publishes.

use xenstore::Path;

use super::Nodes;
use crate::guest::Services;

/// The node that all of it stands below, and others' services too.
const TOP: &str = "data/service";

pub(super) fn render(services: &Services, nodes: &mut Nodes) {
    for (service, facts) in &services.facts {
        for (key, value) in facts {
            nodes.put(format_args!("{TOP}/{service}/{key}"), value);
        }
    }
}

/// The nodes that are the agent's own: those of its services, and of withdrawn ones.
pub(super) fn owned(services: &Services) -> impl Iterator<Item = Path> {
    let names = services.facts.keys().chain(&services.withdrawn);
    names.filter_map(|name| Path::new(format!("{TOP}/{name}")).ok())
}
