//! What ends the agent.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use xenstore::Error;

/// Why the agent cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no Xenstore, and there will be none.
    #[error(
        "this is not a Xen guest: {0}; to see what would be published here, run: {name} show --all-interfaces",
        name = env!("CARGO_PKG_NAME")
    )]
    NotXen(Error),
    /// Xenstore is there and cannot be used.
    #[error("{0}{hint}", hint = if .0.io_kind() == io::ErrorKind::PermissionDenied { "; run as root" } else { "" })]
    Xenstore(Error),
    /// There is another agent.
    #[error("another agent is running and holds the lock in {}", .0.display())]
    Running(PathBuf),
    /// The system does not give what the agent needs.
    #[error("{action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl Failure {
    /// The exit status that tells a service manager what happened: 3 where this is not a Xen guest, so that starting
    /// again is of no use; 4 where another agent runs; 1 otherwise.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::NotXen(_) => ExitCode::from(3),
            Failure::Running(_) => ExitCode::from(4),
            _ => ExitCode::FAILURE,
        }
    }

    pub(crate) fn system(action: &'static str) -> impl Fn(io::Error) -> Failure {
        move |source| Failure::System { action, source }
    }
}
