//! What an interface is: which VIF of the domain, or another device, or none.

use std::num::ParseIntError;

use crate::collect::root::Root;
use crate::guest::Device;

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
}

/// The kernel lets no interface be called anything with a slash, `.` or `..`: a name is safe in a path.
fn device(root: &Root, name: &str) -> Device {
    let device = format!("/sys/class/net/{name}/device");
    let text = |file: &str| root.text(&format!("{device}/{file}")).ok();
    match text("devtype").filter(|kind| kind == "vif").and_then(|_| vif_number(&text("nodename")?)?.ok()) {
        Some(number) => Device::Vif(number),
        None if root.exists(&device) => Device::Physical,
        None => Device::Virtual,
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
