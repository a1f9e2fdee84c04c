//! The server of an example.

use std::env;
use std::error::Error;

use xenstore::embedded::{Server, ServerHandle, Store, Toolstack};
use xenstore::{DomId, Transport};

/// Connects to the socket that the first argument names. Without an argument, starts a server with
/// the guest 5 in this process, and connects to it as `domain`.
///
/// In a guest or in dom0, programs use `Transport::open`, or `open` of a client.
pub(crate) fn connect(
    domain: impl Into<DomId>,
) -> Result<(Transport, Option<ServerHandle>), Box<dyn Error>> {
    if let Some(socket) = env::args_os().nth(1) {
        return Ok((Transport::open_socket_at(socket)?, None));
    }

    let mut store = Store::new();
    store.introduce_guest(5, Toolstack::Xapi);
    let server = Server::new(store).spawn()?;
    Ok((server.connect(domain)?.into(), Some(server)))
}
