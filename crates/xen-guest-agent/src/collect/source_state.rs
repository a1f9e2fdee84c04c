//! State of a source, which may be unreadable.

use std::io;

use log::{info, warn};

/// State of a source. Of consecutive errors only the first is logged, and then the recovery.
#[derive(Debug)]
pub(super) struct SourceState {
    source: &'static str,
    has_succeeded: bool,
    has_failed: bool,
}

impl SourceState {
    pub(super) fn new(source: &'static str) -> Self {
        SourceState {
            source,
            has_succeeded: false,
            has_failed: false,
        }
    }

    /// Returns the value if the source could be read, and logs a change of that.
    pub(super) fn check<T>(&mut self, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.on_success();
                Some(value)
            }
            Err(error) => {
                self.on_error(&error);
                None
            }
        }
    }

    /// Whether the last attempt failed.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    pub(super) fn on_success(&mut self) {
        self.has_succeeded = true;
        if std::mem::replace(&mut self.has_failed, false) {
            info!("{}: can be read again", self.source);
        }
    }

    pub(super) fn on_error(&mut self, error: &io::Error) {
        if std::mem::replace(&mut self.has_failed, true) {
            return;
        }
        if self.has_succeeded {
            warn!("{error}; keeping the last known {}", self.source);
        } else {
            warn!("{error}; not publishing {}", self.source);
        }
    }
}
