//! Sources of settings: files, the environment and the command line. Later ones override earlier
//! ones.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::error::{Origin, SettingsError};
use super::raw_value::RawValue;
use super::{DIRECTORY, SETTINGS, Setting, Settings, file};
use crate::text::{quote, truncate};

/// Sources of the settings of this process. SIGHUP reads them again.
#[derive(Debug, Default)]
pub struct Sources {
    /// File to read instead of those in [`DIRECTORY`].
    pub file: Option<PathBuf>,
    /// Words of each setting on the command line.
    pub command_line: Vec<(&'static Setting, Vec<String>)>,
}

impl Sources {
    /// Returns the root directory from the command line alone, for commands that must work even if
    /// the settings files are invalid.
    ///
    /// # Errors
    /// All mistakes on the command line.
    pub fn root(&self) -> Result<PathBuf, SettingsError> {
        let loaded = self.load_from(&[], |_| None)?;
        Ok(loaded.settings.root)
    }

    /// Returns the directories with the settings files, and the files.
    ///
    /// # Errors
    /// Those of [`load`](Self::load) that concern the directories.
    pub fn paths(&self) -> Result<(Vec<PathBuf>, Vec<PathBuf>), SettingsError> {
        match &self.file {
            Some(file) => {
                let directory = file.parent().filter(|parent| *parent != Path::new(""));
                let directory = directory.unwrap_or(Path::new("."));
                Ok((vec![directory.to_owned()], vec![file.clone()]))
            }
            None => {
                let directory = Path::new(DIRECTORY);
                let directories = vec![directory.to_owned(), directory.join("conf.d")];
                Ok((directories, file::in_directory(directory)?))
            }
        }
    }

    /// Reads all sources.
    ///
    /// # Errors
    /// All mistakes in the settings.
    pub fn load(&self) -> Result<Loaded, SettingsError> {
        let files = match &self.file {
            Some(file) => {
                let directory = file.parent().unwrap_or(Path::new("/"));
                file::check_directory(directory, true)?;
                vec![file.clone()]
            }
            None => file::in_directory(Path::new(DIRECTORY))?,
        };
        self.load_from(&files, |name| std::env::var_os(name))
    }

    /// Reads all sources, and leaves out what is invalid in the default files and the environment.
    /// Returns a message for each mistake there.
    ///
    /// # Errors
    /// All mistakes on the command line. With a file named there, all mistakes in any source.
    pub fn load_valid(&self) -> Result<(Loaded, Vec<String>), SettingsError> {
        if self.file.is_some() {
            return self.load().map(|loaded| (loaded, Vec::new()));
        }
        self.root()?;

        let (files, mut messages) = match file::in_directory(Path::new(DIRECTORY)) {
            Ok(files) => (files, Vec::new()),
            Err(error) => (Vec::new(), error.messages().to_vec()),
        };
        let (loaded, mistakes) = self.read(&files, |name| std::env::var_os(name));
        messages.extend(mistakes);
        Ok((loaded, messages))
    }

    pub(super) fn load_from(
        &self,
        files: &[PathBuf],
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Loaded, SettingsError> {
        let (loaded, messages) = self.read(files, environment);
        if messages.is_empty() {
            Ok(loaded)
        } else {
            Err(SettingsError::new(messages))
        }
    }

    /// Returns the valid settings, and a message for each mistake.
    pub(super) fn read(
        &self,
        files: &[PathBuf],
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> (Loaded, Vec<String>) {
        let mut loaded = Loaded {
            settings: Settings::default(),
            warning: None,
            origins: BTreeMap::new(),
        };
        let mut messages = Vec::new();

        for path in files {
            match file::read(path) {
                Ok(contents) => messages.extend(loaded.apply_file(contents)),
                Err(error) => messages.extend_from_slice(error.messages()),
            }
        }
        for setting in &SETTINGS {
            let Some(name) = setting.environment else {
                continue;
            };
            if let Some(value) = environment(name).filter(|value| !value.is_empty()) {
                messages.extend(loaded.apply_variable(setting, name, value).err());
            }
        }
        for (setting, words) in &self.command_line {
            let value = RawValue::new(setting, Origin::CommandLine, words.clone());
            messages.extend(loaded.apply(value).err());
        }
        messages.extend(loaded.reset_missing_root().err());
        (loaded, messages)
    }
}

/// Settings and their origins.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// All settings.
    pub settings: Settings,
    /// Warning about the sources, in one line.
    pub warning: Option<String>,
    /// Origins by key. Settings that are not in the map have their defaults.
    pub(super) origins: BTreeMap<&'static str, Origin>,
}

impl Loaded {
    fn apply(&mut self, value: RawValue) -> Result<(), String> {
        value.apply(&mut self.settings)?;
        self.origins.insert(value.setting.key, value.origin);
        Ok(())
    }

    /// Applies the values of a file. Returns its mistakes in the order of their lines.
    fn apply_file(&mut self, contents: file::Contents) -> Vec<String> {
        let mut mistakes = contents.mistakes;
        for (line, value) in contents.values {
            mistakes.extend(self.apply(value).err().map(|message| (line, message)));
        }
        mistakes.sort_by_key(|(line, _)| *line);
        mistakes.into_iter().map(|(_, message)| message).collect()
    }

    fn apply_variable(
        &mut self,
        setting: &'static Setting,
        name: &'static str,
        value: OsString,
    ) -> Result<(), String> {
        let origin = Origin::Environment(name);
        let word = value
            .into_string()
            .map_err(|_| format!("{origin}: not UTF-8"))?;
        let result = self.apply(RawValue::new(setting, origin, vec![word]));

        // All programs that use env_logger read this variable, and env_logger accepts more.
        if let (Err(message), "RUST_LOG") = (&result, name) {
            self.warning = Some(format!("ignoring RUST_LOG: {message}"));
            return Ok(());
        }
        result
    }

    /// Replaces a root directory that does not exist by the default, because all files would be
    /// missing below it. Returns an error then.
    fn reset_missing_root(&mut self) -> Result<(), String> {
        let root = &self.settings.root;
        let (Some(origin), false) = (self.origins.get("root"), root.is_dir()) else {
            return Ok(());
        };
        let setting = SETTINGS.iter().find(|setting| setting.key == "root");
        let result = setting.map_or(Ok(()), |setting| {
            let found = truncate(&quote(&root.display().to_string()));
            Err(origin.invalid(setting, &found, "the path of an existing directory"))
        });

        self.settings.root = Settings::default().root;
        self.origins.remove("root");
        result
    }

    /// Returns the settings as TOML that can be read again, each with its origin as a comment.
    pub fn to_toml(&self) -> String {
        let (mut text, mut table) = (String::new(), "");
        for setting in &SETTINGS {
            if setting.table() != table {
                table = setting.table();
                // Writing to a string cannot fail.
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
