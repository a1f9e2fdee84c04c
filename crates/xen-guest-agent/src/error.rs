//! Errors that end the agent.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use xenstore::Error;

/// A fatal error.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no Xenstore, because this is not a Xen guest.
    #[error(
        "this is not a Xen guest: {0}; to see what would be published here, run: {name} show --all-interfaces",
        name = env!("CARGO_PKG_NAME")
    )]
    NotXen(Error),
    /// This is domain 0, and no endpoint is set.
    #[error(
        "this is domain 0, and the agent is for guests; to publish here nevertheless, set xenstore = \"socket\""
    )]
    ControlDomain,
    /// Xenstore exists, but the agent cannot use it.
    #[error("{0}{hint}", hint = if .0.io_kind() == io::ErrorKind::PermissionDenied { "; run as root" } else { "" })]
    Xenstore(Error),
    /// The connection is lost, and the confined agent may not open another one.
    #[error("{0}; the confined agent cannot connect again, so the service manager must restart it")]
    Confined(Error),
    /// Another agent holds the lock in this directory.
    #[error("another agent is running and holds the lock in {}", .0.display())]
    Running(PathBuf),
    /// Xenstore did not answer while the nodes were withdrawn.
    #[error("withdraw: no reply from Xenstore at {transport} within {seconds} s; nodes may remain")]
    Unanswered {
        /// Name of the device or socket.
        transport: String,
        /// Time waited.
        seconds: u64,
    },
    /// Xenstore rejected removals of nodes, which have these reasons.
    #[error("withdraw: Xenstore rejected removals, so these nodes remain: {0}")]
    NotWithdrawn(String),
    /// A system call failed.
    #[error("{action}: {source}")]
    System {
        /// Operation that failed.
        action: &'static str,
        /// Error that the system reported.
        source: io::Error,
    },
}

impl Failure {
    /// Returns the exit status: 2 if the configured path cannot be one of Xenstore, 3 if this is
    /// not a Xen guest or is domain 0, 4 if another agent is running, and 1 otherwise. Service
    /// managers should not restart the agent after 2, 3 or 4.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Xenstore(error) if error.io_kind() == io::ErrorKind::InvalidInput => {
                ExitCode::from(2)
            }
            Failure::NotXen(_) | Failure::ControlDomain => ExitCode::from(3),
            Failure::Running(_) => ExitCode::from(4),
            _ => ExitCode::FAILURE,
        }
    }

    pub(crate) fn system(action: &'static str) -> impl Fn(io::Error) -> Failure {
        move |source| Failure::System { action, source }
    }
}
