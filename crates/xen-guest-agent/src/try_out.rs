//! A try-out without Xen: the agent against a store in its own process.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use rustix::event::PollFd;
use xenstore::embedded::{Server, Store, Toolstack};
use xenstore::{DomId, Error, Transport};

/// The guest that the agent is in.
const DOMAIN: DomId = 1;

/// A store, served to the agent and to whoever looks in.
#[derive(Debug)]
pub struct TryOut {
    server: Server,
    directory: PathBuf,
}

impl TryOut {
    /// Makes the store, and tells on standard output where other clients find it.
    ///
    /// # Errors
    /// The system's.
    pub fn open() -> io::Result<Self> {
        let mut store = Store::new();
        store.introduce_guest(DOMAIN, Toolstack::Xapi);
        let directory =
            std::env::temp_dir().join(format!("xen-guest-agent-{}", std::process::id()));
        fs::create_dir(&directory)?;
        let mut try_out = TryOut {
            server: Server::new(store),
            directory,
        };
        let socket = try_out.directory.join("xenstored.sock");
        try_out.server.listen(&socket, 0)?;
        say(format_args!(
            "This is a try-out: each change to the Xenstore of domain {DOMAIN} is shown. Look in from another terminal:\n  \
             XENSTORED_PATH={} xenstore-ls /local/domain/{DOMAIN}",
            socket.display()
        ));
        Ok(try_out)
    }

    /// A way in for the agent.
    ///
    /// # Errors
    /// The system's.
    pub fn connect(&mut self) -> Result<Transport, Error> {
        let stream = self.server.connect(DOMAIN);
        let failed = |source| Error::Io {
            action: "connect to",
            transport: "the embedded store".into(),
            source,
        };
        stream.map(Transport::from).map_err(failed)
    }

    /// What to wait for.
    pub fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.server.poll_fds()
    }

    /// Serves whoever has asked for something.
    pub fn process(&mut self) {
        self.server.process();
    }
}

impl Drop for TryOut {
    fn drop(&mut self) {
        // What is left in the temporary directory does no harm.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Whoever reads this may be gone: the agent goes on.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{line}");
}
