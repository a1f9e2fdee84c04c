//! Owners and permissions of nodes.

use std::fmt;

/// The number of a domain.
pub type DomId = u16;

/// What a domain may do with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Nothing (`n`).
    None,
    /// Read it (`r`).
    Read,
    /// Write it (`w`).
    Write,
    /// Both (`b`).
    Both,
}

impl Access {
    /// Whether reading is allowed.
    pub fn can_read(self) -> bool {
        matches!(self, Access::Read | Access::Both)
    }

    /// Whether writing is allowed.
    pub fn can_write(self) -> bool {
        matches!(self, Access::Write | Access::Both)
    }
}

/// One entry of a node's permissions, written as `r5`.
///
/// The first entry of a node names its owner, who may do everything, and what domains that are not listed may do. Each
/// further entry says what one domain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Permission {
    /// The domain.
    pub domain: DomId,
    /// What it may do; in the first entry: what everyone else may do.
    pub access: Access,
}

impl Permission {
    /// The entry that `text` stands for.
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
    fn text_and_back() {
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
