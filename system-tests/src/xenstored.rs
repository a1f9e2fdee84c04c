//! Xen's own daemons, run as they are on a machine without Xen.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xenstore::wire::Kind;

use crate::guest::Guest;
use crate::toolstack::{Dom0, Toolstack};

/// Which of Xen's two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// `xenstored`, the default of most distributions.
    C,
    /// `oxenstored`, which XCP-ng and XenServer run. Needs root, for a mount namespace of its own.
    OCaml,
}

impl Daemon {
    pub(crate) fn program(self) -> &'static str {
        match self {
            // The shim knows this version's library calls; newer ones differ.
            Daemon::C => "/usr/lib/xen-4.17/bin/xenstored",
            Daemon::OCaml => "/usr/lib/xen-4.17/bin/oxenstored",
        }
    }
}

/// A daemon of its own for a test, killed when dropped.
pub struct Xenstored {
    daemon: Daemon,
    child: Child,
    socket: PathBuf,
    directory: TempDir,
}

/// Nothing but a machine that stands still takes this long.
const START: Duration = Duration::from_secs(20);

impl Xenstored {
    /// Starts the daemon and waits until it answers. The quotas are what distributions set: 1000 nodes, 2048 bytes a
    /// value, 10 transactions, 128 watches of xenstored or 100 of oxenstored.
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

    /// Kills the daemon and starts another, that knows nothing of what the first did.
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
                if Dom0::new(stream).request(Kind::DIRECTORY, b"/\0").is_ok() {
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

    /// Which daemon this is.
    pub fn daemon(&self) -> Daemon {
        self.daemon
    }

    /// The daemon's Unix socket, whose clients are domain 0.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the daemon has printed.
    pub fn output(&self) -> String {
        fs::read_to_string(self.directory.path().join("output")).unwrap_or_default()
    }

    /// Makes a domain: introduces it and makes its tree as the toolstack does.
    pub fn guest(&self, domid: u16, toolstack: Toolstack) -> Guest {
        Guest::create(self, domid, toolstack)
    }

    /// Where the shim keeps pages and event channels.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Xenstored {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Starts the daemon with all its files in `directory`.
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

/// oxenstored's socket and pid file are at fixed places: it gets a mount namespace in which `directory` is there.
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

/// The shim's bytes, compiled once by each test program.
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
