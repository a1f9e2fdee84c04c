//! Table of all settings. Files, options, help, man pages and the installed file follow it.

use super::Settings;
use super::value::{TomlType, Value, to_toml};

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Key in a settings file. A setting in a table has the name of the table and a dot in front.
    pub key: &'static str,
    /// Short form of the option.
    pub short: Option<char>,
    /// Environment variable with the same meaning.
    pub environment: Option<&'static str>,
    /// Placeholder for the value in help.
    pub placeholder: &'static str,
    /// Meaning in one line, without a period.
    pub summary: &'static str,
    /// Further explanation in full sentences. May be empty.
    pub details: &'static str,
    /// Whether a change takes effect only after a restart.
    pub needs_restart: bool,
    /// Whether the setting has an effect on `show`.
    pub affects_show: bool,
    /// Whether the setting has an effect on `withdraw`.
    pub affects_withdraw: bool,
    pub(super) field: fn(&mut Settings) -> &mut dyn Value,
}

/// Setting with the properties that most settings share.
const PLAIN: Setting = Setting {
    key: "",
    short: None,
    environment: None,
    placeholder: "",
    summary: "",
    details: "",
    needs_restart: false,
    affects_show: true,
    affects_withdraw: false,
    field: |settings| &mut settings.stderr,
};

/// All settings. Those outside of any table come first, as TOML requires.
pub static SETTINGS: [Setting; 17] = [
    Setting {
        key: "stderr",
        short: Some('s'),
        placeholder: "BOOL",
        summary: "Log to standard error instead of the journal or syslog",
        affects_show: false,
        field: |settings| &mut settings.stderr,
        ..PLAIN
    },
    Setting {
        key: "loglevel",
        short: Some('l'),
        environment: Some("RUST_LOG"),
        placeholder: "LEVEL",
        summary: "Least severe messages to log",
        details: "MODULE=LEVEL sets another level for a module: warn,xenstore=debug logs warnings, \
            and also what the Xenstore library does.",
        affects_withdraw: true,
        field: |settings| &mut settings.loglevel,
        ..PLAIN
    },
    Setting {
        key: "schema",
        environment: Some("XENSTORE_SCHEMA"),
        placeholder: "SCHEMA",
        summary: "Layout of the published nodes",
        details: "std is the layout that existing toolstacks read. \
            rfc is a proposal that gives each fact a node of its own.",
        field: |settings| &mut settings.schema,
        ..PLAIN
    },
    Setting {
        key: "xenstore",
        placeholder: "WHERE",
        summary: "How to reach Xenstore",
        details: "auto uses the path in XENSTORED_PATH, or else the socket of xenstored (in the \
            directory XENSTORED_RUNDIR, if that is set), or else the kernel's device. In domain 0, \
            auto makes the agent exit unless XENSTORED_PATH is set.",
        needs_restart: true,
        affects_show: false,
        affects_withdraw: true,
        field: |settings| &mut settings.xenstore,
        ..PLAIN
    },
    Setting {
        key: "root",
        placeholder: "DIR",
        summary: "Directory to prepend to the paths of system files",
        details: "An example is /host in a container that shares the network and UTS namespaces of \
            its host. It applies to files in /etc, /usr/lib, /proc, /sys and /run, but not to the \
            agent's own settings.",
        needs_restart: true,
        affects_withdraw: true,
        field: |settings| &mut settings.root,
        ..PLAIN
    },
    Setting {
        key: "confine",
        placeholder: "MODE",
        summary: "Privileges to give up once the agent is connected to Xenstore",
        details: "user changes to the user xen-guest-agent, and gives up capabilities, access to \
            most files and unused system calls. uid0 does the same but keeps the user. auto means \
            user if Xenstore is the kernel's device, systemd or OpenRC started the agent and the user \
            exists, and otherwise uid0. If \
            root is not /, auto means off.",
        needs_restart: true,
        affects_show: false,
        field: |settings| &mut settings.confine,
        ..PLAIN
    },
    Setting {
        key: "node-budget",
        placeholder: "NODES",
        summary: "Maximum number of nodes to create, parent nodes included",
        details: "A guest may usually own 1000 nodes. \
            Beyond this limit, the least important nodes are not published.",
        field: |settings| &mut settings.node_budget,
        ..PLAIN
    },
    Setting {
        key: "memory.period",
        placeholder: "SECONDS",
        summary: "Time between checks of memory and other values for which the kernel sends no event",
        details: "Everything is checked every ten minutes in any case.",
        affects_show: false,
        field: |settings| &mut settings.memory_period,
        ..PLAIN
    },
    Setting {
        key: "network.mode",
        placeholder: "MODE",
        summary: "How to detect changes of the network",
        details: "netlink listens to the kernel's events, and poll checks periodically. \
            auto uses netlink if it works, and poll otherwise. \
            off publishes no network interfaces.",
        field: |settings| &mut settings.network.mode,
        ..PLAIN
    },
    Setting {
        key: "network.poll-period",
        placeholder: "SECONDS",
        summary: "Time between checks of the network if it is polled",
        affects_show: false,
        field: |settings| &mut settings.network.period,
        ..PLAIN
    },
    Setting {
        key: "network.stacked-links",
        placeholder: "BOOL",
        summary: "Publish the addresses of bridges, bonds and VLANs",
        details: "Each address appears with the VIF below its device.",
        field: |settings| &mut settings.filter.stacked,
        ..PLAIN
    },
    Setting {
        key: "network.temporary-addresses",
        placeholder: "BOOL",
        summary: "Publish temporary IPv6 addresses",
        field: |settings| &mut settings.filter.temporary,
        ..PLAIN
    },
    Setting {
        key: "network.extra-interfaces",
        placeholder: "PATTERN",
        summary: "Other network interfaces whose addresses to publish with the VIF of the lowest number",
        details: "Examples are lo and dummy0 of a host whose address is announced by a routing protocol. \
            With the schema rfc, each of these has its own index.",
        field: |settings| &mut settings.filter.extra_interfaces,
        ..PLAIN
    },
    Setting {
        key: "network.leave-out-interfaces",
        placeholder: "PATTERN",
        summary: "Network interfaces to ignore",
        field: |settings| &mut settings.filter.without_interfaces,
        ..PLAIN
    },
    Setting {
        key: "network.leave-out-addresses",
        placeholder: "NETWORK",
        summary: "Addresses to ignore",
        details: "169.254.1.1/16 means 169.254.0.0/16.",
        field: |settings| &mut settings.filter.without_addresses,
        ..PLAIN
    },
    Setting {
        key: "volumes.enabled",
        placeholder: "BOOL",
        summary: "Publish block devices and file systems",
        needs_restart: true,
        field: |settings| &mut settings.volumes,
        ..PLAIN
    },
    Setting {
        key: "services.directory",
        placeholder: "DIR",
        summary: "Directory with files of the administrator's own facts",
        needs_restart: true,
        field: |settings| &mut settings.services,
        ..PLAIN
    },
];

impl Setting {
    /// Returns the name of the setting's table, or an empty string.
    pub fn table(&self) -> &'static str {
        self.key.split_once('.').map_or("", |(table, _)| table)
    }

    /// Returns the setting's name within its table.
    pub fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }

    /// Returns the option without the leading dashes.
    pub fn option(&self) -> String {
        self.key.replace('.', "-")
    }

    /// Returns the explanation in full sentences, without the allowed values.
    pub fn description(&self) -> String {
        format!("{}. {}", self.summary, self.details)
            .trim_end()
            .to_owned()
    }

    /// Returns a description of the values that a file may contain.
    pub fn allowed(&self) -> String {
        (self.field)(&mut Settings::default()).allowed()
    }

    /// Returns a description of the option's value. For a list, describes one element.
    pub fn allowed_word(&self) -> String {
        (self.field)(&mut Settings::default()).allowed_word()
    }

    /// Returns the words that completion offers.
    pub fn completions(&self) -> Vec<String> {
        (self.field)(&mut Settings::default()).completions()
    }

    /// Returns the TOML type of the value.
    pub fn toml_type(&self) -> TomlType {
        (self.field)(&mut Settings::default()).toml_type()
    }

    /// Whether the option works without a value.
    pub fn is_switch(&self) -> bool {
        self.toml_type() == TomlType::Boolean
    }

    /// Whether the setting is a list.
    pub fn is_list(&self) -> bool {
        self.toml_type() == TomlType::Array
    }

    /// Whether the value is a directory.
    pub fn is_directory(&self) -> bool {
        self.placeholder == "DIR"
    }

    /// Whether these words are a valid value.
    pub(super) fn accepts(&self, words: &[String]) -> bool {
        (self.field)(&mut Settings::default()).set(words).is_some()
    }

    /// Returns the value in `settings` as the command line accepts it.
    pub fn words(&self, settings: &Settings) -> String {
        (self.field)(&mut settings.clone()).words().join(",")
    }

    /// Copies the value of this setting.
    pub(super) fn copy(&self, from: &Settings, to: &mut Settings) {
        let words = (self.field)(&mut from.clone()).words();
        // A value accepts the words that it returned itself.
        let _ = (self.field)(to).set(&words);
    }

    /// Returns the value in `settings` as TOML.
    pub fn to_toml(&self, settings: &Settings) -> String {
        to_toml((self.field)(&mut settings.clone()))
    }
}

/// Returns the setting or table with the most similar name, if there is a similar one.
pub(super) fn nearest(key: &str) -> Option<String> {
    let name = |key: &'static str| key.rsplit('.').next().unwrap_or_default();
    let key_name = key.rsplit('.').next().unwrap_or_default();
    let key_table = key.split('.').next().unwrap_or_default();

    // The name without its table is compared as well, because the table may be wrong.
    let settings = SETTINGS.iter().flat_map(|setting| {
        let candidate = |known, given| (known, given, setting.key.to_owned());
        [
            candidate(setting.key, key),
            candidate(name(setting.key), key_name),
        ]
    });
    let tables = SETTINGS
        .iter()
        .map(Setting::table)
        .filter(|table| !table.is_empty() && *table != key_table);
    let tables = tables.map(|table| (table, key_table, format!("the table {table}")));

    settings
        .chain(tables)
        // The comparison is quadratic, and a name that is far longer is not a misspelling.
        .filter(|(known, given, _)| given.len() <= 2 * known.len())
        .map(|(known, given, shown)| (strsim::osa_distance(known, given), known.len(), shown))
        // A third of the characters may be wrong.
        .filter(|(distance, len, _)| 3 * distance <= *len)
        .min_by_key(|(distance, _, _)| *distance)
        .map(|(_, _, shown)| shown)
}
