//! Domain IDs.

use std::fmt;
use std::str::FromStr;

use crate::escape::excerpt;

/// Domain ID.
///
/// Functions that take a domain also take its number.
///
/// ```
/// use xenstore::{DomId, Path};
///
/// let domain: DomId = "5".parse()?;
/// assert_eq!(domain, DomId::new(5));
/// assert_eq!(Path::home(domain), Path::home(5));
/// # Ok::<(), xenstore::InvalidDomId>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomId(u16);

/// First number that Xen gives to no domain (`DOMID_FIRST_RESERVED`).
const FIRST_RESERVED: u16 = 0x7ff0;

/// Error for a text that is not the number of a domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a domain ID from 0 to 32751: '{0}'")]
pub struct InvalidDomId(String);

impl DomId {
    /// The control domain.
    pub const DOM0: Self = DomId(0);

    /// The domain of the caller (`DOMID_SELF`, 32752).
    pub const SELF: Self = DomId(FIRST_RESERVED);

    /// All domains, in an entry of [`Permissions`](crate::Permissions) (`DOMID_ANY`, 32757).
    ///
    /// Servers honour an entry for it only if they offer
    /// [`Features::DOMID_ANY`](crate::Features::DOMID_ANY), which came with Xen 4.22. Others ignore
    /// the entry. The first entry of a node's permissions says the same everywhere.
    ///
    /// # Warning
    /// The C xenstored of Xen's development tree, as of August 2026, crashes when `SET_PERMS` names
    /// this domain over a socket. All domains of the host then lose their Xenstore.
    pub const ANY: Self = DomId(0x7ff5);

    /// Creates a domain ID. Does not refuse the IDs that Xen reserves.
    pub const fn new(number: u16) -> Self {
        DomId(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Whether Xen gives this number to no domain, as [`SELF`](Self::SELF) and [`ANY`](Self::ANY).
    pub const fn is_reserved(self) -> bool {
        self.0 >= FIRST_RESERVED
    }
}

impl From<u16> for DomId {
    fn from(number: u16) -> Self {
        DomId(number)
    }
}

impl From<DomId> for u16 {
    fn from(domain: DomId) -> Self {
        domain.0
    }
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Parses a decimal number, and refuses the numbers that Xen reserves (32752 and up).
impl FromStr for DomId {
    type Err = InvalidDomId;

    fn from_str(text: &str) -> Result<Self, InvalidDomId> {
        match parse_any(text) {
            Some(domain) if !domain.is_reserved() => Ok(domain),
            _ => Err(InvalidDomId(excerpt(text))),
        }
    }
}

/// Parses a decimal number without a sign, which may be one that Xen reserves.
pub(crate) fn parse_any(text: &str) -> Option<DomId> {
    let is_unsigned = text.starts_with(|first: char| first.is_ascii_digit());
    is_unsigned.then(|| text.parse().ok().map(DomId)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domain_ids_of_users_are_not_reserved_ones() {
        for (text, number) in [("0", 0), ("5", 5), ("32751", 32_751)] {
            let domain: DomId = text.parse().unwrap();
            assert_eq!((domain, domain.get()), (number.into(), number));
            assert_eq!(domain.to_string(), text);
        }
        for text in ["", "-1", "+5", "5 ", "x", "32752", "32757", "65536"] {
            assert!(text.parse::<DomId>().is_err(), "{text}");
        }

        let error = "5\n".parse::<DomId>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "not a domain ID from 0 to 32751: '5\\u000a'"
        );
        assert!(DomId::SELF.is_reserved() && DomId::ANY.is_reserved());
        assert!(!DomId::DOM0.is_reserved());
    }
}
