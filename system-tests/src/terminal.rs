//! Pseudo-terminals.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus, Stdio};

use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// A pseudo-terminal for one program. The terminal is not the controlling terminal of anybody.
pub struct Terminal {
    controller: OwnedFd,
}

impl Terminal {
    /// Opens a pseudo-terminal of 24 rows.
    pub fn new(columns: u16) -> Self {
        // A process of another test would keep the terminal open.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = rustix::pty::openpt(flags).unwrap();
        rustix::pty::grantpt(&controller).unwrap();
        rustix::pty::unlockpt(&controller).unwrap();

        let size = Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&controller, size).unwrap();
        Terminal { controller }
    }

    /// Opens the program's side, to use as one of its standard streams.
    pub fn stdio(&self) -> Stdio {
        self.file().into()
    }

    /// Opens the program's side.
    pub fn file(&self) -> OwnedFd {
        let name = rustix::pty::ptsname(&self.controller, Vec::new()).unwrap();
        let name = name.to_str().unwrap();
        let file = File::options().read(true).write(true).open(name).unwrap();
        file.into()
    }

    /// Reads one buffer's worth of what programs have written.
    pub fn read_some(&self) {
        rustix::io::read(&self.controller, &mut [0; 4096]).unwrap();
    }

    /// Runs `command` with standard output and standard error on the terminal, until it ends.
    ///
    /// Returns its exit status and everything that it printed. Line ends are `\n`.
    pub fn run(self, mut command: Command) -> (ExitStatus, Vec<u8>) {
        command.stdout(self.stdio()).stderr(self.stdio());
        let mut child = command.spawn().unwrap();

        // `command` holds descriptors of the program's side. Reading ends only when all are closed.
        drop(command);

        let mut printed = Vec::new();
        let ended = File::from(self.controller).read_to_end(&mut printed);

        // Linux reports EIO once nobody has the program's side open any more.
        let is_closed = |code| code == Some(Errno::IO.raw_os_error());
        assert!(
            ended.is_ok() || ended.is_err_and(|error| is_closed(error.raw_os_error())),
            "the terminal cannot be read"
        );

        let status = child.wait().unwrap();
        (status, with_unix_line_ends(&printed))
    }
}

/// Undoes the terminal's translation of `\n` to `\r\n`.
fn with_unix_line_ends(text: &[u8]) -> Vec<u8> {
    let mut lines = text.split(|byte| *byte == b'\n').peekable();
    let mut converted = Vec::with_capacity(text.len());
    while let Some(line) = lines.next() {
        if lines.peek().is_none() {
            converted.extend_from_slice(line);
        } else {
            converted.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
            converted.push(b'\n');
        }
    }
    converted
}
