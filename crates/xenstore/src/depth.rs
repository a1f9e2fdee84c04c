//! Depth of watches.

use crate::error::Result;
use crate::event::{INTRODUCE_DOMAIN, RELEASE_DOMAIN, WatchEvent};
use crate::path::Path;
use crate::request::Request;

/// Number of levels below a watched node whose changes fire the watch; see
/// [`Client::watch_to`](crate::Client::watch_to).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Depth(u32);

impl Depth {
    /// The watched node itself.
    pub const NODE: Self = Depth(0);

    /// The watched node and its children.
    pub const CHILDREN: Self = Depth(1);

    /// Returns the depth that includes this many levels below the watched node.
    pub const fn levels(levels: u32) -> Self {
        Depth(levels)
    }

    /// Returns the number of levels below the watched node.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Number of names in the longest path, half of [`Path::ABSOLUTE_MAX`]. A depth that is not smaller
/// has the same effect as none.
const MAX_LEVELS: u32 = 1536;

/// Path and depth of a client's watch.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) path: Path,
    depth: Option<Depth>,
}

impl Scope {
    pub(crate) fn new(path: &str, depth: Option<Depth>) -> Result<Self> {
        let path = Path::new(path)?;
        Ok(Scope { path, depth })
    }

    /// Returns the request that sets the watch. The server limits the depth if it `can_limit` it.
    pub(crate) fn request(&self, token: &str, can_limit: bool) -> Result<Request<()>> {
        let depth = self.depth.filter(|_| can_limit);
        let depth = if self.path.as_str().starts_with('@') {
            // The server accepts no other depth here, and a domain has no further levels.
            depth
                .map(|depth| depth.min(Depth::CHILDREN))
                .filter(|depth| *depth == Depth::CHILDREN)
        } else {
            // Xen 4.22 refuses a depth above `i32::MAX`.
            depth.filter(|depth| depth.0 < MAX_LEVELS)
        };
        match depth {
            Some(depth) => Request::watch_to(&self.path, token, depth),
            None => Request::watch(&self.path, token),
        }
    }

    /// Whether one event stands for all equal ones, because it only says that some domain has
    /// changed.
    pub(crate) fn merges(&self, event: &WatchEvent) -> bool {
        let path = event.path.as_str();
        self.depth.is_some() && matches!(path, INTRODUCE_DOMAIN | RELEASE_DOMAIN)
    }

    /// Whether an event is not below the depth.
    pub(crate) fn includes(&self, event: &WatchEvent) -> bool {
        let Some(depth) = self.depth else {
            return true;
        };
        let below = event.path.strip_prefix(&self.path).unwrap_or_default();
        let levels = below.split('/').filter(|name| !name.is_empty()).count();
        u32::try_from(levels).is_ok_and(|levels| levels <= depth.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_has_the_levels_below_the_watched_node() {
        for (watched, path, levels) in [
            ("/a", "/a", 0),
            ("/a", "/a/b", 1),
            ("/a", "/a/b/c", 2),
            ("/", "/", 0),
            ("/", "/a", 1),
            ("/", "/a/b", 2),
            ("data", "data", 0),
            ("data", "data/x/y", 2),
            ("@releaseDomain", "@releaseDomain", 0),
            ("@releaseDomain", "@releaseDomain/5", 1),
            ("@introduceDomain", "@releaseDomain/5", 0),
        ] {
            let event = WatchEvent {
                path: path.parse().unwrap(),
                token: String::new(),
            };
            let is_returned = |depth| Scope::new(watched, depth).unwrap().includes(&event);
            let returned = [0, 1, 2, 3].map(|depth| is_returned(Some(Depth::levels(depth))));
            let expected = [0, 1, 2, 3].map(|depth| levels <= depth);
            assert_eq!(returned, expected, "{watched} {path}");
            assert!(is_returned(None));
        }
    }

    #[test]
    fn depth_is_sent_only_where_the_server_accepts_it() {
        for (path, depth, can_limit, payload) in [
            ("data", Some(Depth::NODE), true, &b"data\0t\x000\0"[..]),
            ("data", Some(Depth::CHILDREN), true, b"data\0t\x001\0"),
            ("data", Some(Depth::levels(12)), true, b"data\0t\x0012\0"),
            (
                "data",
                Some(Depth::levels(1535)),
                true,
                b"data\0t\x001535\0",
            ),
            ("data", Some(Depth::levels(1536)), true, b"data\0t\0"),
            ("data", Some(Depth::levels(u32::MAX)), true, b"data\0t\0"),
            ("data", Some(Depth::CHILDREN), false, b"data\0t\0"),
            ("data", None, true, b"data\0t\0"),
            (
                "@releaseDomain",
                Some(Depth::NODE),
                true,
                b"@releaseDomain\0t\0",
            ),
            (
                "@releaseDomain",
                Some(Depth::CHILDREN),
                true,
                b"@releaseDomain\0t\x001\0",
            ),
            (
                "@releaseDomain",
                Some(Depth::levels(u32::MAX)),
                true,
                b"@releaseDomain\0t\x001\0",
            ),
            (
                "@releaseDomain",
                Some(Depth::CHILDREN),
                false,
                b"@releaseDomain\0t\0",
            ),
        ] {
            let scope = Scope::new(path, depth).unwrap();
            let request = scope.request("t", can_limit).unwrap();
            assert_eq!(request.payload, payload, "{path} {depth:?}");
        }
    }
}
