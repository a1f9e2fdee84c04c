//! Services of the administrator, at `data/service/<service>/<key>`.

use xenstore::Path;

use super::Nodes;
use crate::guest::Services;

/// Parent node of all services, including those of other programs.
pub(super) const TOP: &str = "data/service";

pub(super) fn render(services: &Services, nodes: &mut Nodes) {
    for (service, facts) in &services.facts {
        for (key, value) in facts {
            nodes.put(format_args!("{TOP}/{service}/{key}"), value);
        }
    }
}

/// Returns the nodes of the agent's services, including withdrawn ones.
pub(super) fn owned(services: &Services) -> impl Iterator<Item = Path> {
    let names = services.facts.keys().chain(&services.withdrawn);
    names.filter_map(|name| Path::new(format!("{TOP}/{name}")).ok())
}
