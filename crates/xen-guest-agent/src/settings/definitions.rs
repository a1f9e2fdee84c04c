//! What there is to set: files, the command line and its help all follow this table.

use super::value::{Form, Value, to_toml};
use super::{Origin, Settings, Wrong};

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Where it stands in a file: its name, behind that of its table and a dot if it is in one.
    pub key: &'static str,
    /// The short form of its option.
    pub short: Option<char>,
    /// The variable of the environment that gives it too.
    pub environment: Option<&'static str>,
    /// What stands for its value in help.
    pub placeholder: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Whether only a restart gives it effect.
    pub needs_restart: bool,
    pub(super) field: fn(&mut Settings) -> &mut dyn Value,
}

/// What most settings are.
const PLAIN: Setting = Setting {
    key: "",
    short: None,
    environment: None,
    placeholder: "",
    doc: "",
    needs_restart: false,
    field: |settings| &mut settings.stderr,
};

/// All of them: first those that are in no table.
pub static SETTINGS: [Setting; 15] = [
    Setting {
        key: "stderr",
        short: Some('s'),
        placeholder: "BOOL",
        doc: "Log to standard error instead of the journal or syslog",
        field: |settings| &mut settings.stderr,
        ..PLAIN
    },
    Setting {
        key: "loglevel",
        short: Some('l'),
        environment: Some("RUST_LOG"),
        placeholder: "LEVEL",
        doc: "How much to log",
        field: |settings| &mut settings.loglevel,
        ..PLAIN
    },
    Setting {
        key: "schema",
        environment: Some("XENSTORE_SCHEMA"),
        placeholder: "SCHEMA",
        doc: "Which nodes to publish",
        field: |settings| &mut settings.schema,
        ..PLAIN
    },
    Setting {
        key: "xenstore",
        placeholder: "WHERE",
        doc: "Where Xenstore is",
        needs_restart: true,
        field: |settings| &mut settings.xenstore,
        ..PLAIN
    },
    Setting {
        key: "root",
        placeholder: "DIR",
        doc: "Read the files in /etc, /usr/lib, /proc and /sys from below this",
        needs_restart: true,
        field: |settings| &mut settings.root,
        ..PLAIN
    },
    Setting {
        key: "node-budget",
        placeholder: "NODES",
        doc: "Nodes to make at most, those above others included; what is worth least is left out",
        field: |settings| &mut settings.node_budget,
        ..PLAIN
    },
    Setting {
        key: "memory.period",
        placeholder: "SECONDS",
        doc: "Seconds between two looks at memory, and at what else nothing reports",
        field: |settings| &mut settings.memory_period,
        ..PLAIN
    },
    Setting {
        key: "network.mode",
        placeholder: "MODE",
        doc: "How to look at the network: by what the kernel reports, from time to time, or by whichever works",
        field: |settings| &mut settings.network.mode,
        ..PLAIN
    },
    Setting {
        key: "network.poll-period",
        placeholder: "SECONDS",
        doc: "Seconds between two looks at the network, where changes are not reported",
        field: |settings| &mut settings.network.period,
        ..PLAIN
    },
    Setting {
        key: "network.stacked-links",
        placeholder: "BOOL",
        doc: "Whether to show the addresses of bridges, bonds, VLANs and so on with the device that carries them",
        field: |settings| &mut settings.filter.stacked,
        ..PLAIN
    },
    Setting {
        key: "network.temporary-addresses",
        placeholder: "BOOL",
        doc: "Whether to show temporary IPv6 addresses",
        field: |settings| &mut settings.filter.temporary,
        ..PLAIN
    },
    Setting {
        key: "network.leave-out-interfaces",
        placeholder: "PATTERN",
        doc: "Interfaces to show nothing of",
        field: |settings| &mut settings.filter.without_interfaces,
        ..PLAIN
    },
    Setting {
        key: "network.leave-out-addresses",
        placeholder: "NETWORK",
        doc: "Addresses not to show",
        field: |settings| &mut settings.filter.without_addresses,
        ..PLAIN
    },
    Setting {
        key: "volumes.enabled",
        placeholder: "BOOL",
        doc: "Whether to publish block devices and file systems",
        needs_restart: true,
        field: |settings| &mut settings.volumes,
        ..PLAIN
    },
    Setting {
        key: "services.directory",
        placeholder: "DIR",
        doc: "Where the administrator's own facts are",
        needs_restart: true,
        field: |settings| &mut settings.services,
        ..PLAIN
    },
];

impl Setting {
    /// The table that it is in, or nothing.
    pub fn table(&self) -> &'static str {
        self.key.split_once('.').map_or("", |(table, _)| table)
    }

    /// Its name in its table.
    pub fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }

    /// Its option on the command line, without the dashes before it.
    pub fn option(&self) -> String {
        self.key.replace('.', "-")
    }

    /// Returns the name of its TOML type.
    pub fn toml_type(&self) -> &'static str {
        match self.form() {
            Form::Switch => "boolean",
            Form::Number => "number",
            Form::Text | Form::Words => "string",
            Form::List => "list of strings",
        }
    }

    /// Returns its description in full sentences.
    pub fn help(&self) -> String {
        let mut help = format!("{}. Allowed: {}.", self.doc, self.allowed());
        if self.needs_restart {
            help += " A change takes effect after a restart.";
        }
        help
    }

    /// What it can be in a file.
    pub fn allowed(&self) -> String {
        (self.field)(&mut Settings::default()).allowed()
    }

    /// What it can be on the command line; of a list, what each value can be.
    pub fn allowed_word(&self) -> String {
        (self.field)(&mut Settings::default()).allowed_word()
    }

    /// The names that it can be, or nothing where those are not all.
    pub fn choices(&self) -> Vec<String> {
        (self.field)(&mut Settings::default()).choices()
    }

    /// Whether it is switched on or off, so that its option needs no value.
    pub fn is_switch(&self) -> bool {
        self.form() == Form::Switch
    }

    /// Whether it has any number of values.
    pub fn is_list(&self) -> bool {
        self.form() == Form::List
    }

    /// What is wrong where one of the values of a list is.
    pub(super) fn has_wrong(&self, origin: &Origin, found: &str) -> Wrong {
        Wrong::new(&format!(
            "{origin}: {} has {found}; allowed: {}",
            self.key,
            self.allowed_word()
        ))
    }

    fn form(&self) -> Form {
        (self.field)(&mut Settings::default()).form()
    }

    /// Its value in these settings, as the command line takes it.
    pub fn words(&self, settings: &Settings) -> String {
        (self.field)(&mut settings.clone()).words().join(",")
    }

    /// Gives it the value in `to` that it has in `from`.
    pub(super) fn copy(&self, from: &Settings, to: &mut Settings) {
        let words = (self.field)(&mut from.clone()).words();
        // What a value says of itself it takes again.
        let _ = (self.field)(to).set(&words);
    }

    /// Its value in these settings, as files have it.
    pub fn to_toml(&self, settings: &Settings) -> String {
        to_toml((self.field)(&mut settings.clone()))
    }
}

/// The setting or table whose name is most like `key`, which is none; nothing where none is much like it.
pub(super) fn nearest(key: &str) -> Option<String> {
    let name = |key: &'static str| key.rsplit('.').next().unwrap_or_default();
    let key_name = key.rsplit('.').next().unwrap_or_default();
    let key_table = key.split('.').next().unwrap_or_default();
    // What stands in another table than it should is near.
    let settings = SETTINGS.iter().flat_map(|setting| {
        let near = |known, given| (known, given, setting.key.to_owned());
        [near(setting.key, key), near(name(setting.key), key_name)]
    });
    let tables = SETTINGS
        .iter()
        .map(Setting::table)
        .filter(|table| !table.is_empty() && *table != key_table);
    let tables = tables.map(|table| (table, key_table, format!("the table {table}")));
    settings
        .chain(tables)
        // A third of it may be wrong. Nobody means one of these by what is far longer, and to compare that takes time.
        .filter(|(known, given, _)| given.len() <= 2 * known.len())
        .map(|(known, given, shown)| (strsim::osa_distance(known, given), known.len(), shown))
        .filter(|(distance, len, _)| 3 * distance <= *len)
        .min_by_key(|(distance, _, _)| *distance)
        .map(|(_, _, shown)| shown)
}
