//! Network devices in sysfs: which VIF of the domain an interface is, and how interfaces are
//! stacked.

use std::fs;
use std::num::ParseIntError;

use crate::guest::{Device, Mac};
use crate::root::Root;

/// `/sys/class/net`. The kernel accepts no interface name with a slash, `.` or `..`, so a name is
/// safe in a path.
#[derive(Clone, Debug)]
pub(super) struct Sysfs(Root);

impl Sysfs {
    pub(super) fn new(root: Root) -> Self {
        Sysfs(root)
    }

    /// Returns the kind of an interface. Its driver may appear in sysfs later than its name in
    /// netlink, so `Virtual` may change later.
    pub(super) fn device(&self, name: &str) -> Device {
        let device = format!("/sys/class/net/{name}/device");
        let text = |file: &str| self.0.text(&format!("{device}/{file}")).ok();
        if text("devtype").is_some_and(|kind| kind == "vif") {
            // In a driver domain the backends of other guests' interfaces also have this type. They
            // are not VIFs of this domain.
            let number = text("nodename").and_then(|node| vif_number(&node)?.ok());
            return number.map_or(Device::Virtual, Device::Vif);
        }
        if self.0.exists(&device) {
            Device::Physical
        } else {
            Device::Virtual
        }
    }

    /// Returns the hardware address that a port of a bond had before. Linux before 5.6 has it
    /// nowhere else.
    pub(super) fn permanent_mac(&self, name: &str) -> Option<Mac> {
        let path = format!("/sys/class/net/{name}/bonding_slave/perm_hwaddr");
        Mac::parse(&self.0.text(&path).ok()?)
    }

    /// Returns the names of an interface's master and of all interfaces below it.
    pub(super) fn relations(&self, name: &str) -> (Option<String>, Vec<String>) {
        let Ok(directory) = self.0.path(&format!("/sys/class/net/{name}")) else {
            return (None, Vec::new());
        };

        let master = fs::read_link(directory.join("master")).ok();
        let master = master.and_then(|target| Some(target.file_name()?.to_str()?.to_owned()));

        let lower = |entry: fs::DirEntry| {
            let file_name = entry.file_name();
            Some(file_name.to_str()?.strip_prefix("lower_")?.to_owned())
        };
        let lowers = match fs::read_dir(&directory) {
            Ok(entries) if !self.is_tunnel(name) => {
                entries.filter_map(|entry| lower(entry.ok()?)).collect()
            }
            _ => Vec::new(),
        };
        (master, lowers)
    }

    /// Whether an interface is a tunnel. Addresses behind a tunnel belong to another network than
    /// the link below it.
    fn is_tunnel(&self, name: &str) -> bool {
        let path = format!("/sys/class/net/{name}/uevent");
        let event = self.0.text(&path).unwrap_or_default();
        event.lines().any(|line| line == "DEVTYPE=vxlan")
    }
}

fn vif_number(node_name: &str) -> Option<Result<u32, ParseIntError>> {
    Some(node_name.strip_prefix("device/vif/")?.parse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vif_number_is_in_the_node_name() {
        assert_eq!(vif_number("device/vif/12"), Some(Ok(12)));
        assert_eq!(vif_number("device/vbd/51712"), None);
        assert!(vif_number("device/vif/").is_some_and(|number| number.is_err()));
    }
}
