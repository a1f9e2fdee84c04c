//! What an interface is: which VIF of the domain, or another device, or none.

use std::num::ParseIntError;

use crate::guest::{Device, Mac};
use crate::root::Root;

/// How an interface gets its VIF number.
#[derive(Clone, Debug)]
pub enum VifNumbers {
    /// Linux's sysfs names the frontend that the interface belongs to, whatever the interface is called.
    Sysfs(Root),
    /// Every interface is a VIF of its own index: for a try-out without Xen.
    Index,
}

impl VifNumbers {
    /// What the interface is. Its driver may come to sysfs later than its name to netlink: worth asking again.
    pub(super) fn device(&self, index: u32, name: &str) -> Device {
        match self {
            VifNumbers::Index => Device::Vif(index),
            VifNumbers::Sysfs(root) => device(root, name),
        }
    }

    /// The hardware address that a port of a bond came with. Linux before 5.6 tells it nowhere else.
    pub(super) fn permanent_mac(&self, name: &str) -> Option<Mac> {
        match self {
            VifNumbers::Index => None,
            VifNumbers::Sysfs(root) => Mac::parse(
                &root
                    .text(&format!("/sys/class/net/{name}/bonding_slave/perm_hwaddr"))
                    .ok()?,
            ),
        }
    }
}

/// The kernel lets no interface be called anything with a slash, `.` or `..`: a name is safe in a path.
fn device(root: &Root, name: &str) -> Device {
    let device = format!("/sys/class/net/{name}/device");
    let text = |file: &str| root.text(&format!("{device}/{file}")).ok();
    if text("devtype").is_some_and(|kind| kind == "vif") {
        // A driver domain's ends of others' interfaces are called so, too, and are not its own.
        let number = text("nodename").and_then(|node| vif_number(&node)?.ok());
        return number.map_or(Device::Virtual, Device::Vif);
    }
    if root.exists(&device) {
        Device::Physical
    } else {
        Device::Virtual
    }
}

fn vif_number(node_name: &str) -> Option<Result<u32, ParseIntError>> {
    Some(node_name.strip_prefix("device/vif/")?.parse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_in_the_node_name() {
        assert_eq!(vif_number("device/vif/12"), Some(Ok(12)));
        assert_eq!(vif_number("device/vbd/51712"), None);
        assert!(vif_number("device/vif/").is_some_and(|number| number.is_err()));
    }
}
