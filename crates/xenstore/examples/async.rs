//! Runs two tasks on one connection: one writes, and the other watches.

mod support;

use xenstore::{AsyncClient, AsyncNodes};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // In a guest or in dom0, use `AsyncClient::open()?`.
    let (transport, _server) = support::connect(5)?;
    let client = AsyncClient::new(transport)?;

    let mut changes = client.watch("data/example").await?;
    let writer = tokio::spawn({
        let client = client.clone();
        async move { client.write("data/example", "hello").await }
    });
    // The first event reports that the watch is set.
    for _ in 0..2 {
        println!("{} changed", changes.next_event().await?.path);
    }

    writer.await??;
    client.remove("data/example").await?;
    Ok(())
}
