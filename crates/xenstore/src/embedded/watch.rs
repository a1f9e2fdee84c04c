//! One watch of a connection.

#[derive(Debug)]
pub(super) struct Watch {
    /// Absolute path, or one of the special paths.
    pub(super) path: Box<str>,
    pub(super) token: Box<[u8]>,
    /// Whether events carry paths relative to the domain's home.
    pub(super) is_relative: bool,
}

impl Watch {
    pub(super) fn new(path: &str, token: &[u8], is_relative: bool) -> Self {
        Watch {
            path: path.into(),
            token: token.into(),
            is_relative,
        }
    }

    pub(super) fn is(&self, path: &str, token: &[u8]) -> bool {
        &*self.path == path && &*self.token == token
    }

    /// Whether a change of `changed` fires this watch. With `exact`, only a watch of that very path
    /// fires.
    pub(super) fn matches(&self, changed: &str, exact: bool) -> bool {
        match changed.strip_prefix(&*self.path) {
            Some("") => true,
            Some(rest) if rest.starts_with('/') => !exact,
            // Every node is below the root, the special ones too.
            _ => !exact && &*self.path == "/",
        }
    }
}
