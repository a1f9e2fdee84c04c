//! The network as it should be published, derived from the output of `ip`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::network::Network;

/// Summarises the published nodes below `attr/vif` as `<vif> name <name>`, `<vif> mac <mac>` and
/// `<vif> <address>/<prefix>`. Slots are omitted. Any other node is listed by its path.
pub(crate) fn published_network(nodes: &BTreeMap<String, String>) -> BTreeSet<String> {
    let is_above = |path: &str| {
        let below = format!("{path}/");
        nodes
            .range(below.clone()..)
            .next()
            .is_some_and(|(next, _)| next.starts_with(&below))
    };
    let one = |(path, value): (&String, &String)| {
        let rest = path.strip_prefix("attr/vif/")?;
        match *rest.split('/').collect::<Vec<_>>() {
            [vif, "name"] => Some(format!("{vif} name {value}")),
            [vif, "mac", "0"] => Some(format!("{vif} mac {value}")),
            [vif, "ipv4" | "ipv6", slot] if slot.parse::<u32>().is_ok() => {
                let prefix = nodes
                    .get(&format!("{path}/prefix"))
                    .map_or("none", String::as_str);
                Some(format!("{vif} {value}/{prefix}"))
            }
            [_, "ipv4" | "ipv6", _, "prefix"] if is_address(nodes, path) => None,
            _ if value.is_empty() && is_above(path) => None,
            _ => Some(path.clone()),
        }
    };
    nodes.iter().filter_map(one).collect()
}

fn is_address(nodes: &BTreeMap<String, String>, prefix: &str) -> bool {
    let address = prefix
        .rsplit_once('/')
        .and_then(|(above, _)| nodes.get(above));
    address.is_some_and(|address| !address.is_empty())
}

/// Returns the same summary of the output of `ip -j -d addr`. `vifs` maps interface names to VIF
/// numbers.
pub(crate) fn expected_network(
    network: &Network,
    vifs: &BTreeMap<String, String>,
) -> BTreeSet<String> {
    let links: Value =
        serde_json::from_str(&network.ip("-j -d addr show")).expect("ip prints JSON");
    let links = links.as_array().expect("a list");
    let mut expected = BTreeSet::new();
    for link in links {
        let Some(vif) = vifs.get(text(link, "ifname")) else {
            continue;
        };
        expected.insert(format!("{vif} name {}", text(link, "ifname")));
        expected.insert(format!("{vif} mac {}", text(link, "address")));
        let mut prefixes: BTreeMap<&str, u64> = BTreeMap::new();
        for device in stacked_on(links, link) {
            let addresses = device["addr_info"].as_array().into_iter().flatten();
            for address in addresses.filter(|address| is_up(device) && is_usable(address)) {
                let prefix = prefixes.entry(text(address, "local")).or_default();
                *prefix = address["prefixlen"]
                    .as_u64()
                    .expect("a prefix")
                    .max(*prefix);
            }
        }
        expected.extend(
            prefixes
                .iter()
                .map(|(ip, prefix)| format!("{vif} {ip}/{prefix}")),
        );
    }
    expected
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn is_up(link: &Value) -> bool {
    link["flags"]
        .as_array()
        .is_some_and(|flags| flags.iter().any(|flag| flag == "UP"))
}

fn is_usable(address: &Value) -> bool {
    let is_set = |flag: &str| address[flag] == true;
    !is_set("tentative") && !is_set("dadfailed") && !text(address, "local").starts_with("127.")
}

/// Returns the link, its master, the master's master and so on, and all links stacked on any of
/// these.
fn stacked_on<'a>(links: &'a [Value], link: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![link];
    let mut next = 0;
    while let Some(below) = found.get(next).copied() {
        next += 1;
        let name = text(below, "ifname");
        let sits_on = |upper: &Value| {
            let kind = text(&upper["linkinfo"], "info_kind");
            text(upper, "link") == name && ["vlan", "macvlan", "ipvlan"].contains(&kind)
        };
        for upper in links.iter().filter(|_| is_up(below)) {
            let is_master = below["master"] == upper["ifname"];
            if (is_master || sits_on(upper))
                && !found.iter().any(|known| known["ifname"] == upper["ifname"])
            {
                found.push(upper);
            }
        }
    }
    found
}
