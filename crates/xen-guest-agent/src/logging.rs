//! The log: the service manager's journal, syslog, or standard error.

use std::fmt::{self, Display};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::str::FromStr;
use std::sync::RwLock;

use env_logger::{Builder, Logger, Target};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::platform::{Platform, System};

const NAME: &str = env!("CARGO_PKG_NAME");

/// Target of the messages of this crate: the name of the library, then that of the module.
const CRATE: &str = env!("CARGO_CRATE_NAME");

/// Target of the messages of the Xenstore library.
const XENSTORE: &str = "xenstore";

/// Facility `LOG_DAEMON` of syslog(3).
const FACILITY: u8 = 3 << 3;

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

    /// Accepts the syntax of `RUST_LOG` in `env_logger`, except for a module without a level, which
    /// may be a misspelt level.
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
    /// Returns the module names that match no message, because neither this crate nor the library
    /// has such a module.
    fn unknown_modules(&self) -> impl Iterator<Item = &str> {
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

/// The current logger of this process. A reload of the settings replaces it.
struct Current(RwLock<Option<Output>>);

struct Output {
    logger: Logger,
    /// Whether the logger writes to standard error, directly or as the journal.
    is_stderr: bool,
}

static CURRENT: Current = Current(RwLock::new(None));

impl Current {
    fn with<T>(&self, act: impl FnOnce(&Output) -> T) -> Option<T> {
        self.0.read().ok()?.as_ref().map(act)
    }
}

impl Log for Current {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.with(|output| output.logger.enabled(metadata))
            .unwrap_or_default()
    }

    fn log(&self, record: &Record<'_>) {
        self.with(|output| output.logger.log(record));
    }

    fn flush(&self) {}
}

/// Starts the log, or replaces it by one with another filter or destination.
pub fn start(filter: &LogFilter, to_stderr: bool) {
    let mut builder = Builder::new();
    builder.filter_level(filter.level);
    for (module, level) in &filter.modules {
        builder.filter_module(module, *level);
    }

    let is_journal = !to_stderr && is_journal();
    let syslog = if to_stderr || is_journal {
        None
    } else {
        Syslog::connect().ok()
    };
    let is_stderr = syslog.is_none();
    if let Some(syslog) = syslog {
        let id = std::process::id();
        builder.format(move |out, record| {
            // One datagram without a date, because the receiver adds one.
            write!(
                out,
                "<{}>{NAME}[{id}]: {}",
                FACILITY | severity(record.level()),
                record.args()
            )
        });
        builder.target(Target::Pipe(Box::new(syslog)));
    } else if is_journal {
        // The journal takes the priority from the start of the line, see sd-daemon(3).
        builder
            .format(|out, record| writeln!(out, "<{}>{}", severity(record.level()), record.args()));
    } else {
        builder.format(|out, record| {
            writeln!(out, "{NAME}: {}: {}", name(record.level()), record.args())
        });
    }

    let logger = builder.build();
    log::set_max_level(logger.filter());
    if let Ok(mut current) = CURRENT.0.write() {
        *current = Some(Output { logger, is_stderr });
    }
    // This fails after the first call, when the logger is already set.
    let _ = log::set_logger(&CURRENT);

    for module in filter.unknown_modules() {
        log::warn!(
            "loglevel: no module {module:?}; known: {XENSTORE}, {CRATE}, {CRATE}::{{{}}}",
            crate::MODULES.join(", ")
        );
    }
}

/// Logs a fatal error. Also prints it on standard error unless the log goes there, so that a user
/// at a terminal sees it.
pub fn fatal(error: &dyn Display) {
    log::error!("{error}");
    if !is_stderr() || !log::log_enabled!(log::Level::Error) {
        // Standard error may be closed. The log has the error then.
        let _ = writeln!(io::stderr(), "{NAME}: {}: {error}", name(Level::Error));
    }
}

/// Whether the log goes to standard error, directly or as the journal.
fn is_stderr() -> bool {
    CURRENT.with(|output| output.is_stderr).unwrap_or_default()
}

/// Whether standard error is connected to the journal, see `JOURNAL_STREAM` in systemd.exec(5).
fn is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|status| stream == format!("{}:{}", status.st_dev, status.st_ino))
}

/// Returns the severity of syslog(3).
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// Sends each write to syslog as a datagram.
struct Syslog(UnixDatagram);

impl Syslog {
    fn connect() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(System::SYSLOG.ok_or(io::ErrorKind::Unsupported)?)?;
        // Non-blocking, so that a syslog server that stops reading cannot stop the agent.
        socket.set_nonblocking(true)?;
        Ok(Syslog(socket))
    }
}

impl Write for Syslog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.send(line).is_err() {
            // The server may have restarted. If a new connection fails as well, this line is lost.
            *self = Syslog::connect()?;
            self.0.send(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
        let declared: Vec<_> = include_str!("lib.rs")
            .lines()
            .filter_map(|line| {
                let line = line.strip_prefix("pub ").unwrap_or(line);
                line.strip_prefix("mod ")?.strip_suffix(';')
            })
            .collect();
        assert_eq!(declared, crate::MODULES);
    }
}
