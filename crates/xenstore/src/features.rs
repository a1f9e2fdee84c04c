//! Features of Xenstore servers.

use std::fmt;
use std::ops::BitOr;

use crate::error::{Error, ErrorCode, Result};

/// Set of features that a server offers to a domain (`XENSTORE_SERVER_FEATURE_...`).
///
/// C xenstored reports them since Xen 4.22. Other servers have none of them.
///
/// ```
/// use xenstore::Features;
///
/// let features = Features::ERROR | Features::WATCH_DEPTH;
/// assert!(features.contains(Features::WATCH_DEPTH));
/// assert_eq!(features.bits(), 6);
/// assert_eq!(features.to_string(), "ERROR | WATCH_DEPTH");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Features(u32);

impl Features {
    /// A guest may reset its connection to the server.
    pub const RECONNECTION: Self = Features(1);

    /// The server reports errors of the connection in the page that it shares with a guest.
    pub const ERROR: Self = Features(2);

    /// Watches can be limited to some levels of nodes, and those of domains can name the domain.
    pub const WATCH_DEPTH: Self = Features(4);

    /// Permissions can name all domains; see [`DomId::ANY`](crate::DomId::ANY).
    pub const DOMID_ANY: Self = Features(8);

    /// Names of the features, by bit.
    const NAMES: [(Self, &str); 4] = [
        (Self::RECONNECTION, "RECONNECTION"),
        (Self::ERROR, "ERROR"),
        (Self::WATCH_DEPTH, "WATCH_DEPTH"),
        (Self::DOMID_ANY, "DOMID_ANY"),
    ];

    /// Returns the features of a number in which each bit stands for a feature. Bits that this
    /// library does not know are kept.
    pub const fn from_bits(bits: u32) -> Self {
        Features(bits)
    }

    /// Returns the number in which each bit stands for a feature.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of these features are offered.
    pub const fn contains(self, features: Self) -> bool {
        self.0 & features.0 == features.0
    }

    /// Returns the features of a reply to `GET_FEATURE`. A server or kernel that does not know the
    /// request has none.
    pub(crate) fn of_reply(reply: Result<Self>) -> Result<Self> {
        let is_unknown = |error: &Error| match error {
            Error::Refused { code, .. } => matches!(code, ErrorCode::ENOSYS | ErrorCode::EINVAL),
            Error::NotSent { error, .. } => error.kind() == std::io::ErrorKind::InvalidInput,
            _ => false,
        };
        match reply {
            Err(error) if is_unknown(&error) => Ok(Features::default()),
            reply => reply,
        }
    }

    /// Ignores the error of a server that is asked for its features and can be used without them.
    ///
    /// A timeout is an error nevertheless, because the next request would also wait.
    pub(crate) fn optional(asked: Result<Self>) -> Result<()> {
        match asked {
            Err(error) if error.is_fatal() || matches!(error, Error::TimedOut { .. }) => Err(error),
            _ => Ok(()),
        }
    }
}

impl BitOr for Features {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Features(self.0 | other.0)
    }
}

/// Shows the names, and bits without a name as a hexadecimal number: `ERROR | 0x10`. An empty set is
/// `none`.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut unnamed = self.0;
        let mut separator = "";
        for (feature, name) in Self::NAMES {
            if self.contains(feature) {
                write!(f, "{separator}{name}")?;
                unnamed &= !feature.0;
                separator = " | ";
            }
        }
        match unnamed {
            0 if separator.is_empty() => f.write_str("none"),
            0 => Ok(()),
            bits => write!(f, "{separator}{bits:#x}"),
        }
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Features({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;
    use crate::wire::MessageKind;

    #[test]
    fn features_are_shown_by_name() {
        for (bits, text) in [
            (0, "none"),
            (1, "RECONNECTION"),
            (14, "ERROR | WATCH_DEPTH | DOMID_ANY"),
            (16, "0x10"),
            (0x8000_0004, "WATCH_DEPTH | 0x80000000"),
        ] {
            let features = Features::from_bits(bits);
            assert_eq!(
                (features.to_string().as_str(), features.bits()),
                (text, bits)
            );
            assert_eq!(format!("{features:?}"), format!("Features({text})"));
        }
    }

    #[test]
    fn set_contains_its_subsets() {
        let both = Features::ERROR | Features::DOMID_ANY;
        assert_eq!(both.bits(), 10);
        assert!(both.contains(both) && both.contains(Features::ERROR));
        assert!(both.contains(Features::default()));
        assert!(!both.contains(Features::ERROR | Features::WATCH_DEPTH));
    }

    #[test]
    fn server_that_does_not_know_the_request_has_no_features() {
        let refused = |code: &str| Error::refused(code.into(), MessageKind::GET_FEATURE, None);
        let not_sent = |code| Error::NotSent {
            operation: MessageKind::GET_FEATURE,
            path: None,
            error: Arc::new(io::Error::from_raw_os_error(code)),
        };
        for (error, is_unknown) in [
            (refused("ENOSYS"), true),
            (refused("EINVAL"), true),
            (refused("EACCES"), false),
            // EINVAL and ENOMEM of the system.
            (not_sent(22), true),
            (not_sent(12), false),
        ] {
            let features = Features::of_reply(Err(error)).ok();
            assert_eq!(features, is_unknown.then(Features::default));
        }
        assert_eq!(
            Features::of_reply(Ok(Features::ERROR)).ok(),
            Some(Features::ERROR)
        );
    }
}
