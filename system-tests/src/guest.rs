//! An unprivileged domain.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::bridge::{Bridge, Requests, Ring};
use crate::toolstack::{Dom0, Toolstack, home};

/// A domain with its tree and a Unix socket whose clients act as the domain. Dropping it ends the
/// domain.
pub struct Guest {
    domid: u16,
    toolstack: Toolstack,
    /// Directory of the shim's page and event channel.
    directory: PathBuf,
    socket: PathBuf,
    dom0: Dom0,
    bridge: Bridge,
}

impl Guest {
    /// Creates a domain at the server that listens on `server`. The shim's files are in
    /// `directory`.
    pub(crate) fn create(
        server: &Path,
        directory: &Path,
        domid: u16,
        toolstack: Toolstack,
    ) -> Self {
        Ring::make_page(directory, domid).expect("make the domain's page");
        let mut dom0 = Dom0::new(UnixStream::connect(server).expect("connect to the server"));
        let ring = build(&mut dom0, directory, domid, toolstack);
        let socket = directory.join(format!("{domid}.socket"));

        // An earlier domain may have had the same number.
        fs::remove_file(&socket).ok();
        let bridge = Bridge::start(ring, &socket);
        Guest {
            domid,
            toolstack,
            directory: directory.to_owned(),
            socket,
            dom0,
            bridge,
        }
    }

    /// Path of the Unix socket that replaces the guest's `/dev/xen/xenbus`.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Domain ID.
    pub fn domid(&self) -> u16 {
        self.domid
    }

    /// Returns `/local/domain/<domid>`, at which the domain's relative paths start.
    pub fn home(&self) -> String {
        home(self.domid)
    }

    /// Returns the requests that clients of the socket have sent so far, without the bridge's own.
    pub fn requests(&self) -> Requests {
        self.bridge.requests()
    }

    /// Does what the guest sees of a migration or restore: its tree is replaced by a new one, every
    /// watch fires once, and open transactions are lost.
    ///
    /// Unlike in a real migration, the domain ID stays the same. Requests sent meanwhile are
    /// processed afterwards.
    pub fn resume(&mut self) {
        self.bridge.suspend();
        self.dom0.release(self.domid).expect("release the domain");
        self.dom0
            .remove(&home(self.domid))
            .expect("remove the domain's tree");
        let ring = build(&mut self.dom0, &self.directory, self.domid, self.toolstack);
        self.bridge.resume(ring);
    }

    /// Closes the connections of all clients. They may connect again.
    pub fn hang_up(&mut self) {
        self.bridge.hang_up();
    }

    /// Does what the guest sees of a checkpoint: the domain is suspended for a moment, and nothing
    /// changes.
    pub fn checkpoint(&mut self) {
        self.bridge.suspend();
        self.bridge.cancel();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.bridge.stop();

        // The server may have ended before.
        self.dom0.release(self.domid).ok();
        self.dom0.remove(&home(self.domid)).ok();
        fs::remove_file(self.directory.join(format!("{}.page", self.domid))).ok();
    }
}

/// Creates the domain as its toolstack does, and returns its new ring.
fn build(dom0: &mut Dom0, directory: &Path, domid: u16, toolstack: Toolstack) -> Ring {
    // Ports are unique, so that the shim never mistakes an event of an earlier domain for one of
    // this domain.
    static NEXT_PORT: AtomicU32 = AtomicU32::new(1);
    let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
    dom0.introduce(domid, port);
    toolstack.make_tree(dom0, domid);
    Ring::open(directory, domid, port).expect("open the files of the domain")
}
