//! An embedded server, and calls of the command.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use xenstore::Client;
use xenstore::embedded::{Model, Server, ServerHandle, Store, Toolstack};

/// An embedded server with the guest 5.
pub(crate) struct Testbed {
    pub(crate) directory: TempDir,
    pub(crate) server: ServerHandle,
}

impl Testbed {
    pub(crate) fn new() -> Self {
        Testbed::with_model(Model::default())
    }

    pub(crate) fn with_model(model: Model) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::with_model(model);
        store.introduce_guest(5, Toolstack::Xapi);
        let mut server = Server::new(store);
        server.listen(directory.path().join("0"), 0).unwrap();
        server.listen(directory.path().join("5"), 5).unwrap();
        let server = server.spawn().unwrap();
        Testbed { directory, server }
    }

    /// Returns a client that acts as domain 0.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.server.connect(0).unwrap().into())
    }

    /// Returns the path of a domain's socket.
    pub(crate) fn socket(&self, domain: u16) -> PathBuf {
        self.directory.path().join(domain.to_string())
    }

    /// Returns a call of the command in a domain.
    pub(crate) fn command(&self, domain: u16, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        let socket = self.socket(domain);
        command.args(arguments).env("XENSTORED_PATH", socket);
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        command
    }

    /// Runs the command in a domain.
    pub(crate) fn run(&self, domain: u16, arguments: &[&str]) -> Output {
        self.command(domain, arguments).output().unwrap()
    }

    pub(crate) fn with_store(&self, act: impl FnOnce(&mut Store)) {
        self.server.with(|server| act(server.store_mut()));
    }
}

/// Returns the path of the command.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_xenstore"))
}

/// Runs the command, or a link to it, with the server at this socket.
pub(crate) fn run(program: &Path, socket: &Path, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .env("XENSTORED_PATH", socket)
        .output()
        .expect("run the command")
}
