//! Compare this library with others.
//!
//! The facts about the others come from their sources: libxenstore of Xen 4.17 and, where the table
//! names a later version, of Xen's development tree of 2026; xenstore-rs 0.8.0 (December 2024);
//! pyxs 0.4.1 (May 2016).
//!
//! | | this library | libxenstore | xenstore-rs | pyxs |
//! | --- | --- | --- | --- | --- |
//! | language | Rust | C | Rust | Python |
//! | licence | MIT or Apache-2.0 | LGPL-2.1 | GPL-3.0 | LGPL-3 |
//! | read, write, list, remove | yes | yes | yes | yes |
//! | create empty nodes, permissions | yes | yes | no (1) | yes |
//! | transactions | repeated after conflicts | start and end | no (2) | start, commit, roll back |
//! | watches | yes | yes | tokio only | on sockets only |
//! | lists of more than 4096 bytes | yes | yes | no | no |
//! | requests about domains | yes | yes | no | yes |
//! | depth of watches | any server (5) | 4.22 | no | no |
//! | list of domains that start and end | yes | no | no | no |
//! | `CONTROL` | yes | yes | no | no |
//! | features and quotas | yes | 4.21, 4.22 | no | no |
//! | several requests outstanding | on sockets | no | tokio only, 32 | from several threads |
//! | one request at a time on Linux's device (3) | yes | yes | blocking only | if one thread calls |
//! | threads share a connection | `SharedClient` | yes | tokio only | yes |
//! | threads or tasks that it creates | none (4) | one for watches | three tasks | one thread |
//! | futures | any runtime | no | tokio (1) | no |
//! | event loops without blocking calls | `Connection` | no | no | no |
//! | timeout for calls | yes | no | no | no |
//! | store in memory for tests | yes | no | no | no |
//!
//! 1. Its branch for XCP-ng has permissions, and other runtimes.
//! 2. It has traits for transactions, which none of its types implements.
//! 3. With more than one, the kernel can send a request with the contents of another; see
//!    [`servers`](super::servers).
//! 4. `AsyncClient::new` and `AsyncClient::open` spawn one task on tokio.
//! 5. The client discards the events of deeper nodes where the server cannot.
//!
//! # What this library lacks
//!
//! - **Age.** It is new. The agent and the command of its repository use it; other users are not
//!   known. libxenstore dates from 2005.
//! - **Other languages.** It has no interface for C, C++ or Python.
//! - **Tested systems.** Tests run on Linux only. The clients compile for FreeBSD, NetBSD and
//!   macOS. There are no clients for Windows.
//! - **Unikernels.** It needs the standard library, and a kernel's device or a socket. It does not
//!   use the shared page of a domain itself.
//! - **Devices.** It is no xenbus, the layer in which drivers of kernels negotiate: there are no
//!   states of front-ends and back-ends, no grant tables and no event channels.
//! - **Shared handles by default.** A [`Client`] needs `&mut`. The traits [`Nodes`] and
//!   [`AsyncNodes`] cannot be trait objects.
//!
//! # When to choose another
//!
//! Choose libxenstore if your program is written in C, or links Xen's libraries anyway. Choose
//! xenstore-rs if you need only read, write, list and remove, and can use GPL-3.0; or for Windows,
//! with xenstore-win. Choose pyxs for a script in Python.
//!
//! [`AsyncNodes`]: crate::AsyncNodes
//! [`Client`]: crate::Client
//! [`Nodes`]: crate::Nodes
