//! The agent as a process, while Xenstore is not as it should be. None of this needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "all of this is test code")]

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use system_tests::{Agent, FakeRoot, Profile, SOON, build, eventually};

/// The agent in a system of its own, without a network.
fn command(root: &FakeRoot) -> Command {
    fs::create_dir(root.join("run")).unwrap();
    let mut command = Command::new(build("xen-guest-agent", Profile::Debug));
    command.args(["--stderr", "--network-mode", "off", "--root"]).arg(root.path());
    command.env_remove("XENSTORED_PATH").env("XENSTORED_RUNDIR", root.join("run/xenstored"));
    command
}

#[test]
fn a_silent_server_costs_nothing_though_nobody_can_be_told() {
    let roots = [(); 2].map(|()| FakeRoot::new());
    let agents = [true, false].map(|has_file| {
        let root = &roots[usize::from(has_file)];
        let mut command = command(root);
        if has_file {
            command.env("NOTIFY_SOCKET", root.join("nobody"));
        } else {
            // Neither the lock nor the status finds a place.
            root.write("run/xen-guest-agent", "");
        }
        let listener = UnixListener::bind(root.join("socket")).unwrap();
        command.arg("--xenstore").arg(format!("socket={}", root.join("socket").display()));
        (Agent::spawn(command, &root.join("log")), listener)
    });
    for (agent, _) in &agents {
        eventually(|| agent.log().contains("cannot tell how the agent is"), SOON);
    }
    let status = roots[1].join("run/xen-guest-agent/status");
    assert!(eventually(|| fs::read_to_string(&status).ok(), SOON).contains("\"publishing\""));
    let used = || {
        // In nanoseconds.
        agents.each_ref().map(|(agent, _)| agent.proc("schedstat").split(' ').next().unwrap().parse::<u64>().unwrap())
    };
    let before = used();
    sleep(Duration::from_secs(1));
    let used: Vec<_> = used().iter().zip(before).map(|(after, before)| after - before).collect();
    assert!(used.iter().all(|used| *used < 10_000_000), "{used:?} ns of a second");
    assert!(status.exists(), "the file is right, whoever else could not be told");
    for (agent, _) in agents {
        let log = agent.stop();
        assert_eq!(log.matches("cannot tell").count(), 1, "{log}");
    }
}
