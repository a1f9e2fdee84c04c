//! Decide who may read and write a node.
//!
//! Each node has [`Permissions`], written as a list, for example `n5 r7`:
//!
//! - The first entry names the **owner**, domain 5, and states the access of **all domains that the
//!   list does not name**: `n` is none, `r` read, `w` write, `b` both. The owner itself always has
//!   full access, and only the owner and domain 0 may change the list.
//! - Each further entry states the access of one domain. Here domain 7 may read.
//!
//! Domain 0 may read and write everything. Permissions of a node say nothing of the nodes below it,
//! which have lists of their own.
//!
//! # New nodes
//!
//! A new node gets the list of its parent. If a guest creates it, the guest becomes the owner. So
//! you rarely need to set permissions: create the parent with the right ones, before its children.
//! To create a node, a domain needs write access to the nearest parent that exists.
//!
//! ```
//! use xenstore::{DomId, Nodes, Permission, Permissions};
//! # use xenstore::Client;
//! # use xenstore::embedded::{Server, Store, Toolstack};
//! # let mut store = Store::new();
//! # store.introduce_guest(5, Toolstack::Xapi);
//! # store.introduce_guest(7, Toolstack::Xapi);
//! # let server = Server::new(store).spawn()?;
//!
//! let mut dom0 = Client::new(server.connect(DomId::DOM0)?.into());
//! let mut guest = Client::new(server.connect(5)?.into());
//!
//! // Domain 0 shares a directory: it owns it, and domain 5 may write.
//! dom0.mkdir("/example")?;
//! let shared = Permissions::owner_only(DomId::DOM0).with(Permission::read_write(5));
//! dom0.set_permissions("/example", &shared)?;
//! guest.write("/example/report", "ready")?;
//!
//! // The guest owns what it created, and the rest of the list is that of the parent.
//! let permissions = guest.permissions("/example/report")?;
//! assert_eq!(permissions, Permissions { owner: 5.into(), ..shared });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Recipes
//!
//! | who | list | in Rust |
//! | --- | --- | --- |
//! | only the owner, domain 5 | `n5` | `Permissions::owner_only(5)` |
//! | domain 7 reads what domain 5 publishes | `n5 r7` | `Permissions::owner_only(5).with(Permission::read(7))` |
//! | domains 5 and 7 write | `n5 b7` | `Permissions::owner_only(5).with(Permission::read_write(7))` |
//! | everybody reads | `r5` | `Permissions::readable_by_all(5)` |
//! | everybody but domain 7 reads | `r5 n7` | `Permissions::readable_by_all(5).with(Permission::none(7))` |
//! | domain 0 owns, guest 5 reads: most of a guest's home | `n0 r5` | `Permissions::owner_only(DomId::DOM0).with(Permission::read(5))` |
//!
//! To let another guest read one of your nodes, keep the entries that are there:
//!
//! ```
//! use xenstore::{Client, Nodes, Permission};
//! # use xenstore::embedded::{Server, Store, Toolstack};
//! # let mut store = Store::new();
//! # store.introduce_guest(5, Toolstack::Xapi);
//! # store.introduce_guest(7, Toolstack::Xapi);
//! # let server = Server::new(store).spawn()?;
//!
//! let mut client = Client::new(server.connect(5)?.into());
//! client.write("data/public", "hello")?;
//! let permissions = client.permissions("data/public")?.with(Permission::read(7));
//! client.set_permissions("data/public", &permissions)?;
//!
//! let mut reader = Client::new(server.connect(7)?.into());
//! assert_eq!(reader.read("/local/domain/5/data/public")?, b"hello");
//! let error = reader.write("/local/domain/5/data/public", "").unwrap_err();
//! assert!(error.is_denied());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A list can have few entries; see [`servers`](super::servers). For "everybody", use the first
//! entry. An entry for [`DomId::ANY`] means the same only on Xen 4.22 and later, and can crash the
//! server: read its [warning](crate::DomId::ANY) first.
//!
//! # Watches
//!
//! You can watch a node that you may not read. Events are sent only for nodes that the domain may
//! read, and for nodes whose parent the domain may read. A change of a node's permissions fires its
//! watches, too.
//!
//! # Where a guest may write
//!
//! The toolstack builds the home of a guest, `/local/domain/<domid>`. Domain 0 owns the home, so a
//! guest cannot create nodes directly in it. The toolstack creates some nodes that the guest owns,
//! and the guest may create others below those:
//!
//! | toolstack | nodes that the guest owns |
//! | --- | --- |
//! | xapi (XCP-ng, XenServer) | `attr`, `control`, `data`, `device`, `device/vbd`, `device/vif`, `device/9pfs`, `drivers`, `error`, `feature`, `hvmloader`, `messages`, `rrd`, `vm-data`, `xenserver/attr` |
//! | libxl (`xl`) | `attr`, `data`, `drivers`, `error`, `feature`, `device/suspend/event-channel`, and in `control`: `shutdown`, `sysrq`, `feature-poweroff`, `feature-reboot`, `feature-suspend` |
//!
//! - Publish facts of your own below `data`, which both have.
//! - Under libxl, `control` itself belongs to domain 0. Writing another node in it fails with
//!   `EACCES`.
//! - Do not remove such a node itself. A guest cannot create it again, because its parent belongs
//!   to domain 0. Remove its children.
//!
//! The lists come from the sources of xenopsd (`domain.ml`) and libxl (`libxl_create.c`). Under
//! libxl, an HVM guest also owns `control/feature-s3`, `control/feature-s4` and
//! `hvmloader/generation-id-address`.
//!
//! The embedded store builds homes with [`Toolstack::guest_owned_nodes`], so your tests find out
//! what a toolstack refuses:
//!
//! ```
//! use xenstore::{Client, Nodes};
//! use xenstore::embedded::{Server, Store, Toolstack};
//!
//! for (toolstack, is_allowed) in [(Toolstack::Xapi, true), (Toolstack::Libxl, false)] {
//!     let mut store = Store::new();
//!     store.introduce_guest(5, toolstack);
//!     let server = Server::new(store).spawn()?;
//!     let mut client = Client::new(server.connect(5)?.into());
//!
//!     client.write("data/example", "1")?;
//!     assert_eq!(client.write("control/feature-balloon", "1").is_ok(), is_allowed);
//!     assert!(client.write("example", "1").unwrap_err().is_denied());
//! }
//! # let mut xapi = Toolstack::Xapi.guest_owned_nodes().to_vec();
//! # xapi.sort();
//! # assert_eq!(xapi, ["attr", "control", "data", "device", "device/9pfs", "device/vbd",
//! #     "device/vif", "drivers", "error", "feature", "hvmloader", "messages", "rrd", "vm-data",
//! #     "xenserver/attr"]);
//! # let mut libxl = Toolstack::Libxl.guest_owned_nodes().to_vec();
//! # libxl.sort();
//! # assert_eq!(libxl, ["attr", "control/feature-poweroff", "control/feature-reboot",
//! #     "control/feature-suspend", "control/shutdown", "control/sysrq", "data",
//! #     "device/suspend/event-channel", "drivers", "error", "feature"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Error codes
//!
//! [`Error::is_denied`] covers the codes for missing access. A missing node whose parent the domain
//! may not read is `EACCES` or `ENOENT`; see [`servers`](super::servers#error-codes).
//!
//! [`DomId::ANY`]: crate::DomId::ANY
//! [`Error::is_denied`]: crate::Error::is_denied
//! [`Permissions`]: crate::Permissions
//! [`Toolstack::guest_owned_nodes`]: crate::embedded::Toolstack::guest_owned_nodes
