//! Failures of the command, their messages, and the exit status.

use std::io::{self, Write};
use std::process::ExitCode;

use signal_hook::consts::SIGPIPE;
use xenstore::{Error, ErrorCode, escape};

/// Why the command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error with a message for the user.
    Message(String),
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
            error if error.is_fatal() => return Failure::Message(error.to_string()),
            Error::Refused { code, .. } => text(code).to_owned(),
            Error::InvalidPath(error) => format!("invalid path: {}", error.reason()),
            Error::InvalidRequest { reason, .. } => reason.clone(),
            Error::NotSent { source, .. } => source.to_string(),
            error => error.to_string(),
        };
        Failure::Message(format!("{operation}: {reason}"))
    }

    /// Prints the message and returns the exit status.
    pub(crate) fn end(self, program: &str) -> ExitCode {
        let mut stderr = io::stderr();
        let mut status = ExitCode::FAILURE;
        let printed = match self {
            Failure::Message(message) => writeln!(stderr, "{program}: {}", escape(&message)),
            Failure::Usage(error) => {
                // Like Xen's tools, this exits with status 1 after an error, and not with clap's 2.
                if !error.use_stderr() {
                    status = ExitCode::SUCCESS;
                }
                error.print()
            }
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
        status
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

/// Returns the message for an error code, which for most codes is the C library's.
fn text(code: &ErrorCode) -> &str {
    match code {
        ErrorCode::ENOENT => "No such file or directory",
        ErrorCode::EACCES => "Permission denied",
        ErrorCode::EINVAL => "Invalid argument",
        ErrorCode::EPERM => "Operation not permitted",
        ErrorCode::ENOSPC => "a quota of the domain is reached, or the value is too long (ENOSPC)",
        ErrorCode::EQUOTA => "a quota of the domain is reached (EQUOTA)",
        ErrorCode::E2BIG => "Argument list too long",
        ErrorCode::EEXIST => "File exists",
        other => other.name(),
    }
}
