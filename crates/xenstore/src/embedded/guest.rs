//! Trees of guests, as toolstacks make them.

use super::domains::home;
use super::store::Store;
use crate::permission::{Access, DomId, Permission};

/// Who built a guest, which decides what of its home the guest may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolstack {
    /// xapi with xenopsd, as in XCP-ng and XenServer.
    Xapi,
    /// libxl, as the `xl` command uses it.
    Libxl,
}

/// What the guest owns under each toolstack; all else of its home is domain 0's, for the guest to read.
const XAPI_OWNED: [&str; 14] = [
    "device",
    "device/vbd",
    "device/vif",
    "feature",
    "error",
    "drivers",
    "control",
    "attr",
    "xenserver/attr",
    "data",
    "messages",
    "vm-data",
    "hvmloader",
    "rrd",
];
const LIBXL_OWNED: [&str; 11] = [
    "device/suspend/event-channel",
    "control/shutdown",
    "control/feature-poweroff",
    "control/feature-reboot",
    "control/feature-suspend",
    "control/sysrq",
    "data",
    "drivers",
    "feature",
    "attr",
    "error",
];

impl Store {
    /// Makes the tree of a new guest as its toolstack does, in place of what may be there, and introduces the domain.
    ///
    /// The guest is called `guest-<domain>` and has 1 GiB of memory; its devices are the caller's matter. Under xapi it
    /// gets a `unique-domain-id` that no domain of this store had before.
    pub fn introduce_guest(&mut self, domain: DomId, toolstack: Toolstack) {
        let uuid = format!("00000000-0000-4000-8000-{domain:012x}");
        let (home, vm) = (home(domain), format!("/vm/{uuid}"));
        for old in [&home, &vm] {
            // Where there is none there may be no parent either, which is an error and well.
            let _ = self.remove(old);
        }
        let of = |domain, access| Permission { domain, access };
        let to_read = [of(0, Access::None), of(domain, Access::Read)];
        let to_write = [of(domain, Access::None)];

        let name = format!("guest-{domain}");
        for (path, value) in [(&vm, ""), (&home, "")] {
            self.set(path, value);
            self.allow(path, &to_read);
        }
        self.set(&format!("{vm}/uuid"), &uuid);
        self.set(&format!("{vm}/name"), &name);
        let number = domain.to_string();
        let facts = [
            ("vm", vm.as_str()),
            ("name", &name),
            ("domid", &number),
            ("cpu/0/availability", "online"),
            ("memory/static-max", "1048576"),
            ("memory/target", "1048576"),
            ("store/port", "1"),
            ("store/ring-ref", "1"),
        ];
        for (below, value) in facts {
            self.set(&format!("{home}/{below}"), value);
        }
        let owned: &[&str] = match toolstack {
            Toolstack::Xapi => &XAPI_OWNED,
            Toolstack::Libxl => &LIBXL_OWNED,
        };
        for below in owned {
            let path = format!("{home}/{below}");
            self.set(&path, "");
            self.allow(&path, &to_write);
        }
        for feature in ["multiprocessor-suspend", "xs_reset_watches"] {
            self.set(&format!("{home}/control/platform-feature-{feature}"), "1");
        }
        if toolstack == Toolstack::Xapi {
            self.set(&format!("{home}/control/has-vendor-device"), "0");
            let unique = format!(
                "{:08x}-0000-4000-8000-{domain:012x}",
                self.tree.next_generation()
            );
            self.set(&format!("{home}/unique-domain-id"), unique);
        }
        self.introduce(domain);
    }

    /// Ends a guest as toolstacks do: removes its home and `/vm` entry and releases the domain.
    pub fn destroy_guest(&mut self, domain: DomId) {
        let home = home(domain);
        let vm = self
            .read(format!("{home}/vm"))
            .map(|vm| String::from_utf8_lossy(vm).into_owned());
        for path in vm.iter().chain([&home]) {
            let _ = self.remove(path);
        }
        self.release(domain);
    }

    fn allow(&mut self, path: &str, permissions: &[Permission]) {
        let set = self.set_permissions(path, permissions);
        debug_assert!(set.is_ok(), "{set:?}");
    }
}
