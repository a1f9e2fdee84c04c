//! Whether the messages of a routing socket make a new snapshot necessary.

use super::layout::Layout;
use super::message::{Kind, Message};

/// Number of received bytes from which messages may have been lost. A socket has room for 8192
/// bytes by default, and the kernel does not report an overflow.
const MAX_LOSSLESS: usize = 4096;

/// Digest of the messages that a socket held at one time.
///
/// It does not apply the messages to the interfaces, because they are hints. FreeBSD sends
/// `RTM_DELADDR` for each IPv4 address of an interface that goes down, although the addresses stay,
/// and `RTM_NEWADDR` for an address that nobody touched.
#[derive(Debug)]
pub struct Digest<'a> {
    layout: &'a Layout,
    len: usize,
    may_have_changed: bool,
}

impl<'a> Digest<'a> {
    /// Creates the digest of no message.
    pub fn new(layout: &'a Layout) -> Self {
        Digest {
            layout,
            len: 0,
            may_have_changed: false,
        }
    }

    /// Adds a message. A message that cannot be decoded may report any change.
    pub fn add(&mut self, bytes: &[u8]) {
        self.len = self.len.saturating_add(bytes.len());
        let kind = Message::split(bytes, self.layout).map(|(message, _)| message.kind);
        self.may_have_changed |= kind.unwrap_or(Kind::Other).may_change_interfaces();
    }

    /// Whether the interfaces may have changed.
    pub fn needs_snapshot(&self) -> bool {
        self.may_have_changed || self.len > MAX_LOSSLESS
    }
}
