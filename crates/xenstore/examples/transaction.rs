//! Increments a counter that other clients may change at the same time.

use std::error::Error;

use xenstore::embedded::{Server, Store, Toolstack};
use xenstore::{Client, Nodes};

fn main() -> Result<(), Box<dyn Error>> {
    let mut store = Store::new();
    store.introduce_guest(5, Toolstack::Xapi);
    let server = Server::new(store).spawn()?;
    // In a guest or in dom0, use `Client::open()?`.
    let mut client = Client::new(server.connect(5)?.into());

    client.write("data/count", "0")?;
    for _ in 0..3 {
        let count = client.transaction(|transaction| -> Result<u64, Box<dyn Error>> {
            let count = transaction.read_text("data/count")?.parse::<u64>()? + 1;
            transaction.write("data/count", count.to_string())?;
            Ok(count)
        })?;
        println!("{count}");
    }
    Ok(())
}
