//! Selection of log messages by level and module.

use std::fmt;
use std::str::FromStr;

use log::LevelFilter;

/// Target of the messages of this crate: the name of the library, then that of the module.
pub(super) const CRATE: &str = env!("CARGO_CRATE_NAME");

/// Target of the messages of the Xenstore library.
pub(super) const XENSTORE: &str = "xenstore";

/// Selects the messages to log: a level, and other levels for some modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    level: LevelFilter,
    modules: Vec<(String, LevelFilter)>,
}

impl Default for LogFilter {
    fn default() -> Self {
        LogFilter {
            level: LevelFilter::Info,
            modules: Vec::new(),
        }
    }
}

impl FromStr for LogFilter {
    type Err = log::ParseLevelError;

    /// Accepts the syntax of `RUST_LOG` in the crate `env_logger`, except for a module without a
    /// level, which may be a misspelt level.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut filter = LogFilter::default();
        let parts = text.split(',').map(str::trim);
        for part in parts.filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some((module, level)) => filter.modules.push((module.to_owned(), level.parse()?)),
                None => filter.level = part.parse()?,
            }
        }
        Ok(filter)
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.level.as_str().to_lowercase())?;
        for (module, level) in &self.modules {
            write!(f, ",{module}={}", level.as_str().to_lowercase())?;
        }
        Ok(())
    }
}

impl LogFilter {
    /// Returns the level of a target: that of the module with the longest name that it starts with.
    pub(super) fn level(&self, target: &str) -> LevelFilter {
        let modules = self.modules.iter();
        let matching = modules.filter(|(name, _)| target.starts_with(name.as_str()));
        matching
            .max_by_key(|(name, _)| name.len())
            .map_or(self.level, |(_, level)| *level)
    }

    /// Returns the highest level of all targets.
    pub(super) fn max_level(&self) -> LevelFilter {
        let modules = self.modules.iter().map(|(_, level)| *level);
        modules.fold(self.level, Ord::max)
    }

    /// Returns the module names that match no message, because neither this crate nor the library
    /// has such a module.
    pub(super) fn unknown_modules(&self) -> impl Iterator<Item = &str> {
        let names = self.modules.iter().map(|(name, _)| name.as_str());
        names.filter(|name| !is_known(name))
    }
}

fn is_known(module: &str) -> bool {
    match module.split_once("::") {
        Some((CRATE, below)) => {
            let name = below.split("::").next().unwrap_or_default();
            crate::MODULES.contains(&name)
        }
        Some(_) => false,
        None => [CRATE, XENSTORE].contains(&module),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_filter_has_a_default_level_and_levels_of_modules() {
        for (text, shown) in [
            ("debug", Some("debug")),
            ("", Some("info")),
            ("OFF", Some("off")),
            ("xenstore=trace", Some("info,xenstore=trace")),
            (" warn , a::b=error,c=off,", Some("warn,a::b=error,c=off")),
            ("inof", None),
            ("xenstore", None),
            ("info/x", None),
            ("a=b", None),
        ] {
            assert_eq!(
                text.parse()
                    .ok()
                    .map(|filter: LogFilter| filter.to_string())
                    .as_deref(),
                shown,
                "{text}"
            );
        }
    }

    #[test]
    fn unknown_modules_are_found() {
        let filter = "info,xenstore=debug,xenstroe=debug,xenstore::wire=debug,xen_guest_agent=warn,\
                      xen_guest_agent::publish=debug,xen_guest_agent::platform::linux::netlink=debug,\
                      xen_guest_agent::pubish=debug,publish=debug";
        let filter: LogFilter = filter.parse().unwrap();
        let unknown: Vec<_> = filter.unknown_modules().collect();
        assert_eq!(
            unknown,
            [
                "xenstroe",
                "xenstore::wire",
                "xen_guest_agent::pubish",
                "publish"
            ]
        );
    }

    #[test]
    fn list_of_modules_is_complete() {
        let declared: Vec<_> = include_str!("../lib.rs")
            .lines()
            .filter_map(|line| {
                let line = line.strip_prefix("pub ").unwrap_or(line);
                line.strip_prefix("mod ")?.strip_suffix(';')
            })
            .collect();
        assert_eq!(declared, crate::MODULES);
    }

    #[test]
    fn longest_module_name_decides() {
        let filter: LogFilter = "warn,xenstore=debug,xen_guest_agent::publish=trace,\
                                 xen_guest_agent=error,xenstore=off"
            .parse()
            .unwrap();
        for (target, level) in [
            ("other", LevelFilter::Warn),
            ("xenstore::wire", LevelFilter::Off),
            ("xen_guest_agent", LevelFilter::Error),
            ("xen_guest_agent::publish::diff", LevelFilter::Trace),
        ] {
            assert_eq!(filter.level(target), level, "{target}");
        }
        assert_eq!(filter.max_level(), LevelFilter::Trace);
    }
}
