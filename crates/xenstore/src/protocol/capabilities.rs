//! Capabilities of transports.

use crate::request::Request;
use crate::wire::{self, HEADER_LEN, MessageKind, PAYLOAD_MAX};

/// Abilities and limits of a transport.
///
/// The kernels of guests stand between a program and the server, and each of them supports other
/// requests. A [`Session`](super::Session) rejects a request that its transport does not carry.
///
/// For a transport of your own, start from one of the constants:
///
/// ```
/// use xenstore::protocol::Capabilities;
///
/// let mut capabilities = Capabilities::SOCKET;
/// capabilities.watches = false;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an independent capability"
)]
#[non_exhaustive]
pub struct Capabilities {
    /// Whether a request may be sent while another has no reply yet.
    ///
    /// If not, [`Session::transmit`](super::Session::transmit) returns one message at a time.
    pub pipelining: bool,
    /// Maximum length of a request's payload in bytes, at most [`PAYLOAD_MAX`].
    pub payload_max: usize,
    /// Whether lists of more than 4096 bytes can be fetched in parts (`DIRECTORY_PART`).
    pub directory_parts: bool,
    /// Whether watches are possible.
    pub watches: bool,
    /// Whether the depth of a watch reaches the server; see
    /// [`Request::watch_to`](crate::Request::watch_to).
    ///
    /// The kernel of a device drops it, and replies `OK` itself.
    pub watch_depth: bool,
    /// Whether the connection may end all watches at once (`RESET_WATCHES`).
    ///
    /// A guest has only one connection to the server, so this would also end the watches of its
    /// kernel.
    pub reset_watches: bool,
    /// Whether the reply has arrived when [`Channel::send`](crate::Channel::send) returns. The
    /// client then never calls [`Channel::wait`](crate::Channel::wait).
    pub answers_at_once: bool,
}

impl Capabilities {
    /// Capabilities of a Unix socket, which leads to the server itself.
    pub const SOCKET: Self = Capabilities {
        pipelining: true,
        payload_max: PAYLOAD_MAX,
        directory_parts: true,
        watches: true,
        watch_depth: true,
        reset_watches: true,
        answers_at_once: false,
    };

    /// Capabilities of the Linux device.
    ///
    /// Linux since 4.11 queues a pointer to a buffer of the open file, which the next write(2)
    /// overwrites: with two outstanding requests, the server receives the old header with the new
    /// payload, and usually replies OK. Linux limits header and payload together to 4096 bytes.
    pub const LINUX_DEVICE: Self = Capabilities {
        pipelining: false,
        payload_max: PAYLOAD_MAX - HEADER_LEN,
        watch_depth: false,
        reset_watches: false,
        ..Capabilities::SOCKET
    };

    /// Capabilities of the FreeBSD device, which has room for only one reply.
    pub const FREEBSD_DEVICE: Self = Capabilities {
        directory_parts: false,
        ..Capabilities::LINUX_DEVICE
    };

    /// Capabilities of the NetBSD device, as of `xenbus_dev.c` 1.9.12.1.
    ///
    /// It refuses `WATCH`, `UNWATCH` and `DIRECTORY_PART`, replies within write(2), and does not
    /// support poll(2).
    pub const NETBSD_DEVICE: Self = Capabilities {
        watches: false,
        answers_at_once: true,
        ..Capabilities::FREEBSD_DEVICE
    };

    /// Returns why the transport does not carry this request, or `None` if it does.
    pub(super) fn unsupported_reason<T>(&self, request: &Request<T>) -> Option<String> {
        let len = request.payload.len();
        if len > self.payload_max {
            let subject = match request.kind {
                MessageKind::WRITE => "path and value are",
                _ => "the request is",
            };
            let limit = self.payload_max;
            return Some(format!(
                "{subject} too long: {len} bytes; at most {limit} fit"
            ));
        }

        let subject = match request.kind {
            MessageKind::DIRECTORY_PART if !self.directory_parts => "long lists",
            MessageKind::WATCH | MessageKind::UNWATCH if !self.watches => "watches",
            MessageKind::WATCH if !self.watch_depth && has_depth(request) => "watches with a depth",
            MessageKind::RESET_WATCHES if !self.reset_watches => {
                let reason =
                    "not allowed on a device, because it would also end the kernel's watches";
                return Some(reason.to_owned());
            }
            _ => return None,
        };
        Some(format!("the transport does not support {subject}"))
    }
}

/// Whether a `WATCH` has a third string.
fn has_depth<T>(request: &Request<T>) -> bool {
    wire::strings(&request.payload).nth(2).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::depth::Depth;

    #[test]
    fn requests_that_a_device_does_not_carry_are_rejected() {
        let (all, linux, freebsd, netbsd) = (
            Capabilities::SOCKET,
            Capabilities::LINUX_DEVICE,
            Capabilities::FREEBSD_DEVICE,
            Capabilities::NETBSD_DEVICE,
        );
        let watch = || Request::watch("a", "").unwrap().untyped();
        let depth = || {
            let request = Request::watch_to("a", "", Depth::NODE);
            request.unwrap().untyped()
        };
        let value = |len: usize| Request::write("a", vec![b'v'; len - 2]).unwrap().untyped();
        for (request, carried_by) in [
            (Request::read("a").unwrap(), [true; 4]),
            (Request::list("a").unwrap().untyped(), [true; 4]),
            (Request::remove("a").unwrap().untyped(), [true; 4]),
            (Request::begin().untyped(), [true; 4]),
            (value(4080), [true; 4]),
            (value(4081), [true, false, false, false]),
            (value(4096), [true, false, false, false]),
            (value(4097), [false; 4]),
            (
                Request::reset_watches().untyped(),
                [true, false, false, false],
            ),
            (
                Request::list("a").unwrap().list_part(0),
                [true, true, false, false],
            ),
            (watch(), [true, true, true, false]),
            (depth(), [true, false, false, false]),
        ] {
            let found = [all, linux, freebsd, netbsd]
                .map(|capabilities| capabilities.unsupported_reason(&request).is_none());
            assert_eq!(found, carried_by, "{request:?}");
        }
    }
}
