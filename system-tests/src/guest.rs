//! An unprivileged domain.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::bridge::{Bridge, Requests, Ring};
use crate::toolstack::{Dom0, Toolstack, home};
use crate::xenstored::Xenstored;

/// A domain of a daemon, with its tree and with a socket whose clients are the domain. Ends when dropped.
pub struct Guest {
    domid: u16,
    toolstack: Toolstack,
    /// Where the shim keeps the domain's page and event channel.
    directory: PathBuf,
    socket: PathBuf,
    dom0: Dom0,
    bridge: Bridge,
}

impl Guest {
    pub(crate) fn create(store: &Xenstored, domid: u16, toolstack: Toolstack) -> Self {
        let directory = store.directory().to_owned();
        Ring::make_page(&directory, domid).expect("make the domain's page");
        let mut dom0 =
            Dom0::new(UnixStream::connect(store.socket()).expect("connect to the daemon"));
        let ring = build(&mut dom0, &directory, domid, toolstack);
        let socket = directory.join(format!("{domid}.socket"));
        // A domain of this number may have been here before.
        fs::remove_file(&socket).ok();
        let bridge = Bridge::start(ring, &socket);
        Guest {
            domid,
            toolstack,
            directory,
            socket,
            dom0,
            bridge,
        }
    }

    /// The Unix socket that stands for the guest's `/dev/xen/xenbus`.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The domain's number.
    pub fn domid(&self) -> u16 {
        self.domid
    }

    /// Where the domain's relative paths start: `/local/domain/<domid>`.
    pub fn home(&self) -> String {
        home(self.domid)
    }

    /// The requests that clients of the socket have sent so far. The bridge's own are not among them.
    pub fn requests(&self) -> Requests {
        self.bridge.requests()
    }

    /// What a migration or a restore looks like from the inside: nothing of the tree is left, there is a new one, and
    /// every watch fires once. Transactions that were open are lost.
    ///
    /// Only the domain's number, which would be another, stays. What clients ask for meanwhile is done after it.
    pub fn resume(&mut self) {
        self.bridge.suspend();
        self.dom0.release(self.domid).expect("release the domain");
        self.dom0
            .remove(&home(self.domid))
            .expect("remove the domain's tree");
        let ring = build(&mut self.dom0, &self.directory, self.domid, self.toolstack);
        self.bridge.resume(ring);
    }

    /// Closes the connections of all clients, who may connect again.
    pub fn hang_up(&mut self) {
        self.bridge.hang_up();
    }

    /// What a checkpoint looks like from the inside: the domain stands still for a moment, and nothing has changed.
    pub fn checkpoint(&mut self) {
        self.bridge.suspend();
        self.bridge.cancel();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.bridge.stop();
        // The daemon may have gone first.
        self.dom0.release(self.domid).ok();
        self.dom0.remove(&home(self.domid)).ok();
        fs::remove_file(self.directory.join(format!("{}.page", self.domid))).ok();
    }
}

/// Builds the domain as its toolstack does, and returns its new ring.
fn build(dom0: &mut Dom0, directory: &Path, domid: u16, toolstack: Toolstack) -> Ring {
    // Never the same twice, so that the shim takes no event of an earlier domain for one of this.
    static NEXT_PORT: AtomicU32 = AtomicU32::new(1);
    let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
    dom0.introduce(domid, port);
    toolstack.make_tree(dom0, domid);
    Ring::open(directory, domid, port).expect("open what the daemon made for the domain")
}
