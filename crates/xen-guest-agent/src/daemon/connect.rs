//! Connecting to Xenstore, and whether a retry may resolve an error.

use std::io;

use xenstore::{Connection, Error, Transport};

use crate::error::Failure;
use crate::platform::{Platform, System};
use crate::settings::Endpoint;

/// Returns the connection, or the error if a retry may succeed: the device or the server may become
/// available later.
pub(crate) fn check_retryable(
    connection: Result<Connection, Error>,
    platform: &System,
) -> Result<Result<Connection, Error>, Failure> {
    match connection {
        // The path is too long for a socket, or its file is neither a socket nor a device.
        Err(error)
            if [io::ErrorKind::PermissionDenied, io::ErrorKind::InvalidInput]
                .contains(&error.io_kind()) =>
        {
            Err(Failure::Xenstore(error))
        }
        Err(error) if error.io_kind() == io::ErrorKind::NotFound && !platform.is_xen_guest() => {
            Err(match error {
                Error::NoServer { .. } => Failure::NotXen(error),
                _ => Failure::Xenstore(error),
            })
        }
        Ok(_) | Err(_) => Ok(connection),
    }
}

/// Whether neither the settings nor the environment name an endpoint.
pub(crate) fn is_automatic(endpoint: &Endpoint) -> bool {
    *endpoint == Endpoint::Auto && std::env::var_os("XENSTORED_PATH").is_none()
}

pub(crate) fn connect(endpoint: &Endpoint) -> Result<Connection, Error> {
    match endpoint {
        Endpoint::Device => Transport::open_device(),
        Endpoint::Socket(Some(path)) => Transport::open_socket_at(path),
        Endpoint::Socket(None) => Transport::open_socket(),
        Endpoint::Auto => Transport::open(),
    }
    .map(Connection::new)
}
