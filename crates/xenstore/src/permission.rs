//! Permissions of nodes.

use std::fmt;
use std::str::FromStr;

use crate::domid::{self, DomId};
use crate::escape::excerpt;

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

/// Access of one domain to a node, written as `r5`: an entry of [`Permissions`].
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
    /// The access of the domain.
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

/// Error for a text that is not a [`Permission`], or that is not a list of them.
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
        let domain = text.get(1..).and_then(domid::parse_any);
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

/// Permissions of a node: its owner, and the access of the other domains.
///
/// Domain 0 and the owner have full access in any case, and only they may change the permissions.
/// Servers limit the number of entries. The [manual](crate::manual::permissions) has recipes.
///
/// The text form is that of Xen's tools, such as `n5 r7`: the owner with the letter of all other
/// domains, and then the entries.
///
/// ```
/// use xenstore::{Access, Permission, Permissions};
///
/// let permissions = Permissions::owner_only(5).with(Permission::read(7));
/// assert_eq!(permissions, "n5 r7".parse()?);
/// assert_eq!((permissions.owner.get(), permissions.others), (5, Access::None));
/// # Ok::<(), xenstore::InvalidPermission>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permissions {
    /// Domain that owns the node.
    pub owner: DomId,
    /// Access of all domains that have no entry.
    pub others: Access,
    /// Access of single domains. An entry for [`DomId::ANY`], whose documentation has a warning,
    /// has no effect and is no error on servers without that feature.
    pub entries: Vec<Permission>,
}

impl Permissions {
    /// Returns permissions without entries, which give all domains but the owner the access
    /// `others`.
    pub fn new(owner: impl Into<DomId>, others: Access) -> Self {
        Permissions {
            owner: owner.into(),
            others,
            entries: Vec::new(),
        }
    }

    /// Returns permissions that give no other domain access, such as `n5`.
    pub fn owner_only(owner: impl Into<DomId>) -> Self {
        Permissions::new(owner, Access::None)
    }

    /// Returns permissions that let all domains read, such as `r5`.
    pub fn readable_by_all(owner: impl Into<DomId>) -> Self {
        Permissions::new(owner, Access::Read)
    }

    /// Returns the same permissions with this entry, which replaces those of its domain.
    #[must_use]
    pub fn with(mut self, entry: Permission) -> Self {
        self.entries.retain(|other| other.domain != entry.domain);
        self.entries.push(entry);
        self
    }

    /// Returns the permissions of the protocol's list, whose first entry names the owner and the
    /// access of all domains that the list does not name. Returns `None` for an empty list.
    pub fn from_list(list: impl IntoIterator<Item = Permission>) -> Option<Self> {
        let mut list = list.into_iter();
        let first = list.next()?;
        Some(Permissions {
            owner: first.domain,
            others: first.access,
            entries: list.collect(),
        })
    }

    /// Returns the protocol's list, as [`from_list`](Self::from_list) takes it.
    pub fn to_list(&self) -> impl Iterator<Item = Permission> {
        let first = Permission::new(self.owner, self.others);
        std::iter::once(first).chain(self.entries.iter().copied())
    }
}

impl FromStr for Permissions {
    type Err = InvalidPermission;

    fn from_str(text: &str) -> Result<Self, InvalidPermission> {
        let list = text.split_ascii_whitespace().map(str::parse);
        let list: Vec<Permission> = list.collect::<Result<_, _>>()?;
        Permissions::from_list(list).ok_or_else(|| InvalidPermission(excerpt(text)))
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<_> = self.to_list().map(|entry| entry.to_string()).collect();
        f.write_str(&list.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn lists_round_trip_through_text_and_are_never_empty() {
        for text in ["n0", "r5", "n5 r7 b8", "n0 n0", "w1 r32757"] {
            let permissions: Permissions = text.parse().unwrap();
            assert_eq!(permissions.to_string(), text);
            let list: Vec<_> = permissions.to_list().collect();
            assert_eq!(Permissions::from_list(list), Some(permissions));
        }
        for text in ["", " ", "n5 x", "n5,r7"] {
            assert!(text.parse::<Permissions>().is_err(), "{text}");
        }
        assert_eq!(Permissions::from_list([]), None);
    }

    #[test]
    fn entry_replaces_those_of_its_domain() {
        let permissions = Permissions::readable_by_all(5)
            .with(Permission::none(7))
            .with(Permission::read(8))
            .with(Permission::write(7));
        assert_eq!(permissions.to_string(), "r5 r8 w7");
    }
}
