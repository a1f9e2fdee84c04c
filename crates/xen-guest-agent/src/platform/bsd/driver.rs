//! Drivers of FreeBSD's interfaces. Unlike a name, the driver of an interface never changes.

use super::sysctl::text;

/// Driver of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// `xn`, the frontend of a VIF. The value of this name is the VIF's path in Xenstore.
    Vif {
        /// Name for sysctl(3).
        path: String,
    },
    /// `bridge`.
    Bridge,
    /// `lagg`.
    Lagg,
    /// `vlan`.
    Vlan,
    /// A driver without devices, or `xnb`, the backend of another guest's interface.
    Virtual,
    /// Another driver. It has a device if the value of this name exists.
    Other {
        /// Name for sysctl(3).
        parent: String,
    },
}

impl Driver {
    /// Returns the driver from its name and unit, which `net.link.generic.ifdata` has: `xn0`.
    pub fn parse(value: &[u8]) -> Self {
        let value = text(value);
        let driver = value.trim_end_matches(|c: char| c.is_ascii_digit());
        let unit = value.get(driver.len()..).unwrap_or_default();
        match driver {
            "xn" => Driver::Vif {
                path: format!("dev.xn.{unit}.xenstore_path"),
            },
            "bridge" => Driver::Bridge,
            "lagg" => Driver::Lagg,
            "vlan" => Driver::Vlan,
            _ if driver.starts_with("xnb") || driver.is_empty() || unit.is_empty() => {
                Driver::Virtual
            }
            _ => Driver::Other {
                parent: format!("dev.{driver}.{unit}.%parent"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driver_is_known_by_its_name_and_unit() {
        let path = "dev.xn.12.xenstore_path".to_owned();
        assert_eq!(Driver::parse(b"xn12\0"), Driver::Vif { path });
        assert_eq!(Driver::parse(b"bridge0\0"), Driver::Bridge);
        assert_eq!(Driver::parse(b"lagg0"), Driver::Lagg);
        assert_eq!(Driver::parse(b"vlan1\0"), Driver::Vlan);
        for name in ["xnb3.0", "xnb3", "pflog", "7", ""] {
            assert_eq!(Driver::parse(name.as_bytes()), Driver::Virtual, "{name}");
        }
    }

    #[test]
    fn device_of_another_driver_has_a_parent() {
        for (name, expected) in [
            ("vtnet0", "dev.vtnet.0.%parent"),
            ("igb12", "dev.igb.12.%parent"),
            ("ixl4vf3", "dev.ixl4vf.3.%parent"),
        ] {
            let parent = expected.to_owned();
            assert_eq!(Driver::parse(name.as_bytes()), Driver::Other { parent });
        }
    }
}
