//! Prints the domains of a host, and those that start and end.

mod support;

use std::error::Error;
use std::time::Duration;

use xenstore::{Client, DomId, DomainEvent, Nodes, Optional, Path};

fn main() -> Result<(), Box<dyn Error>> {
    // In dom0, use `Client::open()?`.
    let (transport, _server) = support::connect(DomId::DOM0)?;
    let mut client = Client::new(transport);

    let mut domains = client.watch_domains()?;
    // The timeout ends the example. With `None` the call would block without limit.
    while let Some(event) = client.next_watch_event(Some(Duration::from_millis(100)))? {
        let changes = match domains.on_event(&mut client, &event) {
            Err(error) if error.is_denied() => {
                println!("only domain 0 may follow domains: {error}");
                return Ok(());
            }
            changes => changes?,
        };
        for change in changes {
            match change {
                DomainEvent::Introduced(domain) => {
                    let name = Path::home(domain).join("name")?;
                    let name = client.read_text(name).optional()?;
                    println!("{domain} started: {}", name.as_deref().unwrap_or("no name"));
                }
                DomainEvent::Shutdown(domain) => println!("{domain} has shut down"),
                DomainEvent::Released(domain) => println!("{domain} ended"),
                _ => {}
            }
        }
    }
    Ok(())
}
