//! Destinations of the log, and its lines.

use std::io::Read as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Command;

use system_tests::{
    Agent, Daemon, FakeRoot, Profile, TIMEOUT, Testbed, Toolstack, build, eventually, receive,
};

use crate::testbed;

/// Returns the command with a `/dev` that contains nothing but a link to `log` in the testbed.
pub(crate) fn with_syslog(testbed: &Testbed) -> Command {
    let script = format!(
        "mount -t tmpfs none /dev && ln -s {}/log /dev/log && exec \"$@\"",
        testbed.root.path().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh"]);
    let agent = without_stderr_option(&testbed.command(Profile::Debug));
    command.arg(agent.get_program()).args(agent.get_args());
    command.env_remove("JOURNAL_STREAM");
    command
}

/// Returns the command without the option `--stderr`.
pub(crate) fn without_stderr_option(command: &Command) -> Command {
    let mut other = Command::new(command.get_program());
    other.args(
        command
            .get_args()
            .filter(|argument| *argument != "--stderr"),
    );
    other
}

#[test]
#[ignore = "needs root and xenstored"]
fn syslog_that_starts_later_gets_the_next_message() {
    let mut testbed = testbed(Daemon::C, Toolstack::Xapi);
    let agent = Agent::spawn(with_syslog(&testbed), &testbed.root.join("stderr"));
    testbed.await_network();
    eventually(|| agent.log().is_empty(), TIMEOUT);

    // Without a syslog, standard error gets the message.
    testbed.guest.hang_up();
    eventually(|| agent.log().contains("connected to Xenstore"), TIMEOUT);
    let before = agent.log();

    let log = testbed.root.join("log");
    let stream = UnixListener::bind(&log).unwrap();
    testbed.guest.hang_up();
    let (mut connection, _) = stream.accept().unwrap();
    let mut message = [0; 1024];
    let len = connection.read(&mut message).unwrap();
    let message = String::from_utf8_lossy(&message[..len]).into_owned();
    assert!(
        message.starts_with("<28>xen-guest-agent[") && message.contains("trying again"),
        "{message}"
    );
    assert!(message.contains('\0'), "the end of the message is missing");

    // Another syslog takes its place, with the other kind of socket.
    drop((stream, connection));
    std::fs::remove_file(&log).unwrap();
    let datagrams = UnixDatagram::bind(&log).unwrap();
    datagrams.set_read_timeout(Some(TIMEOUT)).unwrap();
    testbed.await_network();
    testbed.guest.hang_up();
    let message = receive(&datagrams);
    assert!(message.contains(">xen-guest-agent["), "{message}");
    assert_eq!(agent.log(), before, "standard error gets no more messages");
}

#[test]
fn control_characters_forge_no_log_line() {
    let root = FakeRoot::new();
    let name = "a\u{1b}[2J\n<0>kernel: forged\u{9b}31m\u{202e}";
    let log = root.join("log");
    let status = Command::new(build("xen-guest-agent", Profile::Debug))
        .arg("--xenstore")
        .arg(format!("socket=/nonexistent/{name}"))
        .args(["--stderr", "--root"])
        .arg(root.path())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn();
    let mut agent = status.unwrap();
    let logged = eventually(
        || {
            let logged = std::fs::read_to_string(&log).unwrap();
            logged.contains("trying again").then_some(logged)
        },
        TIMEOUT,
    );
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(
        logged
            .lines()
            .all(|line| line.starts_with("xen-guest-agent: ")),
        "{logged}"
    );
    assert!(
        logged.contains(r"a\u001b[2J\u000a<0>kernel: forged\u009b31m\u202e"),
        "{logged}"
    );
}
