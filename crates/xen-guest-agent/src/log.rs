//! Where the log goes: to the service manager's journal, to syslog, or to standard error.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;

use env_logger::{Builder, Target};
use log::{Level, LevelFilter};

const NAME: &str = env!("CARGO_PKG_NAME");

/// The facility of system daemons (`LOG_DAEMON`), as syslog(3) has it.
const FACILITY: u8 = 3 << 3;

/// Starts the log. `level` goes before what the environment's `RUST_LOG` asks for; without either it is `info`.
pub fn start(level: Option<LevelFilter>, to_stderr: bool) {
    let mut builder = Builder::new();
    builder.filter_level(LevelFilter::Info);
    if let Ok(filters) = std::env::var("RUST_LOG") {
        builder.parse_filters(&filters);
    }
    if let Some(level) = level {
        builder.filter_level(level);
    }
    let syslog = if to_stderr || is_journal() { None } else { Syslog::connect().ok() };
    if to_stderr || (syslog.is_none() && !is_journal()) {
        builder.format(|out, record| writeln!(out, "{NAME}: {}: {}", name(record.level()), record.args()));
    } else if let Some(syslog) = syslog {
        let id = std::process::id();
        builder.format(move |out, record| {
            // One datagram, without a date: the receiver has a clock.
            write!(out, "<{}>{NAME}[{id}]: {}", FACILITY | severity(record.level()), record.args())
        });
        builder.target(Target::Pipe(Box::new(syslog)));
    } else {
        // As sd-daemon(3) has it: the journal takes the priority from the line.
        builder.format(|out, record| writeln!(out, "<{}>{}", severity(record.level()), record.args()));
    }
    builder.init();
}

/// Whether standard error is the journal's, as systemd.exec(5) says it can be told.
fn is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    rustix::fs::fstat(io::stderr()).is_ok_and(|status| stream == format!("{}:{}", status.st_dev, status.st_ino))
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
