//! Paths of nodes.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use crate::domid::DomId;
use crate::escape::excerpt;

/// A valid path of a node.
///
/// A path consists of names separated by single slashes. Names contain only `A-Z a-z 0-9 - _ @`. A
/// path that starts with a slash is absolute. Any other path is relative to the home of the
/// connection's domain, `/local/domain/<domid>`. The special watch paths `@introduceDomain` and
/// `@releaseDomain` are valid too.
///
/// ```
/// use xenstore::Path;
///
/// let path = Path::home(5).join("data/hello")?;
/// assert_eq!(path, "/local/domain/5/data/hello");
/// assert_eq!(path.name(), "hello");
/// assert!(Path::new("a b").is_err());
/// # Ok::<(), xenstore::InvalidPath>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(String);

/// Error for an invalid path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid path '{}': {reason}", excerpt(.path))]
pub struct InvalidPath {
    path: String,
    reason: &'static str,
}

impl InvalidPath {
    /// Returns the reason, without the path.
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}

impl Path {
    /// Maximum length of an absolute path in bytes (`XENSTORE_ABS_PATH_MAX`).
    pub const ABSOLUTE_MAX: usize = 3072;

    /// Maximum length of a relative path in bytes (`XENSTORE_REL_PATH_MAX`).
    pub const RELATIVE_MAX: usize = 2048;

    /// Checks a path.
    ///
    /// # Errors
    /// [`InvalidPath`] for a path that is empty, that is longer than [`ABSOLUTE_MAX`](Self::ABSOLUTE_MAX) or
    /// [`RELATIVE_MAX`](Self::RELATIVE_MAX), or that contains an empty name or an invalid character.
    pub fn new(path: impl Into<String>) -> Result<Self, InvalidPath> {
        let path = path.into();
        check(&path)?;
        Ok(Path(path))
    }

    /// Returns the home of a domain, `/local/domain/<domid>`, from which its relative paths start.
    pub fn home(domain: impl Into<DomId>) -> Self {
        Path(format!("/local/domain/{}", domain.into()))
    }

    /// Checks a path of the server. A relative one may be as long as an absolute one, because the
    /// server only removes the domain's home from it.
    pub(crate) fn received(path: &str) -> Result<Self, InvalidPath> {
        check_len(path, Path::ABSOLUTE_MAX)?;
        Ok(Path(path.to_owned()))
    }

    /// Returns the path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the path starts at the root of the store and not at the domain's home.
    pub fn is_absolute(&self) -> bool {
        self.0.starts_with('/')
    }

    /// Returns the path of the node with the relative path `below` under this node.
    ///
    /// # Errors
    /// [`InvalidPath`] if the joined path is invalid.
    pub fn join(&self, below: impl AsRef<str>) -> Result<Self, InvalidPath> {
        let separator = if self == "/" { "" } else { "/" };
        Path::new(format!("{self}{separator}{}", below.as_ref()))
    }

    /// Returns the path of the parent, or `None` for the root and for a relative path of one name.
    pub fn parent(&self) -> Option<Self> {
        match self.0.rsplit_once('/')? {
            ("", "") => None,
            ("", _) => Some(Path("/".into())),
            (parent, _) => Some(Path(parent.into())),
        }
    }

    /// Returns this path and then the paths of its parent, of the parent's parent, and so on.
    pub fn ancestors(&self) -> impl Iterator<Item = Path> {
        std::iter::successors(Some(self.clone()), Path::parent)
    }

    /// Returns the last name of the path, which is empty for the root.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&*self.0, |(_, name)| name)
    }

    /// Returns the names in the path, from the first to the last. The root has none.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|name| !name.is_empty())
    }

    /// Returns the rest of this path after the path `above`, or `None` if this is not the path of a
    /// node below it. The rest is empty if the paths are equal.
    ///
    /// ```
    /// # use xenstore::Path;
    /// let path: Path = "/local/domain/5/data/a".parse()?;
    /// assert_eq!(path.strip_prefix(Path::home(5)), Some("data/a"));
    /// assert_eq!(path.strip_prefix("/local/dom"), None);
    /// # Ok::<(), xenstore::InvalidPath>(())
    /// ```
    pub fn strip_prefix(&self, above: impl AsRef<str>) -> Option<&str> {
        let above = above.as_ref();
        match self.0.strip_prefix(above)? {
            "" => Some(""),
            _ if above.is_empty() => None,
            rest if above == "/" => Some(rest),
            rest => rest.strip_prefix('/'),
        }
    }

    /// Whether this is the path `above`, or of a node below it.
    pub fn is_at_or_below(&self, above: impl AsRef<str>) -> bool {
        self.strip_prefix(above).is_some()
    }
}

/// Checks that `path` is valid.
pub(crate) fn check(path: &str) -> Result<(), InvalidPath> {
    let limit = if path.starts_with('/') {
        Path::ABSOLUTE_MAX
    } else {
        Path::RELATIVE_MAX
    };
    check_len(path, limit)
}

/// Checks that `path` is valid and has at most `limit` bytes.
fn check_len(path: &str, limit: usize) -> Result<(), InvalidPath> {
    match find_fault(path, limit) {
        None => Ok(()),
        Some(reason) => Err(InvalidPath {
            path: path.to_owned(),
            reason,
        }),
    }
}

fn find_fault(path: &str, limit: usize) -> Option<&'static str> {
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'@' | b'/');
    if path.is_empty() {
        Some("it is empty")
    } else if path.len() > limit {
        Some("it is too long")
    } else if !path.bytes().all(allowed) {
        Some("only letters, digits, '-', '_', '@' and '/' are allowed")
    } else if path.contains("//") {
        Some("it contains an empty name")
    } else if path.len() > 1 && path.ends_with('/') {
        Some("it ends with a slash")
    } else {
        None
    }
}

impl FromStr for Path {
    type Err = InvalidPath;

    fn from_str(path: &str) -> Result<Self, InvalidPath> {
        Path::new(path)
    }
}

impl TryFrom<&str> for Path {
    type Error = InvalidPath;

    fn try_from(path: &str) -> Result<Self, InvalidPath> {
        Path::new(path)
    }
}

impl TryFrom<String> for Path {
    type Error = InvalidPath;

    fn try_from(path: String) -> Result<Self, InvalidPath> {
        Path::new(path)
    }
}

impl From<Path> for String {
    fn from(path: Path) -> Self {
        path.0
    }
}

impl PartialEq<str> for Path {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for Path {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl AsRef<str> for Path {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Path {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_and_invalid_paths() {
        let long = |start: &str, len: usize| format!("{start}{}", "a".repeat(len - start.len()));
        for good in [
            "/",
            "/a",
            "a",
            "a/b-C_9@x",
            "@releaseDomain",
            &long("/", 3072),
            &long("a", 2048),
        ] {
            assert!(Path::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "//",
            "a/",
            "/a/",
            "a//b",
            "a b",
            "a.b",
            "a:b",
            "ä",
            "a\0",
            &long("/", 3073),
            &long("a", 2049),
        ] {
            assert!(Path::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn error_names_the_invalid_path_and_the_reason() {
        let error = Path::new("a b\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid path 'a b\\u000a': only letters, digits, '-', '_', '@' and '/' are allowed"
        );
    }

    #[test]
    fn join_parent_and_name() {
        let path = |text: &str| Path::new(text).unwrap();
        assert_eq!(path("/").join("a").unwrap(), path("/a"));
        assert_eq!(path("a").join("b/c").unwrap(), path("a/b/c"));
        assert!(path("a").join("").is_err());
        assert_eq!(path("/").parent(), None);
        assert_eq!(path("/a").parent(), Some(path("/")));
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), None);
        assert_eq!((path("a/b").name(), path("/").name()), ("b", ""));
        assert!(path("a/b").is_at_or_below(path("a")));
        assert!(path("a").is_at_or_below(path("a")));
        assert!(path("/a").is_at_or_below(path("/")));
        assert!(!path("ab").is_at_or_below(path("a")));
    }

    #[test]
    fn components_ancestors_and_prefixes() {
        let path = |text: &str| Path::new(text).unwrap();
        for (text, components, ancestors) in [
            ("/", vec![], vec!["/"]),
            ("/a/b", vec!["a", "b"], vec!["/a/b", "/a", "/"]),
            ("a/b", vec!["a", "b"], vec!["a/b", "a"]),
            (
                "@releaseDomain",
                vec!["@releaseDomain"],
                vec!["@releaseDomain"],
            ),
        ] {
            assert_eq!(path(text).components().collect::<Vec<_>>(), components);
            assert_eq!(path(text).ancestors().collect::<Vec<_>>(), ancestors);
        }

        for (text, above, rest) in [
            ("/a/b", "/a", Some("b")),
            ("/a/b", "/", Some("a/b")),
            ("/a", "/a", Some("")),
            ("/", "/", Some("")),
            ("/ab", "/a", None),
            ("a", "/a", None),
            ("/a", "a", None),
            ("/a", "", None),
            ("/a/b", "/a/", None),
        ] {
            assert_eq!(path(text).strip_prefix(above), rest, "{text} {above}");
        }
    }

    #[test]
    fn conversions() {
        let path = Path::try_from("/local/domain/5".to_owned()).unwrap();
        assert_eq!(path, "/local/domain/5");
        assert_eq!(path, *"/local/domain/5");
        assert_eq!(path, Path::home(5));
        assert_eq!(String::from(path), "/local/domain/5");
        assert!(Path::try_from("a//b".to_owned()).is_err());
    }
}
