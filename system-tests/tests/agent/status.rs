//! Status file, lock, service manager and log of the agent.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use system_tests::{
    Agent, Daemon, FakeRoot, Profile, TIMEOUT, Testbed, Toolstack, build, eventually,
};

use crate::testbed;

/// Runs `xen-guest-agent status`. Returns its exit status and its output.
fn status(testbed: &Testbed) -> (Option<i32>, String) {
    let output = Command::new(build("xen-guest-agent", Profile::Debug))
        .arg("status")
        .arg("--root")
        .arg(testbed.root.path())
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code(), text)
}

#[test]
#[ignore = "needs root and xenstored"]
fn status_prints_no_control_characters() {
    let mut testbed = testbed(Daemon::C, Toolstack::Libxl);
    fs::create_dir(testbed.root.join("run")).unwrap();
    let _agent = testbed.start();
    eventually(|| status(&testbed).0 == Some(0), TIMEOUT);

    // The confined agent may write the file, also if an attacker runs code in it.
    let file = testbed.root.join("run/xen-guest-agent/state/status");
    fs::write(file, "state = \"\x1b[2J\r\u{9b}\"\nname\n").unwrap();
    let (code, text) = status(&testbed);
    assert_eq!(code, Some(1));
    assert_eq!(text, "state = \"\u{fffd}[2J\u{fffd}\u{fffd}\"\nname\n");
}

#[test]
#[ignore = "needs root and xenstored"]
fn status_exit_codes_and_lock() {
    let mut testbed = testbed(Daemon::C, Toolstack::Libxl);
    fs::create_dir(testbed.root.join("run")).unwrap();
    assert_eq!(status(&testbed).0, Some(3));
    let mut agent = testbed.start();
    let (code, text) = eventually(
        || Some(status(&testbed)).filter(|(code, _)| *code == Some(0)),
        TIMEOUT,
    );
    let id = agent.id();
    let expected = [
        "state = \"published\"".to_owned(),
        format!("process = {id}"),
        "schema = \"std\"".to_owned(),
        "network = \"netlink\"".to_owned(),
        format!("xenstore = \"{}\"", testbed.guest.socket().display()),
        "domain = 5".to_owned(),
        "denied = [\"control/feature-balloon\"]".to_owned(),
        "\"attr/vif/0/ipv4/0\" = \"10.0.0.2\"".to_owned(),
    ];
    for line in expected {
        assert!(
            text.lines().any(|known| known == line),
            "{line} is missing: {code:?} {text}"
        );
    }
    // A second agent exits with an error.
    let mut second = Agent::spawn(
        testbed.command(Profile::Debug),
        &testbed.root.join("second"),
    );
    assert_eq!(second.wait().code(), Some(4));
    assert!(
        second.log().contains("another agent is running"),
        "{}",
        second.log()
    );
    assert!(agent.is_running());
    testbed.guest.resume();
    eventually(|| status(&testbed).1.contains("resumed = "), TIMEOUT);
    // xenstored hangs.
    let server = Pid::from_raw(i32::try_from(testbed.store.pid()).unwrap()).unwrap();
    kill_process(server, Signal::STOP).unwrap();
    testbed.network.ip("addr add 10.0.0.77/24 dev lan");
    let (code, text) = eventually(
        || Some(status(&testbed)).filter(|(_, text)| text.contains("\"publishing\"")),
        TIMEOUT,
    );
    assert!(
        code == Some(1) && text.contains("pending = [\"attr/vif/0/ipv4/2\""),
        "{text}"
    );
    kill_process(server, Signal::CONT).unwrap();
    eventually(|| status(&testbed).0 == Some(0), TIMEOUT);
    // xenstored has ended.
    kill_process(server, Signal::KILL).unwrap();
    let (code, text) = eventually(
        || Some(status(&testbed)).filter(|(_, text)| text.contains("waiting for Xenstore")),
        TIMEOUT,
    );
    assert_eq!(code, Some(1), "{text}");
    agent.signal(Signal::TERM);
    agent.wait();
    assert_eq!(status(&testbed).0, Some(3));
}

#[test]
#[ignore = "needs root and xenstored"]
fn status_is_incomplete_while_nodes_are_denied() {
    let testbed = testbed(Daemon::C, Toolstack::None);
    fs::create_dir(testbed.root.join("run")).unwrap();
    let _agent = testbed.start_as(Profile::Debug);
    let (code, text) = eventually(
        || Some(status(&testbed)).filter(|(_, text)| text.contains("\"incomplete\"")),
        TIMEOUT,
    );
    assert_eq!(code, Some(1), "{text}");
    let denied = text.lines().find(|line| line.starts_with("denied = ["));
    assert!(
        denied.is_some_and(|line| line.contains("\"data/os_uname\"")),
        "{text}"
    );
}

#[test]
#[ignore = "needs root and xenstored"]
fn status_finds_the_agent_by_its_socket() {
    let testbed = testbed(Daemon::C, Toolstack::Xapi);
    fs::create_dir(testbed.root.join("run")).unwrap();
    // Every user may enter the directory, as with the real root.
    fs::set_permissions(testbed.root.path(), Permissions::from_mode(0o755)).unwrap();
    let file = testbed.root.join("run/xen-guest-agent/state/status");

    // A copy of the binary that every user may run.
    let binary = testbed.root.join("renamed");
    fs::copy(build("xen-guest-agent", Profile::Debug), &binary).unwrap();
    let status = |prefix: &[&str]| {
        let output = Command::new("unshare")
            .args(prefix)
            .arg(&binary)
            .args(["status", "--root"])
            .arg(testbed.root.path())
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let script = |script: &'static str| status(&["--mount", "sh", "-c", script]);

    // An unrelated process has the number and name of an agent that has ended.
    let mut unrelated = Command::new("sh");
    unrelated.args(["-c", "echo xen-guest-agent >/proc/self/comm; read line"]);
    let mut unrelated = unrelated.stdin(Stdio::piped()).spawn().unwrap();
    let text = format!("state = \"published\"\nprocess = {}\n", unrelated.id());
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, text).unwrap();
    assert_eq!(status(&["--mount"]).0, Some(3));
    unrelated.kill().unwrap();
    unrelated.wait().unwrap();

    // The agent's binary has another name, too.
    let mut command = testbed.network.command(&binary);
    command
        .arg("--stderr")
        .arg("--root")
        .arg(testbed.root.path())
        .arg(format!(
            "--xenstore=socket={}",
            testbed.guest.socket().display()
        ));
    let agent = Agent::spawn(command, &testbed.root.join("log"));
    eventually(|| status(&["--mount"]).0 == Some(0), TIMEOUT);
    for (name, (code, text)) in [
        (
            "user",
            script("exec setpriv --reuid=65534 --clear-groups \"$0\" \"$@\""),
        ),
        (
            "hidepid",
            script(
                "mount -t proc -o hidepid=2 none /proc && exec setpriv --reuid=65534 --clear-groups \"$0\" \"$@\"",
            ),
        ),
        (
            "PID namespace",
            status(&["--pid", "--fork", "--mount-proc"]),
        ),
        (
            "no /proc",
            script("mount -t tmpfs none /proc && exec \"$0\" \"$@\""),
        ),
    ] {
        assert_eq!(code, Some(0), "{name}: {text}");
    }

    // A FIFO in the place of the status file hangs nobody.
    fs::remove_file(&file).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::from(0o600)).unwrap();
    let (code, text) = status(&["--mount"]);
    assert!(
        code == Some(1) && text.contains("an agent is running, but its status is unknown"),
        "{text}"
    );
    drop(agent);
    assert_eq!(status(&["--mount"]).0, Some(3));
}

#[test]
#[ignore = "needs root and xenstored"]
fn status_with_a_read_only_or_full_run_directory() {
    let mut testbed = testbed(Daemon::C, Toolstack::Xapi);
    fs::create_dir(testbed.root.join("run")).unwrap();
    let run = testbed.root.join("run").display().to_string();
    let binary = build("xen-guest-agent", Profile::Debug)
        .display()
        .to_string();
    let root = testbed.root.path().display().to_string();
    let log = testbed.root.join("log").display().to_string();

    for (prepare, code, message) in [
        (
            "mount -o remount,ro $run",
            1,
            "cannot determine whether an agent is running",
        ),
        (
            "mkdir $run/xen-guest-agent && cat /dev/zero >$run/full 2>/dev/null",
            1,
            "an agent is running, but its status is unknown",
        ),
        (
            "cd $run && { touch $(seq 30) 2>/dev/null; cd /; }",
            1,
            "cannot determine whether an agent is running",
        ),
    ] {
        // A repeated report would follow the first one within a second.
        let script = format!(
            "run={run}; mount -t tmpfs -o size=64k,nr_inodes=20 none $run && {prepare}; \
             : >{log}; \"$@\" 2>{log} & agent=$!; \
             for i in $(seq 600); do grep -q 'cannot report' {log} && break; sleep 0.1; done; \
             sleep 1; {binary} status --root {root}; code=$?; \
             kill $agent; wait $agent; ended=$?; cat {log}; [ $ended = 0 ] && exit $code"
        );
        let agent = testbed.command(Profile::Debug);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh"]);
        command.arg(agent.get_program()).args(agent.get_args());
        let output = command.output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{prepare}: {text}");
        assert!(text.contains(message), "{prepare}: {text}");
        assert_eq!(
            text.matches("cannot report the status").count(),
            1,
            "{prepare}: {text}"
        );
        testbed.await_network();
    }
}

#[test]
#[ignore = "needs root and xenstored"]
fn other_running_agent_is_named_in_the_log() {
    let mut testbed = testbed(Daemon::C, Toolstack::Xapi);
    for (id, name) in [(1, "init"), (4711, "xe-daemon"), (4712, "xen-guest-agent")] {
        testbed
            .root
            .write(&format!("proc/{id}/comm"), &format!("{name}\n"));
        let line = format!("/usr/sbin/{name}\0-l\0debug\0");
        testbed.root.write(&format!("proc/{id}/cmdline"), &line);
    }
    let agent = testbed.start();
    eventually(|| agent.log().lines().count() >= 2, TIMEOUT);
    let log = agent.stop();
    assert!(
        log.lines().count() == 2
            && log.contains("xe-daemon (process 4711)")
            && log.contains("another xen-guest-agent (process 4712)"),
        "{log}"
    );
}

#[test]
fn journal_lines_have_a_priority_prefix() {
    let root = FakeRoot::new();
    root.remove("sys/hypervisor/type");
    let log = fs::File::create(root.join("log")).unwrap();
    let status = rustix::fs::fstat(&log).unwrap();
    let code = Command::new(build("xen-guest-agent", Profile::Debug))
        .args(["--xenstore", "socket", "--root"])
        .arg(root.path())
        .env_remove("XENSTORED_PATH")
        .env("XENSTORED_RUNDIR", root.path())
        .env(
            "JOURNAL_STREAM",
            format!("{}:{}", status.st_dev, status.st_ino),
        )
        .stderr(log)
        .status()
        .unwrap();
    assert_eq!(code.code(), Some(3));
    let logged = fs::read_to_string(root.join("log")).unwrap();
    assert!(
        logged.starts_with("<3>this is not a Xen guest") && logged.lines().count() == 1,
        "{logged}"
    );
}

#[test]
fn without_xen_the_agent_exits_with_3_and_names_show() {
    let root = FakeRoot::new();
    root.remove("sys/hypervisor/type");
    let output = Command::new(build("xen-guest-agent", Profile::Debug))
        .arg("--stderr")
        .arg("--root")
        .arg(root.path())
        .env_remove("XENSTORED_PATH")
        .env("XENSTORED_RUNDIR", root.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains("not a Xen guest")
            && stderr.ends_with("xen-guest-agent show --all-interfaces\n"),
        "{stderr}"
    );
}
