//! Waits for changes of nodes.

mod support;

use std::time::Duration;

use xenstore::{Client, Nodes};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // In a guest or in dom0, use `Client::open()?`.
    let (transport, _server) = support::connect(5)?;
    let mut client = Client::new(transport);

    let watch = client.watch("data/example")?;
    client.write("data/example", "hello")?;
    client.remove("data/example")?;
    // The timeout ends the example. With `None` the call would block without limit.
    while let Some(event) = client.next_watch_event(Some(Duration::from_millis(100)))? {
        println!("{} changed", event.path);
    }
    client.unwatch(watch)?;
    Ok(())
}
