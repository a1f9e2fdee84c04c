//! A server that runs in a thread.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::server::Server;
use crate::domid::DomId;

/// A [`Server`] that runs in a thread. Dropping this stops the server and removes its sockets.
#[derive(Debug)]
pub struct ServerHandle {
    shared: Arc<Shared>,
    /// Socket that wakes the thread from poll(2) when written, and ends it when closed.
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

/// The server and its locks.
///
/// The thread holds the lock of the server while it waits in poll(2), and releases it when it is
/// woken. Without the turnstile it could take the lock again before the caller that woke it. Every
/// thread therefore locks the turnstile first, and keeps it locked until it has the server.
#[derive(Debug)]
struct Shared {
    turnstile: Mutex<()>,
    server: Mutex<Server>,
}

impl Server {
    /// Runs the server in a new thread.
    ///
    /// # Errors
    /// The operating system's, if it cannot create a thread or a socket pair.
    pub fn spawn(self) -> io::Result<ServerHandle> {
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
        Ok(ServerHandle {
            shared,
            wake: Some(wake),
            thread: Some(thread),
        })
    }
}

impl ServerHandle {
    /// Calls `act` with the server while it serves no request, and then sends the events that `act`
    /// caused.
    pub fn with<T>(&self, act: impl FnOnce(&mut Server) -> T) -> T {
        let mut server = self.shared.lock(|| {
            // A full socket is no problem, because the thread is then about to wake up anyway.
            let _ = self.wake.as_ref().map(|mut wake| wake.write(&[0]));
        });
        let done = act(&mut server);
        server.process();
        done
    }

    /// Calls [`Server::connect`].
    ///
    /// # Errors
    /// The operating system's.
    pub fn connect(&self, domain: impl Into<DomId>) -> io::Result<UnixStream> {
        self.with(|server| server.connect(domain))
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // The error is ignored, because a thread that panics has already printed its message.
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
        // A test that panics while it holds the lock must not make other users of the server panic
        // too.
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
                // One read is enough, because one wake-up has the same effect as many.
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
