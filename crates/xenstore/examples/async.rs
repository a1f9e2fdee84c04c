//! Runs two tasks on one connection: one writes, and the other watches.

use xenstore::embedded::{Server, Store, Toolstack};
use xenstore::{AsyncClient, AsyncNodes};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut store = Store::new();
    store.introduce_guest(5, Toolstack::Xapi);
    let server = Server::new(store).spawn()?;
    // In a guest or in dom0, use `AsyncClient::open()?`.
    let client = AsyncClient::new(server.connect(5)?.into())?;

    let mut changes = client.watch("data").await?;
    let writer = tokio::spawn({
        let client = client.clone();
        async move { client.write("data/hello", "world").await }
    });
    // The first event reports that the watch is set.
    for _ in 0..2 {
        println!("{} changed", changes.next_event().await?.path);
    }
    writer.await??;
    Ok(())
}
