//! Guest trees as toolstacks create them.

use super::domain::home;
use super::store::Store;
use crate::domid::DomId;
use crate::permission::{Permission, Permissions};

/// Toolstack that built a guest, which decides the nodes that the guest may write; see [the
/// manual](crate::manual::permissions#where-a-guest-may-write).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Toolstack {
    /// xapi with xenopsd, as in XCP-ng and XenServer.
    Xapi,
    /// libxl, as used by the `xl` command.
    Libxl,
}

impl Toolstack {
    /// Returns the nodes that the toolstack creates for a new guest to own, relative to the guest's
    /// home.
    ///
    /// All other nodes in the home belong to domain 0, and the guest may only read them.
    pub fn guest_owned_nodes(self) -> &'static [&'static str] {
        match self {
            Toolstack::Xapi => &XAPI_OWNED,
            Toolstack::Libxl => &LIBXL_OWNED,
        }
    }
}

/// Source: xapi-project/xen-api, `ocaml/xenopsd/xc/domain.ml`, function `make`, the directories
/// created with `rwperm`.
const XAPI_OWNED: [&str; 15] = [
    "device",
    "device/vbd",
    "device/9pfs",
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

/// Source: xen-project/xen, `tools/libs/light/libxl_create.c`, function `libxl__domain_make`, the
/// nodes created with `rwperm` for every guest. An HVM guest also owns `control/feature-s3`,
/// `control/feature-s4` and `hvmloader/generation-id-address`.
const LIBXL_OWNED: [&str; 11] = [
    "control/shutdown",
    "control/feature-poweroff",
    "control/feature-reboot",
    "control/feature-suspend",
    "control/sysrq",
    "device/suspend/event-channel",
    "data",
    "drivers",
    "feature",
    "attr",
    "error",
];

impl Store {
    /// Creates the tree of a new guest as its toolstack does, and introduces the domain. Replaces
    /// an existing tree.
    ///
    /// The guest has the name `guest-<domain>`, 1 GiB of memory and no devices. Under xapi it also
    /// gets a `unique-domain-id` that no domain of this store had before.
    pub fn introduce_guest(&mut self, domain: impl Into<DomId>, toolstack: Toolstack) {
        let domain = domain.into();
        let uuid = format!("00000000-0000-4000-8000-{:012x}", domain.get());
        let (home, vm) = (home(domain), format!("/vm/{uuid}"));
        for old in [&home, &vm] {
            // The call fails if not even the parent exists, which is as good.
            let _ = self.remove(old);
        }

        let to_read = Permissions::owner_only(DomId::DOM0).with(Permission::read(domain));
        let to_write = Permissions::owner_only(domain);

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

        for below in toolstack.guest_owned_nodes() {
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
                "{:08x}-0000-4000-8000-{:012x}",
                self.tree.next_generation(),
                domain.get()
            );
            self.set(&format!("{home}/unique-domain-id"), unique);
        }
        self.introduce(domain);
    }

    /// Destroys a guest as toolstacks do: removes its home and its `/vm` entry, and releases the
    /// domain.
    pub fn destroy_guest(&mut self, domain: impl Into<DomId>) {
        let domain = domain.into();
        let home = home(domain);
        let vm = self
            .read(format!("{home}/vm"))
            .map(|vm| String::from_utf8_lossy(vm).into_owned());
        for path in vm.iter().chain([&home]) {
            let _ = self.remove(path);
        }
        self.release(domain);
    }

    fn allow(&mut self, path: &str, permissions: &Permissions) {
        let set = self.set_permissions(path, permissions);
        debug_assert!(set.is_ok(), "{set:?}");
    }
}
