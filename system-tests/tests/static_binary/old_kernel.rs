//! System calls that Linux 3.10 lacks. `CentOS` 7 has this kernel.
//!
//! These tests have never run on that kernel. strace lets the system calls fail instead, as that
//! kernel would.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use system_tests::{Agent, TIMEOUT, Testbed, eventually, static_agent, static_command};
use tempfile::TempDir;

use crate::testbed;

/// First system call on `x86_64` that Linux 3.10 lacks: `sched_setattr`. Numbers are assigned in
/// the order in which system calls are added.
const FIRST_NEW: u32 = 314;

/// Faults of old system calls, in strace's syntax: descriptors from `O_PATH` before Linux 3.12, and
/// `SO_SNDTIMEO_NEW` before Linux 5.1. The agent must repeat the latter call in its older form.
const OLD_CALLS: [&str; 2] = [
    "fstatfs:error=EBADF",
    "setsockopt:error=ENOPROTOOPT:when=1+2",
];

/// `PR_GET_AUXV`, the first prctl(2) of every program, before Linux 6.4.
const NO_AUXV: &str = "prctl:error=EINVAL:when=1";

/// `PR_CAPBSET_DROP` of the capabilities that Linux 3.10 lacks, and then `PR_CAP_AMBIENT`.
const NO_NEW_CAPABILITIES: &str = "prctl:error=EINVAL:when=39..43";

/// strace with these faults, and its output.
struct Tracer {
    directory: TempDir,
}

impl Tracer {
    fn new() -> Self {
        Tracer {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Adds options of strace and the traced program to a command that runs strace.
    fn trace(&self, command: &mut Command, prctl: &str, program: &Path) {
        // The numbers that strace 6.1 knows.
        let numbers = (FIRST_NEW..=334).chain(424..=450);
        let numbers: Vec<_> = numbers.map(|number| number.to_string()).collect();

        // The tracer is a grandchild, so that signals of the test reach the program.
        command
            .args(["-D", "-f", "-qq", "-n", "-o"])
            .arg(self.directory.path().join("trace"))
            .arg(format!("--inject={}:error=ENOSYS", numbers.join(",")));
        for fault in OLD_CALLS.iter().chain([&prctl]) {
            command.arg(format!("--inject={fault}"));
        }
        command.arg(program);
    }

    /// Returns the lines of calls that failed by injection.
    ///
    /// Panics if another call is newer than Linux 3.10.
    fn injected(&self) -> Vec<String> {
        let trace = fs::read_to_string(self.directory.path().join("trace")).unwrap();
        let (injected, other): (Vec<_>, Vec<_>) =
            trace.lines().partition(|line| line.ends_with("(INJECTED)"));
        assert!(other.len() > 50, "no complete trace: {other:?}");
        for line in other {
            let number = line
                .split_once('[')
                .and_then(|(_, rest)| rest.split_once(']'));
            // Other lines are about signals and the end.
            if let Some((number, _)) = number {
                let number: u32 = number.trim().parse().unwrap_or(0);
                assert!(number < FIRST_NEW, "{line}");
            }
        }
        injected.into_iter().map(str::to_owned).collect()
    }
}

/// Whether a traced call with this text failed.
fn has(injected: &[String], text: &str) -> bool {
    injected.iter().any(|line| line.contains(text))
}

/// Starts the agent, changes an address, reloads the settings and stops the agent. Returns its
/// whole log.
fn scenario(testbed: &mut Testbed, tracer: &Tracer, prctl: &str) -> String {
    let mut command = testbed.network.command("strace");
    tracer.trace(&mut command, prctl, &static_agent("x86_64"));
    command.args(testbed.arguments());
    let log = testbed.root.join("log");
    let agent = Agent::spawn(command, &log);
    testbed.await_nodes(|nodes| nodes.contains_key("data/updated"));
    testbed.await_network();

    testbed.network.ip("addr add 10.0.0.2/24 dev lan");
    testbed.await_network();
    testbed.guest.hang_up();
    eventually(|| agent.log().contains("connected to Xenstore"), TIMEOUT);
    agent.signal(Signal::HUP);
    eventually(|| agent.log().contains("settings reloaded"), TIMEOUT);
    testbed.network.ip("addr del 10.0.0.2/24 dev lan");
    testbed.await_network();

    agent.stop();
    fs::read_to_string(log).unwrap()
}

#[test]
#[ignore = "needs root, xenstored, strace and static binaries"]
fn agent_needs_no_system_call_that_linux_3_10_lacks() {
    let (mut testbed, tracer) = (testbed(), Tracer::new());
    let log = scenario(&mut testbed, &tracer, NO_AUXV);
    assert!(!log.contains("error"), "{log}");

    let injected = tracer.injected();
    assert!(has(&injected, "SO_SNDTIMEO_NEW"), "{injected:?}");
    assert!(has(&injected, "prctl("), "{injected:?}");
}

#[test]
#[ignore = "needs root, xenstored, strace and static binaries"]
fn confined_agent_needs_no_system_call_that_linux_3_10_lacks() {
    let (mut testbed, tracer) = (testbed(), Tracer::new());
    fs::create_dir(testbed.root.join("run")).unwrap();
    testbed.set_confine("uid0");
    let log = scenario(&mut testbed, &tracer, NO_NEW_CAPABILITIES);
    let expected = "confinement: uid 0, no capabilities, no new privileges; not available here: Landlock and seccomp";
    assert!(log.contains(expected), "{log}");

    let injected = tracer.injected();
    for call in ["landlock_create_ruleset", "seccomp", "PR_CAP_AMBIENT"] {
        assert!(has(&injected, call), "{call}: {injected:?}");
    }
    assert_eq!(
        injected
            .iter()
            .filter(|line| line.contains("PR_CAPBSET_DROP"))
            .count(),
        4,
        "{injected:?}"
    );
}

#[test]
#[ignore = "needs root, xenstored, strace and static binaries"]
fn commands_need_no_system_call_that_linux_3_10_lacks() {
    let testbed = testbed();
    let keys = |output: std::process::Output| -> Vec<String> {
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let key = |line: &str| line.split(" = ").next().unwrap().to_owned();
        text.lines().map(key).collect()
    };

    // Volumes of this machine have more facts than those of a test.
    for (program, arguments) in [
        (static_agent("x86_64"), ["show", "--volumes-enabled"]),
        (static_agent("x86_64"), ["config", "--volumes-enabled"]),
        (static_command("x86_64"), ["ls", "/local/domain/5"]),
    ] {
        let tracer = Tracer::new();
        let mut command = Command::new("strace");
        tracer.trace(&mut command, NO_AUXV, &program);
        command
            .args(arguments)
            .env("XENSTORED_PATH", testbed.guest.socket());
        let with_faults = keys(command.output().unwrap());

        let mut command = Command::new(&program);
        command
            .args(arguments)
            .env("XENSTORED_PATH", testbed.guest.socket());
        assert_eq!(
            with_faults,
            keys(command.output().unwrap()),
            "{arguments:?}"
        );

        let injected = tracer.injected();
        assert_eq!(
            has(&injected, "fstatfs"),
            arguments[0] == "show",
            "{injected:?}"
        );
    }
}
