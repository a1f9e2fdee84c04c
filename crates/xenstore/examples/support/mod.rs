//! The server of an example.

use std::env;
use std::error::Error;
use std::path::Path;

use xenstore::embedded::{Server, ServerHandle, Store, Toolstack};
use xenstore::{DomId, Transport};

/// Connects to the socket that the first argument names. Without an argument, starts a server in
/// this process, and connects to it as a guest.
///
/// In a guest or in dom0, programs use `Transport::open`, or `open` of a client.
pub(crate) fn connect() -> Result<(Transport, Option<ServerHandle>), Box<dyn Error>> {
    const GUEST: DomId = DomId::new(5);
    if let Some(socket) = env::args_os().nth(1) {
        return Ok((Transport::open_socket_at(Path::new(&socket))?, None));
    }

    let mut store = Store::new();
    store.introduce_guest(GUEST, Toolstack::Xapi);
    let server = Server::new(store).spawn()?;
    Ok((server.connect(GUEST)?.into(), Some(server)))
}
