//! The demo: the agent against a Xenstore server in the same process, on a machine without Xen.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

use std::fs;
use std::io::{BufRead, BufReader, Lines, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use system_tests::{Network, Profile, TIMEOUT, build, eventually, without_start_lines};
use xenstore::{Client, Nodes, Transport};

/// A running demo. Dropping it kills the process.
struct Demo {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Demo {
    fn spawn(command: &mut Command) -> Self {
        let mut process = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        Demo { process, output }
    }

    /// Waits for a line of the output that contains `wanted`, and returns it.
    #[track_caller]
    fn next(&mut self, wanted: &str) -> String {
        self.output
            .find_map(|line| line.ok().filter(|line| line.contains(wanted)))
            .unwrap_or_else(|| panic!("the demo ended without {wanted}"))
    }

    /// Reads the path of the socket for domain 0 from the introduction.
    fn socket(&mut self) -> PathBuf {
        let line = self.next("XENSTORED_PATH=");
        // Root is shown the built command, if there is one.
        let is_built =
            line.starts_with("  sudo ") && line.ends_with("/xenstore ls /local/domain/1");
        let is_run = line.ends_with(" cargo run --release -p xenstore-cli -- ls /local/domain/1");
        assert!(is_built || is_run, "{line}");
        let path = line.split(['=', ' ']).find(|word| word.starts_with('/'));
        PathBuf::from(path.unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Waits for the end of the demo. Returns the rest of the output, and the log without its lines
    /// about the start.
    #[track_caller]
    fn wait(mut self) -> (String, String) {
        let status = eventually(|| self.process.try_wait().unwrap(), TIMEOUT);
        let mut log = String::new();
        let mut stderr = self.process.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        assert_eq!(status.code(), Some(0), "{log}");

        let output: Vec<_> = self.output.by_ref().map(Result::unwrap).collect();
        let warnings = without_start_lines(&log).trim_end().to_owned();
        (output.join("\n"), warnings)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A command for the demo that leaves the machine's network as it is.
fn demo() -> Command {
    let mut command = Command::new(build("demo", Profile::Debug));
    command.arg("--no-interface");
    command
}

#[test]
#[ignore = "needs root"]
fn address_is_printed_at_once_and_the_interface_is_removed() {
    let network = Network::new();
    network.add_interface("lan");
    let mut demo = Demo::spawn(&mut network.command(build("demo", Profile::Debug)));
    let example = demo.next("ip address add ");
    assert!(
        example.ends_with("ip address add 192.0.2.2/24 dev demo0"),
        "{example}"
    );
    demo.next("/name = \"lan\"");
    // The last interface, whose nodes are printed last.
    demo.next("/name = \"demo0\"");

    for (interface, address) in [("lan", "192.0.2.77"), ("demo0", "192.0.2.2")] {
        let begin = Instant::now();
        network.ip(&format!("address add {address}/24 dev {interface}"));
        assert!(demo.next(address).ends_with(&format!(" = \"{address}\"")));
        assert!(
            begin.elapsed() < Duration::from_secs(2),
            "polling found it, and not an event"
        );
    }
    network.ip("address del 192.0.2.77/24 dev lan");
    assert!(demo.next("/ipv4 removed").starts_with("attr/vif/"));

    demo.signal(Signal::INT);
    let (_, log) = demo.wait();
    assert_eq!(log, "");
    assert!(!network.ip("link show").contains("demo0"));
}

#[test]
fn directory_of_sockets_is_private_and_unpredictable_under_any_umask() {
    let mut names = Vec::new();
    for umask in ["000", "022"] {
        let mut command = Command::new("sh");
        let script = format!("umask {umask}; exec \"$0\" --no-interface");
        command
            .args(["-c", &script])
            .arg(build("demo", Profile::Debug));
        let mut demo = Demo::spawn(&mut command);
        let socket = demo.socket();
        let directory = socket.parent().unwrap();
        let mode = fs::metadata(directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "umask {umask}");

        let name = directory.file_name().unwrap().to_str().unwrap().to_owned();
        let random = name.strip_prefix("xen-guest-agent-demo-").unwrap();
        assert!(random.len() >= 6, "{name}");
        assert_ne!(random, demo.process.id().to_string());
        names.push(name);
    }
    assert_ne!(names[0], names[1]);
}

#[test]
fn output_has_the_nodes_that_others_read() {
    let mut demo = Demo::spawn(&mut demo());
    let socket = demo.socket();
    let directory = socket.parent().unwrap();

    let printed = demo.next("data/os_uname = ");
    let mut client = Client::new(Transport::open_socket_at(&socket).unwrap());
    let kernel = client.read("/local/domain/1/data/os_uname").unwrap();
    let kernel = String::from_utf8(kernel).unwrap();
    assert_eq!(printed, format!("data/os_uname = \"{kernel}\""));

    demo.signal(Signal::TERM);
    assert_eq!(demo.wait().1, "");
    assert!(!directory.exists(), "{} is left", directory.display());
}

#[test]
fn denied_writes_are_not_printed() {
    let mut demo = Demo::spawn(&mut demo());
    let socket = demo.socket();
    // One of the last nodes of the first publication.
    demo.next("data/updated = ");
    let mut dom0 = Client::new(Transport::open_socket_at(&socket).unwrap());
    // The guest may not create this node again, because the toolstack owns its parent.
    dom0.remove("/local/domain/1/data").unwrap();
    assert_eq!(demo.next("data removed"), "data removed");

    let mut errors = BufReader::new(demo.process.stderr.take().unwrap()).lines();
    assert!(errors.any(|line| line.unwrap().contains("data/host_name_dns")));
    demo.signal(Signal::TERM);
    let rest: Vec<_> = demo.output.by_ref().map(Result::unwrap).collect();
    assert!(
        !rest.iter().any(|line| line.starts_with("data/")),
        "{rest:?}"
    );
}

#[test]
fn closed_terminal_ends_it() {
    let mut demo = Demo::spawn(&mut demo());
    demo.next("");
    demo.signal(Signal::HUP);
    demo.wait();
}

#[test]
fn closed_output_ends_it() {
    let mut command = Command::new("sh");
    command.args(["-c", "\"$0\" --no-interface | head -n 1"]);
    let demo = Demo::spawn(command.arg(build("demo", Profile::Debug)));
    demo.wait();
}

#[test]
fn agent_binary_contains_no_xenstore_server() {
    let contains_server = |package| {
        let binary = fs::read(build(package, Profile::Debug)).unwrap();
        // Part of the mangled names of functions, which debug binaries contain.
        let name = b"8xenstore8embedded";
        binary.windows(name.len()).any(|window| window == name)
    };
    assert!(contains_server("demo"));
    assert!(!contains_server("xen-guest-agent"));
}
