//! Owners and permissions of nodes.

use std::fmt;

/// Number of a domain.
pub type DomId = u16;

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
    Both,
}

impl Access {
    /// Whether this includes read access.
    pub fn can_read(self) -> bool {
        matches!(self, Access::Read | Access::Both)
    }

    /// Whether this includes write access.
    pub fn can_write(self) -> bool {
        matches!(self, Access::Write | Access::Both)
    }
}

/// One entry of a node's permissions, written as `r5`.
///
/// The first entry of a node names its owner, which always has full access, and states the access
/// of all domains that are not listed. Each further entry states the access of one domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Permission {
    /// The domain.
    pub domain: DomId,
    /// The access of the domain, or in the first entry of a node the access of all domains that are
    /// not listed.
    pub access: Access,
}

impl Permission {
    /// Parses an entry such as `r5`. Returns `None` if `text` is invalid.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (letter, domain) = text.split_first()?;
        let access = match letter {
            b'n' => Access::None,
            b'r' => Access::Read,
            b'w' => Access::Write,
            b'b' => Access::Both,
            _ => return None,
        };
        if !domain.first()?.is_ascii_digit() {
            return None;
        }
        let domain = std::str::from_utf8(domain).ok()?.parse().ok()?;
        Some(Permission { domain, access })
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.access {
            Access::None => 'n',
            Access::Read => 'r',
            Access::Write => 'w',
            Access::Both => 'b',
        };
        write!(f, "{letter}{}", self.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_round_trip_through_text() {
        for text in ["n0", "r5", "w12", "b65535"] {
            assert_eq!(
                Permission::parse(text.as_bytes()).unwrap().to_string(),
                text
            );
        }
        for text in ["", "r", "x5", "r-1", "r+5", "r65536", "r5x"] {
            assert_eq!(Permission::parse(text.as_bytes()), None, "{text}");
        }
    }
}
