//! Writes two nodes, reads one of them, and reads the tree that they form.

mod support;

use xenstore::{Client, Nodes};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // In a guest or in dom0, use `Client::open()?`.
    let (transport, _server) = support::connect(5)?;
    let mut client = Client::new(transport);

    client.write("data/example/greeting", "hello")?;
    client.write("data/example/name", "world")?;
    println!("the name is {}", client.read_text("data/example/name")?);
    for (path, value) in client.walk("data/example")? {
        println!("{path} = {}", String::from_utf8_lossy(&value));
    }

    client.remove("data/example")?;
    Ok(())
}
