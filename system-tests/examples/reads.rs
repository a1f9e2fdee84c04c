//! Reads a node many times, for a test that counts system calls:
//!
//! ```sh
//! reads Client|SharedClient|AsyncClient SOCKET COUNT
//! ```

use std::error::Error;
use std::path::Path;

use xenstore::{AsyncClient, AsyncNodes, Client, Nodes, SharedClient, Transport};

const PATH: &str = "/";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, client, socket, count] = arguments.as_slice() else {
        return Err("usage: reads Client|SharedClient|AsyncClient SOCKET COUNT".into());
    };
    let transport = Transport::open_socket_at(Path::new(socket))?;
    let count = count.parse()?;

    match client.as_str() {
        "Client" => blocking(Client::new(transport), count)?,
        "SharedClient" => blocking(&SharedClient::new(Client::new(transport))?, count)?,
        _ => tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?
            .block_on(on_tokio(transport, count))?,
    }
    Ok(())
}

fn blocking(mut client: impl Nodes, count: usize) -> xenstore::Result<()> {
    for _ in 0..count {
        client.read(PATH)?;
    }
    Ok(())
}

async fn on_tokio(transport: Transport, count: usize) -> xenstore::Result<()> {
    let client = AsyncClient::new(transport)?;
    for _ in 0..count {
        client.read(PATH).await?;
    }
    Ok(())
}
