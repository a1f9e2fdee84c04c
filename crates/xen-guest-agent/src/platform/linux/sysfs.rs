//! Network devices in sysfs: which VIF of the domain an interface is.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::num::ParseIntError;
use std::path::{Path, PathBuf};

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
    ///
    /// # Errors
    /// The system's, unless the interface or its driver is absent.
    pub(super) fn device(&self, name: &OsStr) -> io::Result<Device> {
        let device = directory(name).join("device");
        if self.text(&device.join("devtype"))?.as_deref() == Some("vif") {
            // In a driver domain the backends of other guests' interfaces also have this type. They
            // are not VIFs of this domain.
            let node = self.text(&device.join("nodename"))?;
            let number = node.and_then(|node| vif_number(&node)?.ok());
            return Ok(number.map_or(Device::Virtual, Device::Vif));
        }
        if self.exists(&device)? {
            Ok(Device::Physical)
        } else {
            Ok(Device::Virtual)
        }
    }

    /// Returns the hardware address that a port of a bond had before. Linux before 5.6 has it
    /// nowhere else.
    ///
    /// # Errors
    /// The system's, unless the interface is absent or no such port.
    pub(super) fn permanent_mac(&self, name: &OsStr) -> io::Result<Option<Mac>> {
        let address = self.text(&directory(name).join("bonding_slave/perm_hwaddr"))?;
        Ok(address.and_then(|address| Mac::parse(&address)))
    }

    /// Returns the text of an attribute, or `None` if it is absent.
    fn text(&self, path: &Path) -> io::Result<Option<String>> {
        match self.0.text(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if is_absent(&error) => Ok(None),
            // Reading the attribute of an interface that is being removed fails with ENODEV.
            Err(error) => match self.exists(path) {
                Ok(false) => Ok(None),
                _ => Err(error),
            },
        }
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.0.path(path).and_then(|path| path.try_exists()) {
            Err(error) if is_absent(&error) => Ok(false),
            result => result,
        }
    }
}

fn directory(name: &OsStr) -> PathBuf {
    Path::new("/sys/class/net").join(name)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn vif_number(node_name: &str) -> Option<Result<u32, ParseIntError>> {
    Some(node_name.strip_prefix("device/vif/")?.parse())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn vif_number_is_in_the_node_name() {
        assert_eq!(vif_number("device/vif/12"), Some(Ok(12)));
        assert_eq!(vif_number("device/vbd/51712"), None);
        assert!(vif_number("device/vif/").is_some_and(|number| number.is_err()));
    }

    #[test]
    fn unreadable_attributes_are_errors_and_absent_ones_are_not() {
        let root = tempfile::tempdir().unwrap();
        let sysfs = Sysfs::new(Root::new(root.path()));
        let device = |name: &[u8]| sysfs.device(OsStr::from_bytes(name));
        let add = |name: &[u8]| {
            let name = OsStr::from_bytes(name);
            let path = root.path().join("sys/class/net").join(name).join("device");
            fs::create_dir_all(&path).unwrap();
            path
        };
        assert_eq!(device(b"eth0").unwrap(), Device::Virtual);
        let eth0 = add(b"eth0");
        assert_eq!(device(b"eth0").unwrap(), Device::Physical);
        fs::write(eth0.join("devtype"), "vif\n").unwrap();
        fs::write(eth0.join("nodename"), "device/vif/3\n").unwrap();
        assert_eq!(device(b"eth0").unwrap(), Device::Vif(3));

        let eth1 = add(b"abc\xff");
        fs::create_dir(eth1.join("devtype")).unwrap();
        let error = device(b"abc\xff").unwrap_err().to_string();
        assert!(error.ends_with("devtype: not a regular file"), "{error}");
    }
}
