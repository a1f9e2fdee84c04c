//! The `std` schema. It has the nodes that xapi, squeezed, the RRD daemon, Xen Orchestra and
//! XenCenter read, and the nodes of Xen's `docs/misc/xenstore-paths`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use super::Nodes;
use super::layout::{VIFS, VIRTUAL_FUNCTIONS};
use super::slots::{Family, Slots};
use super::topology::{Filter, HostDevice};
use crate::guest::{Address, Guest};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Renders the network. `slots` keeps the index of each address.
pub(super) fn render_network(guest: &Guest, filter: &Filter, slots: &mut Slots, nodes: &mut Nodes) {
    let topology = filter.topology(guest);
    let devices = topology.host_devices();
    for (device, (index, interface)) in &devices {
        let home = home(*device);
        let is_vif = matches!(device, HostDevice::Vif(_));
        if is_vif {
            nodes.put(
                format_args!("{home}/name"),
                interface.name.to_string_lossy(),
            );
            nodes.put_some(format_args!("{home}/mac/0"), interface.mac);
        }
        let addresses = topology.addresses(*index);
        let prefixes = longest_prefixes(&addresses);
        for family in [Family::V4, Family::V6] {
            for (slot, ip) in slots.assign(*device, family, &addresses) {
                let path = format!("{home}/{}/{slot}", family.name());
                if is_vif {
                    nodes.put_some(format_args!("{path}/prefix"), prefixes.get(ip));
                }
                nodes.put(path, ip);
            }
        }
    }
    slots.retain_devices(|device| devices.contains_key(&device));
}

/// Returns the parent node of a device's addresses.
fn home(device: HostDevice) -> String {
    match device {
        HostDevice::Vif(id) => format!("{VIFS}/{id}"),
        HostDevice::VirtualFunction(id) => format!("{VIRTUAL_FUNCTIONS}/{id}"),
    }
}

/// Returns the longest prefix length of each address in bits.
fn longest_prefixes(addresses: &[Address]) -> BTreeMap<IpAddr, u8> {
    let mut prefixes = BTreeMap::new();
    for address in addresses {
        let longest = prefixes.entry(address.ip).or_insert(address.prefix);
        *longest = address.prefix.max(*longest);
    }
    prefixes
}

pub(super) fn render_system(guest: &Guest, nodes: &mut Nodes) {
    if let Some(distribution) = &guest.distribution {
        nodes.put("data/os_distro", &distribution.id);
        nodes.put("data/os_name", &distribution.name);
        nodes.put_some("data/os_majorver", distribution.major.as_ref());
        nodes.put_some("data/os_minorver", distribution.minor.as_ref());
    }
    nodes.put("data/os_uname", &guest.kernel);
    if let Some(name) = &guest.host_name {
        // Readers join both with a dot.
        let (host, domain) = name.split_once('.').unwrap_or((name, ""));
        nodes.put("data/host_name_dns", host);
        nodes.put("data/domain", domain);
    }
    nodes.put_some("data/updated", date(guest.date).as_ref());
}

/// Formats the date as `date` does in the C locale, in UTC.
fn date(time: SystemTime) -> Option<String> {
    let time = Timestamp::try_from(time).ok()?.to_zoned(TimeZone::UTC);
    Some(time.strftime("%a %b %e %H:%M:%S %Y").to_string())
}
