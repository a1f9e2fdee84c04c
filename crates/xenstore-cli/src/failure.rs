//! How the command ends where it fails.

use std::io::{self, Write};
use std::process::ExitCode;

use signal_hook::consts::SIGPIPE;
use xenstore::{Error, ErrorCode};

/// Why the command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// This is to be said.
    Said(String),
    /// The command line is wrong, or asks for help.
    Usage(clap::Error),
    /// The exit status says it all.
    Silent,
    /// The output could not be printed.
    Output(io::Error),
}

impl Failure {
    /// The request that `what` describes failed. `what` is said in the words of Xen's tools, since scripts look for them.
    pub(crate) fn of_request(what: &str, error: &Error) -> Self {
        match error {
            error if error.is_fatal() => Failure::Said(error.to_string()),
            Error::Refused { code, .. } => Failure::Said(format!("{what}: {}", text(code))),
            error => Failure::Said(format!("{what}: {error}")),
        }
    }

    /// Says what is to be said, and ends.
    pub(crate) fn end(self, program: &str) -> ExitCode {
        let mut stderr = io::stderr();
        let mut status = ExitCode::FAILURE;
        let printed = match self {
            Failure::Said(message) => writeln!(stderr, "{program}: {message}"),
            Failure::Usage(error) => {
                // Xen's tools end with 1 where clap would with 2.
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
        // Nobody reads any more. C programs end by the signal, which a Rust program ignores, so that is what shells and
        // scripts know. Any other failure to say why this failed cannot be said.
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

/// What the C library says of the codes that a user meets.
fn text(code: &ErrorCode) -> &str {
    match code {
        ErrorCode::ENOENT => "No such file or directory",
        ErrorCode::EACCES => "Permission denied",
        ErrorCode::EINVAL => "Invalid argument",
        ErrorCode::EPERM => "Operation not permitted",
        ErrorCode::ENOSPC => "No space left on device",
        ErrorCode::E2BIG => "Argument list too long",
        ErrorCode::EEXIST => "File exists",
        other => other.name(),
    }
}
