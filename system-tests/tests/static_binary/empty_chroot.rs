//! A root directory without any file of a distribution.

use std::fs;
use std::process::{Command, Output};

use system_tests::{Agent, TIMEOUT, Testbed, eventually, static_agent};
use tempfile::TempDir;

use crate::testbed;

/// A directory that contains the agent, `/proc`, a socket of Xenstore and an empty `/run`. Of
/// `/sys` it has only the numbers of the VIFs and the type of the hypervisor.
struct Chroot(TempDir);

impl Chroot {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["proc", "run", "sys"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        fs::write(directory.path().join("xenstored"), "").unwrap();
        fs::copy(static_agent("x86_64"), directory.path().join("agent")).unwrap();
        Chroot(directory)
    }

    /// Returns a command that runs the agent in the directory and in the network of the testbed.
    fn command(&self, testbed: &Testbed, arguments: &[&str]) -> Command {
        let script = "root=$0 socket=$1 sys=$2; shift 2
            mount -t proc proc $root/proc
            mount --bind $socket $root/xenstored
            mount --bind $sys $root/sys
            exec chroot $root /agent \"$@\"";
        let mut command = testbed.network.command("unshare");
        command
            .args(["--mount", "sh", "-e", "-c", script])
            .arg(self.0.path())
            .arg(testbed.guest.socket())
            .arg(testbed.root.join("sys"))
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    fn run(&self, testbed: &Testbed, arguments: &[&str]) -> Output {
        self.command(testbed, arguments).output().unwrap()
    }
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
#[ignore = "needs root, xenstored and static binaries"]
fn agent_publishes_in_an_empty_chroot() {
    let mut testbed = testbed();
    testbed.network.ip("addr add 10.0.0.2/24 dev lan");
    let chroot = Chroot::new();

    let version = stdout(&chroot.run(&testbed, &["--version"]));
    assert_eq!(
        version,
        format!("xen-guest-agent {}\n", env!("CARGO_PKG_VERSION"))
    );
    let shown = stdout(&chroot.run(&testbed, &["show"]));
    assert!(shown.contains(r#""10.0.0.2""#), "{shown}");

    let command = chroot.command(&testbed, &["--stderr", "--xenstore=socket=/xenstored"]);
    let mut agent = Agent::spawn(command, &testbed.root.join("log"));
    testbed.await_nodes(|nodes| nodes.contains_key("data/updated"));
    let nodes = testbed.await_network();
    let value = |file: &str| fs::read_to_string(file).unwrap().trim().to_owned();
    assert_eq!(nodes["data/os_uname"], value("/proc/sys/kernel/osrelease"));
    assert_eq!(
        nodes["data/host_name_dns"],
        value("/proc/sys/kernel/hostname")
    );
    assert!(!nodes.contains_key("data/os_name"), "{nodes:?}");

    testbed.network.ip("addr add 10.0.0.3/24 dev lan");
    testbed.await_network();
    let status = || String::from_utf8(chroot.run(&testbed, &["status"]).stdout).unwrap();
    eventually(|| status().contains("state = \"published\""), TIMEOUT);
    assert!(agent.is_running());

    // The agents of other tests are visible in /proc.
    let log = agent.log();
    let about_others = |line: &&str| line.contains("another xen-guest-agent");
    let lines: Vec<_> = log.lines().filter(|line| !about_others(line)).collect();
    assert_eq!(
        lines,
        [
            "xen-guest-agent: warning: cannot determine the distribution: no os-release or release file found"
        ]
    );
    agent.stop();
}
