//! Reads a node, and a tree of nodes.

use xenstore::embedded::{Server, Store, Toolstack};
use xenstore::{Client, Nodes};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut store = Store::new();
    store.introduce_guest(5, Toolstack::Xapi);
    let server = Server::new(store).spawn()?;
    // In a guest or in dom0, use `Client::open()?`.
    let mut client = Client::new(server.connect(5)?.into());

    println!("this is {}", client.read_text("name")?);
    for (path, value) in client.walk("memory")? {
        println!("{path} = {}", String::from_utf8_lossy(&value));
    }
    Ok(())
}
