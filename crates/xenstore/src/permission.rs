//! Domains, and owners and permissions of nodes.

use std::fmt;
use std::str::FromStr;

use crate::escape::excerpt;

/// Number of a domain.
///
/// Functions that take a domain also take its number: `server.connect(5)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomId(u16);

/// First number that Xen gives to no domain (`DOMID_FIRST_RESERVED`).
const FIRST_RESERVED: u16 = 0x7ff0;

/// Error for a text that is not the number of a domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a domain's number of 0 to 32751: '{0}'")]
pub struct InvalidDomId(String);

impl DomId {
    /// The control domain.
    pub const DOM0: Self = DomId(0);

    /// The domain of the caller (`DOMID_SELF`, 32752).
    pub const SELF: Self = DomId(FIRST_RESERVED);

    /// All domains, in a [`Permission`] (`DOMID_ANY`, 32757).
    ///
    /// Servers honour an entry for it only if they offer
    /// [`Features::DOMID_ANY`](crate::Features::DOMID_ANY), which came with Xen 4.22. Others ignore
    /// the entry. The first entry of a node's permissions says the same everywhere.
    ///
    /// # Warning
    /// The C xenstored of Xen's development tree, as of August 2026, crashes when `SET_PERMS` names
    /// this domain over a socket. All domains of the host then lose their Xenstore.
    pub const ANY: Self = DomId(0x7ff5);

    /// Returns the domain of a number, which may be one that Xen reserves.
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
        match number(text) {
            Some(domain) if !domain.is_reserved() => Ok(domain),
            _ => Err(InvalidDomId(excerpt(text))),
        }
    }
}

/// Parses a decimal number without a sign, which may be one that Xen reserves.
fn number(text: &str) -> Option<DomId> {
    let is_unsigned = text.starts_with(|first: char| first.is_ascii_digit());
    is_unsigned.then(|| text.parse().ok().map(DomId)).flatten()
}

/// Access of a domain to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// No access (`n`).
    None,
    /// Read access (`r`).
    Read,
    /// Write access (`w`).
    Write,
    /// Read and write access (`b`).
    ReadWrite,
}

impl Access {
    /// Whether this includes read access.
    pub fn can_read(self) -> bool {
        matches!(self, Access::Read | Access::ReadWrite)
    }

    /// Whether this includes write access.
    pub fn can_write(self) -> bool {
        matches!(self, Access::Write | Access::ReadWrite)
    }
}

/// One entry of a node's permissions, written as `r5`.
///
/// The first entry of a node names its owner, which always has full access, and states the access
/// of all domains that are not listed. Each further entry states the access of one domain. The
/// [manual](crate::manual::permissions) has recipes.
///
/// ```
/// use xenstore::{Access, Permission};
///
/// let permission: Permission = "r5".parse()?;
/// assert_eq!(permission, Permission::read(5));
/// assert!(permission.access.can_read());
/// assert_eq!(Permission::new(7, Access::ReadWrite).to_string(), "b7");
/// # Ok::<(), xenstore::InvalidPermission>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Permission {
    /// The domain.
    pub domain: DomId,
    /// The access of the domain, or in the first entry of a node the access of all domains that are
    /// not listed.
    pub access: Access,
}

impl Permission {
    /// Returns the entry that gives `domain` the access `access`.
    pub fn new(domain: impl Into<DomId>, access: Access) -> Self {
        let domain = domain.into();
        Permission { domain, access }
    }

    /// Returns the entry that gives a domain no access, such as `n5`.
    pub fn none(domain: impl Into<DomId>) -> Self {
        Permission::new(domain, Access::None)
    }

    /// Returns the entry that gives a domain read access, such as `r5`.
    pub fn read(domain: impl Into<DomId>) -> Self {
        Permission::new(domain, Access::Read)
    }

    /// Returns the entry that gives a domain write access, such as `w5`.
    pub fn write(domain: impl Into<DomId>) -> Self {
        Permission::new(domain, Access::Write)
    }

    /// Returns the entry that gives a domain read and write access, such as `b5`.
    pub fn read_write(domain: impl Into<DomId>) -> Self {
        Permission::new(domain, Access::ReadWrite)
    }
}

/// Error for a text that is not a [`Permission`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a permission such as r5: '{0}'")]
pub struct InvalidPermission(String);

/// Parses an entry such as `r5`. The domain may be one that Xen reserves, because servers may send
/// such entries.
impl FromStr for Permission {
    type Err = InvalidPermission;

    fn from_str(text: &str) -> Result<Self, InvalidPermission> {
        let access = match text.as_bytes().first() {
            Some(b'n') => Some(Access::None),
            Some(b'r') => Some(Access::Read),
            Some(b'w') => Some(Access::Write),
            Some(b'b') => Some(Access::ReadWrite),
            _ => None,
        };
        let domain = text.get(1..).and_then(number);
        match (access, domain) {
            (Some(access), Some(domain)) => Ok(Permission { domain, access }),
            _ => Err(InvalidPermission(excerpt(text))),
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.access {
            Access::None => 'n',
            Access::Read => 'r',
            Access::Write => 'w',
            Access::ReadWrite => 'b',
        };
        write!(f, "{letter}{}", self.domain)
    }
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
            "not a domain's number of 0 to 32751: '5\\u000a'"
        );
        assert!(DomId::SELF.is_reserved() && DomId::ANY.is_reserved());
        assert!(!DomId::DOM0.is_reserved());
    }

    #[test]
    fn permissions_round_trip_through_text() {
        for text in ["n0", "r5", "w12", "b65535"] {
            assert_eq!(text.parse::<Permission>().unwrap().to_string(), text);
        }
        for text in ["", "r", "x5", "r-1", "r+5", "r65536", "r5x", "\u{e4}5"] {
            assert!(text.parse::<Permission>().is_err(), "{text}");
        }
        assert_eq!(
            "x5\n".parse::<Permission>().unwrap_err().to_string(),
            "not a permission such as r5: 'x5\\u000a'"
        );
    }
}
