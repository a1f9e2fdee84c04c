//! Xen's own daemons, run as they are on a machine without Xen.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xenstore::wire::MessageKind;

use crate::guest::Guest;
use crate::toolstack::{Dom0, Toolstack};

/// One of Xen's two Xenstore servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// `xenstored`, the default of most distributions.
    C,
    /// `oxenstored`, used by XCP-ng and XenServer. Needs root, because it runs in its own mount
    /// namespace.
    OCaml,
}

impl Daemon {
    pub(crate) fn program(self) -> &'static str {
        match self {
            // The shim implements the library calls of this version only.
            Daemon::C => "/usr/lib/xen-4.17/bin/xenstored",
            Daemon::OCaml => "/usr/lib/xen-4.17/bin/oxenstored",
        }
    }
}

/// A Xenstore server for one test. Dropping it kills the process.
pub struct Xenstored {
    daemon: Daemon,
    child: Child,
    socket: PathBuf,
    directory: TempDir,
}

/// Generous timeout, which only a stalled machine exceeds.
const START: Duration = Duration::from_secs(20);

impl Xenstored {
    /// Starts the server and waits until it answers. Quotas have the defaults of distributions:
    /// 1000 nodes, 2048 bytes per value, 10 transactions, and 128 watches (xenstored) or 100
    /// (oxenstored).
    pub fn start(daemon: Daemon) -> Self {
        assert!(
            Path::new(daemon.program()).exists(),
            "{} is missing: install xen-utils-4.17 (Debian 12)",
            daemon.program()
        );
        let directory = tempfile::tempdir().expect("make a temporary directory");
        let child = spawn(daemon, directory.path());
        let mut xenstored = Xenstored {
            daemon,
            child,
            socket: directory.path().join("socket"),
            directory,
        };
        xenstored.wait_until_it_answers();
        xenstored
    }

    /// Kills the server and starts another one with an empty store.
    pub fn restart(&mut self) {
        self.child.kill().expect("kill the daemon");
        self.child.wait().expect("wait for the daemon");
        self.child = spawn(self.daemon, self.directory.path());
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&mut self) {
        let deadline = Instant::now() + START;
        loop {
            if let Ok(stream) = UnixStream::connect(&self.socket) {
                if Dom0::new(stream)
                    .request(MessageKind::DIRECTORY, b"/\0")
                    .is_ok()
                {
                    return;
                }
            }
            let ended = self.child.try_wait().expect("wait for the daemon");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{} {}:\n{}",
                self.daemon.program(),
                ended.map_or("does not answer".to_owned(), |status| format!(
                    "ended with {status}"
                )),
                self.output()
            );
            sleep(Duration::from_millis(2));
        }
    }

    /// Returns the kind of the server.
    pub fn daemon(&self) -> Daemon {
        self.daemon
    }

    /// Path of the server's Unix socket. Its clients act as domain 0.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Process ID of the server.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns everything that the server has printed.
    pub fn output(&self) -> String {
        fs::read_to_string(self.directory.path().join("output")).unwrap_or_default()
    }

    /// Creates a domain: introduces it and builds its tree as the toolstack does.
    pub fn guest(&self, domid: u16, toolstack: Toolstack) -> Guest {
        Guest::create(self.socket(), self.directory(), domid, toolstack)
    }

    /// Directory of the shim's pages and event channels.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Xenstored {
    fn drop(&mut self) {
        // The process may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Starts the server with all of its files in `directory`.
fn spawn(daemon: Daemon, directory: &Path) -> Child {
    let at = |name: &str| directory.join(name);
    fs::write(at("shim.so"), shim()).expect("write the shim");
    fs::write(at("xsd_port"), "3").expect("write xsd_port");
    File::create(at("xsd_kva"))
        .and_then(|file| file.set_len(4096))
        .expect("make xsd_kva");
    let output = File::create(at("output")).expect("make a file for the daemon's output");

    let mut command = match daemon {
        Daemon::C => {
            let mut command = Command::new(daemon.program());
            command
                .arg("--no-fork")
                .env("LD_PRELOAD", at("shim.so"))
                .env("XENSTORED_RUNDIR", directory)
                .env("XENSTORED_ROOTDIR", directory);
            command
        }
        Daemon::OCaml => oxenstored(directory),
    };
    command
        .env("XENSTORED_SHIM_DIR", directory)
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("share the output file"))
        .stderr(output)
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().to_string_lossy()))
}

/// oxenstored has fixed paths for its socket and PID file, so it runs in a mount namespace in which
/// `directory` is mounted there.
fn oxenstored(directory: &Path) -> Command {
    let config = directory.join("oxenstored.conf");
    let text = format!(
        "pid-file = {directory}/pid\n\
         perms-activate = true\nperms-watch-activate = true\n\
         quota-activate = true\nquota-maxentity = 1000\nquota-maxsize = 2048\nquota-maxwatch = 100\n\
         quota-transaction = 10\nquota-maxrequests = 1024\nquota-path-max = 1024\n\
         persistent = false\nxenstored-log-file = {directory}/log\naccess-log-file = {directory}/access.log\n\
         xenstored-kva = {directory}/xsd_kva\nxenstored-port = {directory}/xsd_port\n",
        directory = directory.display()
    );
    fs::write(&config, text).expect("write oxenstored's settings");
    fs::create_dir_all("/run/xenstored").expect("make /run/xenstored: oxenstored needs root");

    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg(
            r#"mount --bind "$1" /run/xenstored && exec env LD_PRELOAD="$1/shim.so" "$2" --no-fork --config-file "$3""#,
        )
        .arg("sh")
        .arg(directory)
        .arg(Daemon::OCaml.program())
        .arg(config);
    command
}

/// Returns the compiled shim. Each test program compiles it once.
fn shim() -> &'static [u8] {
    static SHIM: OnceLock<Vec<u8>> = OnceLock::new();
    SHIM.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/shim/xenstored-shim.c");
        let directory = tempfile::tempdir().expect("make a temporary directory");
        let library = directory.path().join("shim.so");
        let compiled = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(source)
            .output()
            .unwrap_or_else(|error| panic!("cc: {error}: install a C compiler (gcc, libc6-dev)"));
        assert!(
            compiled.status.success(),
            "cc cannot compile {source} (is libc6-dev installed?):\n{}",
            String::from_utf8_lossy(&compiled.stderr)
        );
        fs::read(library).expect("read the shim")
    })
}
