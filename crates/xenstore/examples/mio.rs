//! Serves a connection in an edge-triggered event loop, which the crate `mio` makes of epoll(7), or
//! of kqueue(2) on the BSDs.

mod support;

use std::error::Error;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use xenstore::{Connection, Event, Received, Request};

/// The connection among the descriptors of the loop.
const XENSTORE: Token = Token(0);

/// Requests that are submitted at once.
const WRITES: usize = 50;

fn main() -> Result<(), Box<dyn Error>> {
    // In a guest or in dom0, use `Transport::open()?`.
    let (transport, _server) = support::connect(5)?;
    let mut connection = Connection::new(transport);

    let (mut poll, mut ready) = (Poll::new()?, Events::with_capacity(8));
    let fd = connection.as_fd().as_raw_fd();
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry()
        .register(&mut SourceFd(&fd), XENSTORE, interest)?;

    connection.submit(Request::watch("data/example", "example")?)?;
    for number in 0..WRITES {
        let path = format!("data/example/{number}");
        connection.submit(Request::write(path, "hello")?)?;
    }
    connection.submit(Request::remove("data/example")?)?;

    // The watch, the writes and the removal.
    let expected = WRITES + 2;
    let (mut replies, mut changes) = (0, 0);
    while replies < expected {
        connection.flush()?;
        let received = connection.on_readable()?;
        let mut has_events = false;
        while let Some(event) = connection.next_event() {
            has_events = true;
            match event {
                Event::Reply { result, .. } => {
                    result?;
                    replies += 1;
                }
                Event::Watch(_) => changes += 1,
                _ => {}
            }
        }

        // The kernel reports new data only once, so the loop must receive all of it before it waits.
        if received == Received::All && !has_events {
            match poll.poll(&mut ready, Some(Duration::from_secs(10))) {
                Ok(()) if ready.is_empty() => return Err("no reply within 10 s".into()),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
    }
    println!("{replies} replies, {changes} watch events");
    Ok(())
}
