//! Increments a counter that other clients may change at the same time.

mod support;

use std::error::Error;

use xenstore::{Client, Nodes};

fn main() -> Result<(), Box<dyn Error>> {
    // In a guest or in dom0, use `Client::open()?`.
    let (transport, _server) = support::connect(5)?;
    let mut client = Client::new(transport);

    client.write("data/example", "0")?;
    for _ in 0..3 {
        let count = client.transaction(|transaction| -> Result<u64, Box<dyn Error>> {
            let count = transaction.read_text("data/example")?.parse::<u64>()? + 1;
            transaction.write("data/example", count.to_string())?;
            Ok(count)
        })?;
        println!("{count}");
    }

    client.remove("data/example")?;
    Ok(())
}
