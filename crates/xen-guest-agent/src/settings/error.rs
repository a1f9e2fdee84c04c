//! Invalid settings: where each value came from, and what is wrong with it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Setting;
use xenstore::escape;

/// Source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file, and the line in it, counted from 1.
    File(PathBuf, usize),
    /// An environment variable.
    Environment(&'static str),
    /// An option.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path, line) => f.write_str(&in_file(path, *line)),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::CommandLine => f.write_str("command line"),
        }
    }
}

impl Origin {
    /// Returns the message for an invalid value. It names the setting as the user did: by the key
    /// in a file, by the variable, or by the option.
    pub(super) fn invalid(&self, setting: &Setting, found: &str, expected: &str) -> String {
        let name = match self {
            Origin::File(..) => format!("{self}: {}", setting.key),
            Origin::Environment(_) => self.to_string(),
            Origin::CommandLine => format!("--{}", setting.option()),
        };
        let message = format!("{name}: invalid value {found}; expected {expected}");
        escape(&message).into_owned()
    }
}

/// Returns the name of a line in a file.
pub(super) fn in_file(path: &Path, line: usize) -> String {
    format!("{}:{line}", escape(&path.to_string_lossy()))
}

/// All mistakes in the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    messages: Vec<String>,
}

impl SettingsError {
    /// Returns an error with these messages, one line each.
    pub(super) fn new(messages: Vec<String>) -> Self {
        SettingsError { messages }
    }

    /// Returns an error for a file or directory that cannot be read.
    pub(super) fn cannot_read(what: &str, path: &Path, error: &impl fmt::Display) -> Self {
        let message = format!("cannot read the {what} {}: {error}", path.display());
        SettingsError::new(vec![escape(&message).into_owned()])
    }

    /// Returns an error for a file or directory that must not be used.
    pub(super) fn refusing(what: &str, path: &Path, reason: &str) -> Self {
        let message = format!("refusing the {what} {}: {reason}", path.display());
        SettingsError::new(vec![escape(&message).into_owned()])
    }

    /// Returns one message for each mistake, in the order in which the sources are read.
    pub fn messages(&self) -> &[String] {
        &self.messages
    }
}

impl std::error::Error for SettingsError {}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.messages.join("\n"))
    }
}
