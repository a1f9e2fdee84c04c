//! Network namespaces.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

/// A network namespace of a test's own: nothing but a `lo` that is down, to begin with. Needs root.
///
/// A process holds it open, and ends when our end of its standard input closes: so the namespace and all that is in it go
/// away with this value and with the test program, however that ends. It has no name that could be taken.
pub struct Network {
    holder: Child,
}

impl Network {
    /// Makes the namespace.
    pub fn new() -> Self {
        // Without duplicate address detection, which would let link-local addresses appear a second or two later, in the
        // midst of a test.
        let script = "for at in all default; do echo 0 >/proc/sys/net/ipv6/conf/$at/accept_dad; done; exec cat";
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("unshare: {error}: install util-linux"));
        // Once it echoes, it is in its namespace.
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

    /// A command that will run inside. Its process is the program itself, so signals and waiting are as usual.
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

    /// The file that stands for the namespace, for setns(2).
    pub fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// Runs `ip` inside, with arguments separated by white space, and returns what it prints.
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

    /// Adds an Ethernet interface that is up and has a carrier, and no address but the link-local one.
    ///
    /// It is one end of a veth pair, since many a kernel is built without dummy interfaces; the other end is
    /// `<name>-peer`, also up.
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
