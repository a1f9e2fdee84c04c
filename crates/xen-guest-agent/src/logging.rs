//! Where the log goes: to the service manager's journal, to syslog, or to standard error.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::str::FromStr;
use std::sync::RwLock;

use env_logger::{Builder, Logger, Target};
use log::{Level, LevelFilter, Log, Metadata, Record};

const NAME: &str = env!("CARGO_PKG_NAME");

/// The facility of system daemons (`LOG_DAEMON`), as syslog(3) has it.
const FACILITY: u8 = 3 << 3;

/// How much to log: a level, and others for some modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    level: LevelFilter,
    modules: Vec<(String, LevelFilter)>,
}

impl Default for Levels {
    fn default() -> Self {
        Levels {
            level: LevelFilter::Info,
            modules: Vec::new(),
        }
    }
}

impl FromStr for Levels {
    type Err = log::ParseLevelError;

    /// Takes what `env_logger` takes in `RUST_LOG`, but for a module without a level: that may be a misspelt level.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut levels = Levels::default();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            match part.split_once('=') {
                Some((module, level)) => levels.modules.push((module.to_owned(), level.parse()?)),
                None => levels.level = part.parse()?,
            }
        }
        Ok(levels)
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.level.as_str().to_lowercase())?;
        for (module, level) in &self.modules {
            write!(f, ",{module}={}", level.as_str().to_lowercase())?;
        }
        Ok(())
    }
}

/// The logger of this process, which can be replaced by another.
struct Current(RwLock<Option<Logger>>);

static CURRENT: Current = Current(RwLock::new(None));

impl Current {
    fn with(&self, act: impl FnOnce(&Logger)) {
        if let Some(logger) = self.0.read().ok().as_deref().and_then(Option::as_ref) {
            act(logger);
        }
    }
}

impl Log for Current {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let mut is_enabled = false;
        self.with(|logger| is_enabled = logger.enabled(metadata));
        is_enabled
    }

    fn log(&self, record: &Record<'_>) {
        self.with(|logger| logger.log(record));
    }

    fn flush(&self) {}
}

/// Starts the log, or has it go on in another way.
pub fn start(levels: &Levels, to_stderr: bool) {
    let mut builder = Builder::new();
    builder.filter_level(levels.level);
    for (module, level) in &levels.modules {
        builder.filter_module(module, *level);
    }
    let syslog = if to_stderr || is_journal() {
        None
    } else {
        Syslog::connect().ok()
    };
    if to_stderr || (syslog.is_none() && !is_journal()) {
        builder.format(|out, record| {
            writeln!(out, "{NAME}: {}: {}", name(record.level()), record.args())
        });
    } else if let Some(syslog) = syslog {
        let id = std::process::id();
        builder.format(move |out, record| {
            // One datagram, without a date: the receiver has a clock.
            write!(
                out,
                "<{}>{NAME}[{id}]: {}",
                FACILITY | severity(record.level()),
                record.args()
            )
        });
        builder.target(Target::Pipe(Box::new(syslog)));
    } else {
        // As sd-daemon(3) has it: the journal takes the priority from the line.
        builder
            .format(|out, record| writeln!(out, "<{}>{}", severity(record.level()), record.args()));
    }
    let logger = builder.build();
    log::set_max_level(logger.filter());
    if let Ok(mut current) = CURRENT.0.write() {
        *current = Some(logger);
    }
    // It is there already where this is not the first call.
    let _ = log::set_logger(&CURRENT);
}

/// Whether standard error is the journal's, as systemd.exec(5) says it can be told.
fn is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|status| stream == format!("{}:{}", status.st_dev, status.st_ino))
}

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

/// Sends each write as a datagram.
struct Syslog(UnixDatagram);

impl Syslog {
    fn connect() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect("/dev/log")?;
        // A log that does not take lines must not stop the agent.
        socket.set_nonblocking(true)?;
        Ok(Syslog(socket))
    }
}

impl Write for Syslog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.send(line).is_err() {
            // The server was restarted, or is busy: a line may be lost, the agent goes on.
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
    fn levels() {
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
                    .map(|levels: Levels| levels.to_string())
                    .as_deref(),
                shown,
                "{text}"
            );
        }
    }
}
