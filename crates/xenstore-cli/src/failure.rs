//! Failures of the command, their messages, and the exit status.

use std::io::{self, Write};
use std::process::ExitCode;

use signal_hook::consts::SIGPIPE;
use xenstore::wire::MessageKind;
use xenstore::{Error, ErrorCode, escape};

/// Exit status of an error in the command line, with `--exit-codes`.
const USAGE_STATUS: u8 = 2;

/// Exit status without a Xenstore server, with `--exit-codes`.
const NO_SERVER_STATUS: u8 = 3;

/// Exit status after a time limit. It is that of timeout(1).
const TIMEOUT_STATUS: u8 = 124;

/// Why the command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error with a message for the user.
    Message(String),
    /// There is no Xenstore server, or its connection failed.
    NoServer(String),
    /// A time limit passed. The message is empty if only the exit status reports it.
    TimedOut(String),
    /// An error in the command line, or a request for help.
    Usage(clap::Error),
    /// An error that only the exit status reports.
    Silent,
    /// An error while writing the output.
    Output(io::Error),
}

impl Failure {
    /// Returns the failure of a request.
    ///
    /// `operation` names the operation and the path, in the words of Xen's tools, because scripts
    /// may search for them.
    pub(crate) fn of_request(operation: &str, error: &Error) -> Self {
        let reason = match error {
            error if error.is_fatal() => return Failure::NoServer(error.to_string()),
            Error::TimedOut { .. } => {
                let reason = "the Xenstore server did not reply in time";
                return Failure::TimedOut(format!("{operation}: {reason}"));
            }
            Error::Refused {
                code, operation, ..
            } => reason(*operation, code),
            Error::InvalidPath(error) => format!("invalid path: {}", error.reason()),
            Error::InvalidRequest { reason, .. } => reason.clone(),
            Error::NotSent { error, .. } => error.to_string(),
            Error::InvalidReply { reason, .. } => format!("invalid reply: {reason}"),
            error => error.to_string(),
        };
        Failure::Message(format!("{operation}: {reason}"))
    }

    /// Prints the message and returns the exit status.
    ///
    /// `has_exit_codes` selects different statuses for different failures. By default the status is
    /// that of Xen's tools, which is 1 for all of them.
    pub(crate) fn end(self, program: &str, has_exit_codes: bool) -> ExitCode {
        let status = match &self {
            Failure::Usage(error) if !error.use_stderr() => 0,
            Failure::Usage(_) if has_exit_codes => USAGE_STATUS,
            Failure::NoServer(_) if has_exit_codes => NO_SERVER_STATUS,
            Failure::TimedOut(_) => TIMEOUT_STATUS,
            _ => 1,
        };

        let mut stderr = io::stderr();
        let printed = match self {
            Failure::TimedOut(message) if message.is_empty() => Ok(()),
            Failure::Message(message) | Failure::NoServer(message) | Failure::TimedOut(message) => {
                writeln!(stderr, "{program}: {}", escape(&message))
            }
            Failure::Usage(error) => error.print(),
            Failure::Silent => Ok(()),
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(error),
            Failure::Output(error) => {
                writeln!(stderr, "{program}: write to standard output: {error}")
            }
        };

        // A C program dies from SIGPIPE here, which is what shells and scripts expect. Rust
        // programs ignore the signal.
        if printed.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            let _ = signal_hook::low_level::emulate_default_handler(SIGPIPE);
        }
        ExitCode::from(status)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

/// Returns the reason of a refused request.
fn reason(operation: MessageKind, code: &ErrorCode) -> String {
    match exceeded_limit(operation, code) {
        Some(limit) => format!("{limit} ({code})"),
        None => text(code).to_owned(),
    }
}

/// Returns the limit that a code reports. The C library's message for these codes misleads, such as
/// `No space left on device`.
fn exceeded_limit(operation: MessageKind, code: &ErrorCode) -> Option<&'static str> {
    match (operation, code) {
        (MessageKind::WRITE, ErrorCode::ENOSPC) => {
            Some("a quota of the domain is full, or the value is longer than it may be")
        }
        (MessageKind::WRITE, ErrorCode::E2BIG) => Some("the value is longer than it may be"),
        (MessageKind::WATCH, ErrorCode::ENOSPC | ErrorCode::EQUOTA | ErrorCode::E2BIG) => {
            Some("the domain's quota of watches is full")
        }
        (MessageKind::TRANSACTION_START, ErrorCode::ENOSPC | ErrorCode::EQUOTA) => {
            Some("the domain's quota of open transactions is full")
        }
        (_, ErrorCode::ENOSPC | ErrorCode::EQUOTA) => Some("a quota of the domain is full"),
        _ => None,
    }
}

/// Returns the message for an error code, which for most codes is the C library's.
fn text(code: &ErrorCode) -> &str {
    match code {
        ErrorCode::ENOENT => "No such file or directory",
        ErrorCode::EACCES => "Permission denied",
        ErrorCode::EINVAL => "Invalid argument",
        ErrorCode::EPERM => "Operation not permitted",
        ErrorCode::E2BIG => "Argument list too long",
        ErrorCode::EEXIST => "File exists",
        other => other.name(),
    }
}
