//! A server in a thread of its own.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::server::Server;
use crate::permission::DomId;

/// A [`Server`] that runs in a thread. It stops, and its sockets are removed, when this is dropped.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    /// Wakes the thread from its poll(2), and by being closed ends it.
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

/// The thread holds the server while it waits, and lets go of it when it is woken. It could have it again before anyone
/// else, were it not for the turnstile: whoever wants the server goes through it first and keeps it closed until they
/// have the server.
#[derive(Debug)]
struct Shared {
    turnstile: Mutex<()>,
    server: Mutex<Server>,
}

impl Server {
    /// Runs the server in a thread of its own.
    ///
    /// # Errors
    /// The system's, where it makes no thread or socket pair.
    pub fn spawn(self) -> io::Result<Running> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            turnstile: Mutex::new(()),
            server: Mutex::new(self),
        });
        let thread = thread::Builder::new().name("xenstore".into()).spawn({
            let shared = shared.clone();
            move || serve(&shared, &woken)
        })?;
        Ok(Running {
            shared,
            wake: Some(wake),
            thread: Some(thread),
        })
    }
}

impl Running {
    /// Does something with the server between two of its requests, and then sends the events that it caused.
    pub fn with<T>(&self, act: impl FnOnce(&mut Server) -> T) -> T {
        let mut server = self.shared.lock(|| {
            // A full socket means that the thread is about to wake up anyway.
            let _ = self.wake.as_ref().map(|mut wake| wake.write(&[0]));
        });
        let done = act(&mut server);
        server.process();
        done
    }

    /// [`Server::connect`].
    ///
    /// # Errors
    /// The system's.
    pub fn connect(&self, domain: DomId) -> io::Result<UnixStream> {
        self.with(|server| server.connect(domain))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self, before_waiting: impl FnOnce()) -> MutexGuard<'_, Server> {
        let turn = self
            .turnstile
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        before_waiting();
        // A test that fails with the server in its hands must not make all that use it fail in other words.
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        drop(turn);
        server
    }
}

fn serve(shared: &Shared, woken: &UnixStream) {
    loop {
        let mut server = shared.lock(|| ());
        match server.turn(woken.as_fd()) {
            Ok(true) => {
                // One wake-up is as good as many.
                match (&*woken).read(&mut [0; 64]) {
                    Ok(0) => return,
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                    _ => {}
                }
            }
            Ok(false) => {}
            Err(_) => return,
        }
    }
}
