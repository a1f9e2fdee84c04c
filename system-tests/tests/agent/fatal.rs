//! A fatal error reaches the log and the user who started the agent at a terminal.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use system_tests::{FakeRoot, Profile, TIMEOUT, Terminal, build, receive};

const ERROR: &str = "this is not a Xen guest: ";

/// The files of a system that is not a Xen guest.
fn no_guest() -> FakeRoot {
    let root = FakeRoot::new();
    root.remove("sys/hypervisor/type");
    root
}

/// The agent in this system, with a `/dev` that contains nothing but `log`.
fn agent(root: &FakeRoot, options: &str) -> Command {
    let script = format!(
        "mount -t tmpfs none /dev && ln -s {0}/log /dev/log && exec \"$0\" {options} --root {0}",
        root.path().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]);
    command
        .arg(build("xen-guest-agent", Profile::Debug))
        .env_remove("XENSTORED_PATH")
        .env_remove("RUST_LOG")
        .env_remove("JOURNAL_STREAM")
        .env("XENSTORED_RUNDIR", root.path());
    command
}

fn run(command: Command) -> String {
    let (status, printed) = Terminal::new(500).run(command);
    let printed = String::from_utf8(printed).unwrap();
    assert_eq!(status.code(), Some(3), "{printed}");
    printed
}

#[test]
#[ignore = "needs root"]
fn fatal_error_is_logged_to_syslog_and_printed_on_the_terminal() {
    let root = no_guest();
    let syslog = UnixDatagram::bind(root.join("log")).unwrap();
    syslog.set_read_timeout(Some(TIMEOUT)).unwrap();

    for options in ["", "--loglevel=error"] {
        let printed = run(agent(&root, options));
        assert!(
            printed.starts_with(&format!("xen-guest-agent: error: {ERROR}"))
                && printed.lines().count() == 1,
            "{printed}"
        );
        let logged = receive(&syslog);
        assert!(
            logged.starts_with("<27>xen-guest-agent[") && logged.contains(ERROR),
            "{logged}"
        );
    }
}

#[test]
#[ignore = "needs root"]
fn fatal_error_is_printed_once_if_the_log_is_standard_error() {
    // The second system has no syslog, and so standard error is the log.
    for (has_syslog, options) in [(true, "--stderr"), (false, "")] {
        let root = no_guest();
        let syslog = has_syslog.then(|| UnixDatagram::bind(root.join("log")).unwrap());

        let printed = run(agent(&root, options));
        assert_eq!(printed.matches(ERROR).count(), 1, "{printed}");
        assert_eq!(printed.lines().count(), 1, "{printed}");
        if let Some(syslog) = syslog {
            syslog.set_nonblocking(true).unwrap();
            assert!(syslog.recv(&mut [0; 16]).is_err());
        }
        fs::remove_file(root.join("log")).ok();
    }
}

#[test]
#[ignore = "needs root"]
fn fatal_error_is_printed_although_the_log_is_off() {
    let root = no_guest();
    let syslog = UnixDatagram::bind(root.join("log")).unwrap();
    for options in ["--loglevel=off", "--loglevel=off --stderr"] {
        let printed = run(agent(&root, options));
        assert_eq!(printed.matches(ERROR).count(), 1, "{printed}");
    }
    syslog.set_nonblocking(true).unwrap();
    assert!(syslog.recv(&mut [0; 16]).is_err());
}

#[test]
#[ignore = "needs root"]
fn invalid_settings_are_logged_to_syslog_and_printed_on_the_terminal() {
    let root = no_guest();
    let syslog = UnixDatagram::bind(root.join("log")).unwrap();
    syslog.set_read_timeout(Some(TIMEOUT)).unwrap();

    let (status, printed) = Terminal::new(500).run(agent(&root, "--schema std --node-budget many"));
    let printed = String::from_utf8(printed).unwrap();
    assert_eq!(status.code(), Some(2), "{printed}");
    assert_eq!(printed.matches("\"many\"").count(), 1, "{printed}");
    let logged = receive(&syslog);
    assert!(
        logged.starts_with("<27>xen-guest-agent[") && logged.contains("\"many\""),
        "{logged}"
    );
}
