//! The log: the service manager's journal, syslog, or standard error. Logging never blocks;
//! messages that the log does not accept are counted, and the log says so later.

mod filter;
mod stderr;
mod syslog;

use std::borrow::Cow;
use std::fmt::Display;
use std::io;
use std::sync::Mutex;

use log::{Level, Log, Metadata, Record};

use crate::platform::{Platform, System};
use crate::text::shorten;
use filter::{CRATE, XENSTORE};
use stderr::Stderr;
use syslog::Syslog;

pub use filter::LogFilter;

const NAME: &str = env!("CARGO_PKG_NAME");

/// Maximum length in bytes of a message. With its prefix it fits `PIPE_BUF`, the 4096 bytes that
/// Linux writes to a pipe as a whole.
const MAX_LEN: usize = 4000;

/// Destination of the log.
#[derive(Debug)]
enum Destination {
    /// Standard error is the service manager's journal.
    Journal,
    /// Syslog, or standard error as long as there is no syslog.
    Syslog(Syslog),
    Stderr,
}

/// Receiver of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sink {
    Syslog,
    Stderr,
}

#[derive(Debug)]
struct Logger {
    filter: LogFilter,
    output: Output,
    lost: Lost,
}

impl Logger {
    fn is_enabled(&self, level: Level, target: &str) -> bool {
        level <= self.filter.level(target)
    }

    /// Logs a message. Returns `None` if it is lost.
    fn log(&mut self, level: Level, message: &str) -> Option<Sink> {
        let write = &mut |level, message: &str| self.output.write(level, message);
        self.lost.log(level, message, write)
    }

    fn report_lost(&mut self) -> io::Result<()> {
        let write = &mut |level, message: &str| self.output.write(level, message);
        self.lost.report(write)
    }
}

/// Function that writes one message.
type Write<'a> = dyn FnMut(Level, &str) -> io::Result<Sink> + 'a;

/// Number of messages that the log did not accept and that it does not mention yet.
#[derive(Debug, Default)]
struct Lost(u64);

impl Lost {
    /// Writes a message after the report of those that are missing before it. Returns `None` if one
    /// of them is not accepted. The message then counts as lost.
    fn log(&mut self, level: Level, message: &str, write: &mut Write<'_>) -> Option<Sink> {
        let written = self.report(write).and_then(|()| write(level, message));
        self.0 += u64::from(written.is_err());
        written.ok()
    }

    /// Writes how many messages are lost.
    fn report(&mut self, write: &mut Write<'_>) -> io::Result<()> {
        if self.0 > 0 {
            let message = format!(
                "{} log messages were lost, because the reader of the log did not read",
                self.0
            );
            write(Level::Warn, &message)?;
            self.0 = 0;
        }
        Ok(())
    }
}

/// Destination of the log, and standard error in its place.
#[derive(Debug)]
struct Output {
    destination: Destination,
    stderr: Stderr,
}

impl Output {
    fn write(&mut self, level: Level, message: &str) -> io::Result<Sink> {
        let message = prepare(message);
        match &mut self.destination {
            Destination::Journal => {
                // The journal takes the priority from the start of the line, see sd-daemon(3).
                let line = format!("<{}>{message}\n", severity(level));
                self.stderr.write(line.as_bytes())?;
                return Ok(Sink::Stderr);
            }
            Destination::Syslog(syslog) => match syslog.send(severity(level), &message) {
                Ok(()) => return Ok(Sink::Syslog),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => {}
            },
            Destination::Stderr => {}
        }
        self.stderr.write(line(level, &message).as_bytes())?;
        Ok(Sink::Stderr)
    }
}

/// The logger of this process. A reload of the settings replaces it.
struct Current(Mutex<Option<Logger>>);

static CURRENT: Current = Current(Mutex::new(None));

impl Current {
    fn with<T>(&self, act: impl FnOnce(&mut Logger) -> T) -> Option<T> {
        self.0.lock().ok()?.as_mut().map(act)
    }
}

impl Log for Current {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.with(|logger| logger.is_enabled(metadata.level(), metadata.target()))
            .unwrap_or_default()
    }

    fn log(&self, record: &Record<'_>) {
        // The text is formatted first, because formatting may log a message.
        let message = record.args().to_string();
        self.with(|logger| {
            if logger.is_enabled(record.level(), record.target()) {
                logger.log(record.level(), &message);
            }
        });
    }

    fn flush(&self) {
        self.with(|logger| logger.report_lost().ok());
    }
}

/// Starts the log, or replaces it by one with another filter or destination.
pub fn start(filter: &LogFilter, to_stderr: bool) {
    let destination = match System::SYSLOG {
        _ if to_stderr => Destination::Stderr,
        _ if is_journal() => Destination::Journal,
        Some(path) => Destination::Syslog(Syslog::new(path)),
        None => Destination::Stderr,
    };

    log::set_max_level(filter.max_level());
    if let Ok(mut current) = CURRENT.0.lock() {
        let former = current.take();
        let (stderr, lost) = former.map_or_else(
            || (Stderr::open(), Lost::default()),
            |former| (former.output.stderr, former.lost),
        );
        *current = Some(Logger {
            filter: filter.clone(),
            output: Output {
                destination,
                stderr,
            },
            lost,
        });
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

/// Logs a fatal error, after [`start`]. Also prints it on standard error unless the log goes there,
/// so that a user at a terminal sees it.
pub fn fatal(error: &dyn Display) {
    let message = error.to_string();
    let sink = CURRENT.with(|logger| {
        let is_enabled = logger.is_enabled(Level::Error, module_path!());
        is_enabled.then(|| logger.log(Level::Error, &message))?
    });
    if sink.flatten() != Some(Sink::Stderr) {
        let message = prepare(&message);
        let line = line(Level::Error, &message);
        // Standard error may be closed. The log has the error then.
        CURRENT.with(|logger| logger.output.stderr.write(line.as_bytes()).ok());
    }
}

/// Returns a message that fits one line and forges no other line. Values of the store, names of
/// files and texts of servers may contain any character.
fn prepare(message: &str) -> Cow<'_, str> {
    match xenstore::escape(message) {
        Cow::Borrowed(message) => shorten(message, MAX_LEN),
        Cow::Owned(message) => Cow::Owned(shorten(&message, MAX_LEN).into_owned()),
    }
}

/// Returns a line for users.
fn line(level: Level, message: &str) -> String {
    format!("{NAME}: {}: {message}\n", name(level))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn report_of_lost_messages_comes_before_the_next_message() {
        // The reader reads after the first attempt to write.
        let (mut lost, mut is_full, mut written) = (Lost(2), true, Vec::new());
        for message in ["third", "fourth"] {
            lost.log(Level::Info, message, &mut |_, message| {
                if std::mem::take(&mut is_full) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                written.push(message.to_owned());
                Ok(Sink::Stderr)
            });
        }
        let report = "3 log messages were lost, because the reader of the log did not read";
        assert_eq!(written, [report, "fourth"]);
        assert_eq!(lost.0, 0);
    }

    proptest! {
        #[test]
        fn log_lines_are_escaped_and_fit_a_pipe(message in any::<String>(), repeated in 1..3000_usize) {
            let message = message.repeat(repeated);
            let text = prepare(&message);
            prop_assert_eq!(xenstore::escape(&text), text.as_ref());
            let line = line(Level::Warn, &text);
            prop_assert!(line.len() <= 4096 && line.matches('\n').count() == 1);
        }
    }
}
