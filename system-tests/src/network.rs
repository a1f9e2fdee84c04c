//! Network namespaces.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

/// A network namespace for one test. At first it contains only `lo`, which is down. Needs root.
///
/// A child process keeps the namespace open. The child ends when its standard input closes, so the
/// namespace also disappears when the test program crashes.
pub struct Network {
    holder: Child,
}

impl Network {
    /// Creates the namespace.
    pub fn new() -> Self {
        // Duplicate address detection would delay link-local addresses by a second or two.
        let script = "for at in all default; do echo 0 >/proc/sys/net/ipv6/conf/$at/accept_dad; done; exec cat";
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("unshare: {error}: install util-linux"));
        // The echo shows that the child has entered its namespace.
        let echo = holder
            .stdin
            .as_mut()
            .expect("a pipe")
            .write_all(b"ready\n")
            .and_then(|()| {
                let mut line = String::new();
                BufReader::new(holder.stdout.as_mut().expect("a pipe"))
                    .read_line(&mut line)
                    .map(|_| line)
            });
        let network = Network { holder };
        assert!(
            echo.is_ok_and(|line| line == "ready\n"),
            "unshare --net failed: it needs root"
        );
        network
    }

    /// Returns a command that runs in the namespace. Its process is the program itself, so signals
    /// and waiting work as usual.
    ///
    /// Only the network is another: `/sys/class/net` still shows the machine's interfaces.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.namespace()))
            .arg("--")
            .arg(program);
        command
    }

    /// Path of the namespace for setns(2).
    pub fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// Runs `ip` in the namespace with arguments separated by white space, and returns its output.
    #[track_caller]
    pub fn ip(&self, arguments: &str) -> String {
        let output = self
            .command("ip")
            .args(arguments.split_whitespace())
            .output()
            .unwrap_or_else(|error| panic!("nsenter: {error}: install util-linux"));
        assert!(
            output.status.success(),
            "ip {arguments} (of iproute2): {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Adds an Ethernet interface that is up and has a carrier. It has only a link-local address.
    ///
    /// The interface is one end of a veth pair, because many kernels lack dummy interfaces. The
    /// other end is `<name>-peer` and is up, too.
    #[track_caller]
    pub fn add_interface(&self, name: &str) {
        self.ip(&format!("link add {name} type veth peer name {name}-peer"));
        self.ip(&format!("link set {name}-peer up"));
        self.ip(&format!("link set {name} up"));
    }
}

impl Default for Network {
    fn default() -> Self {
        Network::new()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}
