//! Waits for changes of nodes.

use std::time::Duration;

use xenstore::embedded::{Server, Store, Toolstack};
use xenstore::{Client, Nodes};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut store = Store::new();
    store.introduce_guest(5, Toolstack::Xapi);
    let server = Server::new(store).spawn()?;
    // In a guest or in dom0, use `Client::open()?`.
    let mut client = Client::new(server.connect(5)?.into());

    client.watch("data")?;
    client.write("data/hello", "world")?;
    // The timeout ends the example. With `None` the call would block without limit.
    while let Some(event) = client.next_watch_event(Some(Duration::from_millis(100)))? {
        println!("{} changed", event.path);
    }
    Ok(())
}
