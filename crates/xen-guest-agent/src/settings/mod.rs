//! Settings from files, the environment and the command line.

mod definitions;
mod error;
mod file;
mod raw_value;
mod sources;
mod syntax;
mod value;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use definitions::{SETTINGS, Setting};
pub use error::{Origin, SettingsError};
pub use sources::{Loaded, Sources};
pub use value::TomlType;
pub(crate) use value::name;

use crate::collect::{self, network, services};
use crate::confine;
use crate::logging::LogFilter;
use crate::platform::{Platform, System};
use crate::publish;
use crate::schema;
use crate::schema::topology::Filter;

/// Directory of the settings files. The setting `root` does not apply to it.
pub const DIRECTORY: &str = System::SETTINGS;

/// All settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whether to log to standard error.
    pub stderr: bool,
    /// Levels of the log.
    pub loglevel: LogFilter,
    /// Layout of the published nodes.
    pub schema: schema::Name,
    /// Way to reach Xenstore.
    pub xenstore: Endpoint,
    /// Directory to prepend to the paths of system files.
    pub root: PathBuf,
    /// Privileges that the agent gives up.
    pub confine: confine::Mode,
    /// Maximum number of nodes that the agent creates, parent nodes included.
    pub node_budget: usize,
    /// Time between two polls of memory and of other values for which the
    /// kernel sends no event.
    pub memory_period: Duration,
    /// Detection of network changes.
    pub network: network::Config,
    /// Interfaces and addresses to publish.
    pub filter: Filter,
    /// Whether volumes are published.
    pub volumes: bool,
    /// Directory of the administrator's facts.
    pub services: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            stderr: false,
            loglevel: LogFilter::default(),
            schema: schema::Name::default(),
            xenstore: Endpoint::Auto,
            root: PathBuf::from("/"),
            confine: confine::Mode::default(),
            node_budget: publish::NODE_BUDGET,
            memory_period: collect::DEFAULT_PERIOD,
            network: network::Config::default(),
            filter: Filter::default(),
            volumes: false,
            services: PathBuf::from(services::DIRECTORY),
        }
    }
}

impl Settings {
    /// Takes settings that need a restart from `old`. Returns those that differ, as `key = value`.
    pub fn keep_until_restart(&mut self, old: &Settings) -> Vec<String> {
        let mut pending = Vec::new();
        for setting in SETTINGS.iter().filter(|setting| setting.needs_restart) {
            let value = setting.to_toml(self);
            if value != setting.to_toml(old) {
                pending.push(format!("{} = {value}", setting.key));
                setting.copy(old, self);
            }
        }
        pending
    }

    /// Returns the part of the settings that configures the collectors.
    pub fn collectors(&self, all_interfaces: bool) -> collect::Config {
        collect::Config {
            memory_period: self.memory_period,
            network: self.network,
            all_interfaces,
            volumes: self.volumes,
            services: self.services.clone(),
        }
    }
}

/// Way to reach Xenstore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The socket or device that libxenstore would use.
    Auto,
    /// The device of the kernel.
    Device,
    /// The socket of a server, at this path or at the usual one.
    Socket(Option<PathBuf>),
}

impl FromStr for Endpoint {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "auto" => Ok(Endpoint::Auto),
            "device" => Ok(Endpoint::Device),
            "socket" => Ok(Endpoint::Socket(None)),
            _ => match text.strip_prefix("socket=") {
                Some(path) if path.starts_with('/') => Ok(Endpoint::Socket(Some(path.into()))),
                _ => Err(()),
            },
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Auto => f.write_str("auto"),
            Endpoint::Device => f.write_str("device"),
            Endpoint::Socket(None) => f.write_str("socket"),
            Endpoint::Socket(Some(path)) => write!(f, "socket={}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests;
