//! What a user sets: in files, in the environment, on the command line. A later one of these goes before an earlier one.

mod definitions;
mod file;
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

pub use definitions::{SETTINGS, Setting};
use value::Form;
pub(crate) use value::name;

use crate::collect::{self, network, services};
use crate::logging::LogFilter;
use crate::publish;
use crate::schema;
use crate::schema::topology::Filter;
use crate::text::{escape_control, quote, truncate};

/// Where the files are. They are the agent's own, not the guest's: `root` says nothing of them.
pub const DIRECTORY: &str = "/etc/xen-guest-agent";

/// All that can be set.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whether to log to standard error.
    pub stderr: bool,
    /// How much to log.
    pub loglevel: LogFilter,
    /// Which nodes to publish.
    pub schema: schema::Name,
    /// Where Xenstore is.
    pub xenstore: Endpoint,
    /// Below which directory the system's files are.
    pub root: PathBuf,
    /// How many nodes the agent makes at most, those above others included.
    pub node_budget: usize,
    /// The time between two looks at memory, and at all else that nothing reports.
    pub memory_period: Duration,
    /// How the network is looked at.
    pub network: network::Config,
    /// What is shown of the network.
    pub filter: Filter,
    /// Whether volumes are published.
    pub volumes: bool,
    /// Where services are.
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
    /// Takes from `old` what only a restart gives effect. Returns each that differs, as `key = value`.
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

/// Where Xenstore is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Where libxenstore would look.
    Auto,
    /// The kernel's device.
    Device,
    /// A server's socket, at this path or the usual one.
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
                Some(path) if !path.is_empty() => Ok(Endpoint::Socket(Some(path.into()))),
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

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file, and the line in it, from 1.
    File(PathBuf, usize),
    /// A variable of the environment.
    Environment(&'static str),
    /// An option.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path, line) => {
                write!(f, "{}:{line}", escape_control(&path.to_string_lossy()))
            }
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::CommandLine => f.write_str("command line"),
        }
    }
}

/// What is wrong with a setting, where, and what would be right, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(String);

impl Wrong {
    fn new(message: &str) -> Self {
        Wrong(escape_control(message))
    }
}

/// A value that was given for a setting.
#[derive(Debug)]
struct Given {
    setting: &'static Setting,
    origin: Origin,
    /// How TOML wrote it, where TOML did. None of those for what no setting can be.
    form: Option<Form>,
    /// A list has any number of them, all else one.
    words: Vec<String>,
    /// What was written, for messages.
    found: String,
}

impl Given {
    fn new(setting: &'static Setting, origin: Origin, form: Form, words: Vec<String>) -> Self {
        let found = truncate(&quote(&words.join(",")));
        Given {
            setting,
            origin,
            form: Some(form),
            words,
            found,
        }
    }

    fn apply(&self, settings: &mut Settings) -> Result<(), Wrong> {
        let value = (self.setting.field)(settings);
        let is_form = self
            .form
            .is_some_and(|form| form == Form::Words || form == value.form());
        if is_form && value.set(&self.words).is_some() {
            return Ok(());
        }
        if is_form && value.form() == Form::List {
            // What it has taken until then does not matter: wrong settings are not used.
            if let Some(word) = self
                .words
                .iter()
                .find(|word| value.set(std::slice::from_ref(word)).is_none())
            {
                return Err(self
                    .setting
                    .has_wrong(&self.origin, &truncate(&quote(word))));
            }
        }
        let (origin, key, allowed) = (&self.origin, self.setting.key, value.allowed());
        Err(Wrong::new(&format!(
            "{origin}: {key} is {}; allowed: {allowed}",
            self.found
        )))
    }
}

/// Where settings are looked for: kept, since they may be read again.
#[derive(Debug, Default)]
pub struct Sources {
    /// A file to read in place of those in [`DIRECTORY`].
    pub file: Option<PathBuf>,
    /// What the command line says, by setting.
    pub command_line: Vec<(&'static Setting, Vec<String>)>,
}

impl Sources {
    /// The root directory by the command line alone: for what must work where settings are wrong.
    pub fn root(&self) -> PathBuf {
        let words = self
            .command_line
            .iter()
            .find(|(setting, _)| setting.key == "root")
            .map(|(_, words)| words);
        words
            .and_then(|words| words.first())
            .map_or_else(|| Settings::default().root, PathBuf::from)
    }

    /// Reads all of them.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(&self) -> Result<Loaded, Wrong> {
        let files = match &self.file {
            Some(file) => vec![file.clone()],
            None => file::in_directory(Path::new(DIRECTORY))?,
        };
        self.load_from(&files, |name| std::env::var_os(name))
    }

    fn load_from(
        &self,
        files: &[PathBuf],
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Loaded, Wrong> {
        let mut given = Vec::new();
        for path in files {
            given.extend(file::read(path)?);
        }
        for setting in &SETTINGS {
            let Some(name) = setting.environment else {
                continue;
            };
            let origin = Origin::Environment(name);
            if let Some(word) = environment(name).filter(|word| !word.is_empty()) {
                let word = word
                    .into_string()
                    .map_err(|_| Wrong::new(&format!("{origin}: not UTF-8")))?;
                given.push(Given::new(setting, origin, Form::Words, vec![word]));
            }
        }
        for (setting, words) in &self.command_line {
            given.push(Given::new(
                setting,
                Origin::CommandLine,
                Form::Words,
                words.clone(),
            ));
        }
        let mut loaded = Loaded {
            settings: Settings::default(),
            warning: None,
            origins: BTreeMap::new(),
        };
        for given in given {
            match given.apply(&mut loaded.settings) {
                Ok(()) => {}
                // It is there for all programs that use env_logger, which takes more.
                Err(wrong) if given.origin == Origin::Environment("RUST_LOG") => {
                    loaded.warning = Some(format!("RUST_LOG is not used: {wrong}"));
                    continue;
                }
                Err(wrong) => return Err(wrong),
            }
            loaded.origins.insert(given.setting.key, given.origin);
        }
        Ok(loaded)
    }
}

/// Settings, and where they came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// All of them.
    pub settings: Settings,
    /// What is to be said of them, in one line.
    pub warning: Option<String>,
    /// By key; those that are not in it are as they are by default.
    origins: BTreeMap<&'static str, Origin>,
}

impl Loaded {
    /// The settings as TOML that can be read again, each with where it came from.
    pub fn to_toml(&self) -> String {
        let (mut text, mut table) = (String::new(), "");
        for setting in &SETTINGS {
            if setting.table() != table {
                table = setting.table();
                // Nothing fails that writes to a string.
                let _ = writeln!(text, "\n[{table}]");
            }
            let (name, value) = (setting.name(), setting.to_toml(&self.settings));
            let origin = self
                .origins
                .get(setting.key)
                .map_or_else(|| "default".to_owned(), Origin::to_string);
            let _ = writeln!(text, "{name} = {value}  # {origin}");
        }
        text
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> Wrong {
    Wrong::new(&format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
