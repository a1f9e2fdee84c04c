//! Know the limits and error codes of servers and kernels.
//!
//! Two programs serve Xenstore: xenstored, which is written in C, and oxenstored, which XCP-ng and
//! XenServer use. In a guest, the kernel stands between your program and the server, and has limits
//! of its own.
//!
//! # Where these figures come from
//!
//! - **C 4.17** and **oxenstored 4.17**: the servers in Debian 12. The tests of this library run on
//!   both.
//! - **C 4.22**: measured in August 2026 on Xen's development tree, three weeks after version 4.22.
//!   The tests do not run on it.
//! - **Linux device**: tests run on Linux 6.1 in guests of Xen 4.17.
//! - **FreeBSD device**, **NetBSD device**: taken from the sources of the kernels, and untested.
//!
//! The [models](crate::embedded::Model) of the embedded store have the figures of the servers, and
//! pass the same tests.
//!
//! # Quotas of a guest
//!
//! These are the defaults. An administrator can change them. Domain 0 has no quotas, except where
//! the table says so.
//!
//! | | C 4.17 | C 4.22 | oxenstored 4.17 |
//! | --- | --- | --- | --- |
//! | nodes that the domain owns | 1000, then `ENOSPC` | 1000, then `ENOSPC` | 1000, then `EQUOTA` |
//! | bytes of a value | 2015, then `ENOSPC` | 2023, then `ENOSPC` | 2048, then `E2BIG` (dom0 too) |
//! | watches | 129, then `E2BIG` | 127, then `ENOSPC` | 101, then `EQUOTA` |
//! | open transactions | 11, then `ENOSPC` | 9, then `ENOSPC` | 11, then `EQUOTA` |
//! | within a transaction | 1024 nodes, then `ENOSPC` | 1024 nodes, then `ENOSPC` | 1024 requests, then `EQUOTA` |
//! | permissions of a node | 5, then `ENOSPC` | 5, then `ENOSPC` | no limit |
//! | bytes of a path | 2048, then `EINVAL` | 2048, then `EINVAL` | 1024, then `EINVAL` (dom0 too) |
//!
//! - The quotas belong to the domain. Its kernel, which has watches of its own, and all of its
//!   processes share them. The nodes that the toolstack created for the guest to own count, too.
//! - C xenstored counts more than the value: with each permission after the first, and with each
//!   child, a node has room for a shorter value. So it also limits the children of one node, to
//!   about 530 with short names.
//! - The bytes of a path are counted without a leading `/local/domain/<domid>/`.
//! - A transaction that is too large cannot be committed. Under C xenstored, the request beyond the
//!   limit fails with `ENOSPC`, and the commit with `ENOMEM`.
//!
//! [`Error::is_quota_exceeded`] covers the codes in the table except `EINVAL`. On Linux's device, a
//! full quota of watches is [`Error::NotSent`], which it does not cover.
//!
//! # Error codes
//!
//! | | C 4.17 | C 4.22 | oxenstored 4.17 |
//! | --- | --- | --- | --- |
//! | node that the domain may not read | `EACCES` | `EACCES` | `EACCES` |
//! | missing node below such a node | `EACCES` | `EACCES` | `ENOENT` |
//! | owner changed by a guest | `EPERM` | `EPERM` | `EACCES` |
//! | transaction that the server does not know | `ENOENT` | `ENOENT` | `EIO` |
//!
//! A server of another version may use other codes. Handle every unexpected code in the same way,
//! and prefer [`Error::is_not_found`], [`Error::is_denied`] and
//! [`Error::is_quota_exceeded`] to a comparison of codes.
//!
//! # Behaviour
//!
//! | | C 4.17 | C 4.22 | oxenstored 4.17 |
//! | --- | --- | --- | --- |
//! | list of more than 4096 bytes | fetched in parts | fetched in parts | `E2BIG`; dom0 gets a reply that is too long, which closes the connection |
//! | event that equals one still queued | dropped | dropped | sent |
//! | features, quotas by `GET_QUOTA` | `ENOSYS` | known | `ENOSYS` |
//! | watch with a depth | `EINVAL` | known | `EINVAL` |
//! | `@releaseDomain` fires for | domain 0 | all domains | domain 0 |
//! | `@releaseDomain/<domid>` | never fires | fires for that domain | never fires |
//! | `CONTROL` from a guest | `EACCES` | `EACCES` | `OK` to everything |
//!
//! The library asks for features once per connection, at the first `features`, `watch_to` or
//! `watch_domains`. C 4.17 then logs `unknown operation 23`, which does no harm.
//!
//! # Transports
//!
//! | | Unix socket | Linux device | FreeBSD device | NetBSD device |
//! | --- | --- | --- | --- | --- |
//! | nodes, permissions, transactions | yes | yes | yes | yes |
//! | watches | yes | yes | yes | no |
//! | maximum payload, bytes | 4096 | 4080 | 4080 | 4080 |
//! | outstanding requests | many | one | one | one |
//! | lists of more than 4096 bytes | C xenstored | if the server does | no | no |
//! | requests about domains, `CONTROL`, quotas | domain 0 | domain 0 | `RELEASE` only | domain 0 |
//! | depth of watches reaches the server | yes | no | no | no |
//! | `RESET_WATCHES` | yes | not sent | not sent | not sent |
//! | poll(2), `SharedClient`, `AsyncClient` | yes | yes | untested | no |
//! | timeout of a `Client` | yes | since Linux 4.11 | yes | no |
//!
//! The library does not send requests that a transport cannot carry ([`Capabilities`]); they fail
//! with [`Error::InvalidRequest`]. If the kernel refuses another one, the error is
//! [`Error::NotSent`].
//!
//! - **Linux** has one buffer for the request of a descriptor. With two outstanding requests, the
//!   server gets the first header with the second payload, so the library waits for each reply. The
//!   kernel sets watches itself. If the server refuses one, write(2) fails with `EINVAL` or
//!   `E2BIG`, which is [`Error::NotSent`]. Before Linux 4.11, write(2) waits for the reply.
//! - **FreeBSD** has room for one reply. It ignores `O_NONBLOCK`, so the library asks poll(2)
//!   first.
//! - **NetBSD** refuses `WATCH`, `UNWATCH` and `DIRECTORY_PART`. It replies within write(2), and
//!   does not support poll(2).
//! - **OpenBSD** is not supported, because its device does not carry the protocol: it has only
//!   calls of ioctl(2) that read and write single values.
//! - **macOS** has no Xenstore. The library serves tests there, with the embedded store.
//! - **Windows** has paths, messages, [`protocol`] and [`embedded::Store`], but neither clients nor
//!   a transport.
//!
//! For another way to a server, implement [`Channel`].
//!
//! [`Capabilities`]: crate::protocol::Capabilities
//! [`Channel`]: crate::Channel
//! [`embedded::Store`]: crate::embedded::Store
//! [`Error::InvalidRequest`]: crate::Error::InvalidRequest
//! [`Error::is_denied`]: crate::Error::is_denied
//! [`Error::is_not_found`]: crate::Error::is_not_found
//! [`Error::is_quota_exceeded`]: crate::Error::is_quota_exceeded
//! [`Error::NotSent`]: crate::Error::NotSent
//! [`protocol`]: crate::protocol
