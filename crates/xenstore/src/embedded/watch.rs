//! One watch of a connection.

#[derive(Debug)]
pub(super) struct Watch {
    /// Absolute path, or one of the special paths.
    pub(super) path: Box<str>,
    pub(super) token: Box<[u8]>,
    /// Levels of nodes below the path whose changes fire the watch, or `None` for all.
    pub(super) depth: Option<usize>,
    /// Whether events carry paths relative to the domain's home.
    pub(super) is_relative: bool,
}

impl Watch {
    pub(super) fn is(&self, path: &str, token: &[u8]) -> bool {
        &*self.path == path && &*self.token == token
    }

    /// Whether a change of `changed` fires this watch. With `exact`, only a watch of that very path
    /// fires.
    pub(super) fn matches(&self, changed: &str, exact: bool) -> bool {
        let below = match changed.strip_prefix(&*self.path) {
            Some("") => return true,
            Some(below) if below.starts_with('/') => below,
            // Every node is below the root, the special ones too.
            _ if &*self.path == "/" => changed,
            _ => return false,
        };

        let levels = below.trim_start_matches('/').split('/').count();
        !exact && self.depth.is_none_or(|depth| levels <= depth)
    }
}
