//! Restrictions of the confined agent.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::Signal;
use system_tests::{
    ALLOWED_ACTIONS, Agent, DENIED_ACTIONS, Daemon, Profile, TIMEOUT, Testbed, Toolstack, build,
    build_example, eventually,
};

use crate::testbed;

/// Signal that ends a process after a system call that its filter does not allow.
const SIGSYS: i32 = 31;

/// User ID that the tests give to the agent.
const NOBODY: u32 = 65534;

#[test]
#[ignore = "needs root"]
fn forbidden_actions_are_refused() {
    let example = build_example("confined");
    // The user of the test must be able to enter all directories above.
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("confined");
    fs::copy(example, &program).unwrap();
    let run = |mode: &str, action: &str| -> Output {
        Command::new(&program)
            .args([mode, action])
            .output()
            .unwrap()
    };

    for mode in ["user", "uid0"] {
        for action in ALLOWED_ACTIONS {
            let output = run(mode, action);
            assert_eq!(output.status.code(), Some(0), "{mode} {action}: {output:?}");
        }
        for action in DENIED_ACTIONS {
            let output = run(mode, action);
            assert_eq!(output.status.code(), Some(1), "{mode} {action}: {output:?}");
            let printed = String::from_utf8_lossy(&output.stdout);
            assert!(printed.contains("Permission denied"), "{mode}: {printed}");
        }
        for action in [
            "exec",
            "internet-socket",
            "ptrace",
            "kill",
            "mount",
            "unshare",
            "executable-memory",
            "set-user",
        ] {
            let output = run(mode, action);
            let signal = output.status.signal();
            assert_eq!(signal, Some(SIGSYS), "{mode} {action}: {output:?}");
        }
    }
    let output = run("user", "read-shadow");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

/// Lets user [`NOBODY`] be the user of an agent in this testbed.
fn prepare(testbed: &Testbed) {
    fs::create_dir(testbed.root.join("run")).unwrap();
    fs::set_permissions(testbed.root.path(), Permissions::from_mode(0o755)).unwrap();
    let passwd = format!("root:x:0:0::/:\nxen-guest-agent:x:{NOBODY}:{NOBODY}::/:\n");
    testbed.root.write("etc/passwd", &passwd);
}

fn start(testbed: &mut Testbed, mode: &str) -> Agent {
    testbed.set_confine(mode);
    let agent = testbed.start_as(Profile::Debug);
    // The nodes of an earlier agent may be there already.
    if mode != "off" {
        eventually(|| agent.proc("status").contains("Seccomp:\t2"), TIMEOUT);
    }
    testbed.await_network();
    agent
}

fn owner(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().uid()
}

#[test]
#[ignore = "needs root and xenstored"]
fn confined_agent_has_no_privileges_and_follows_changes() {
    for (mode, uid) in [("user", NOBODY), ("uid0", 0)] {
        let mut testbed = testbed(Daemon::C, Toolstack::Xapi);
        prepare(&testbed);
        testbed
            .root
            .write("etc/xen-guest-agent/services.d/web.conf", "state = up\n");
        let agent = start(&mut testbed, mode);

        let status = agent.proc("status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(field("Uid:"), format!("{uid} {uid} {uid} {uid}"), "{mode}");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{mode} {set}");
        }
        assert_eq!(
            (field("NoNewPrivs:"), field("Seccomp:")),
            ("1".to_owned(), "2".to_owned())
        );
        if mode == "user" {
            assert_eq!(field("Groups:"), "", "{mode}");
        }

        // A new address, a new VIF, a new service, settings and a resume.
        testbed.network.ip("addr add 10.0.0.77/24 dev lan");
        // The kernel's own directory exists before the event, too.
        testbed.root.add_vif("new", 2);
        testbed.network.add_interface("new");
        testbed.network.ip("addr add 10.0.2.2/24 dev new");
        testbed.await_network();
        testbed
            .root
            .write("etc/xen-guest-agent/services.d/db.conf", "state = up\n");
        testbed.await_nodes(|nodes| nodes.contains_key("data/service/db/state"));
        agent.signal(Signal::HUP);
        eventually(|| agent.log().contains("settings reloaded"), TIMEOUT);
        testbed.guest.resume();
        testbed.await_nodes(|nodes| nodes.contains_key("data/service/db/state"));
        testbed.await_network();

        let directory = testbed.root.join("run/xen-guest-agent");
        assert_eq!(owner(&directory), 0, "{mode}");
        assert_eq!(owner(&directory.join("lock")), 0, "{mode}");
        assert_eq!(owner(&directory.join("state")), 0, "{mode}");
        for path in ["state/status", "state/services"] {
            assert_eq!(owner(&directory.join(path)), uid, "{mode} {path}");
        }
        let status = || {
            let output = Command::new(build("xen-guest-agent", Profile::Debug))
                .args(["status", "--root"])
                .arg(testbed.root.path())
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let described = if mode == "user" {
            "user xen-guest-agent"
        } else {
            "uid 0"
        };
        let expected = format!("confinement = \"{described}, no capabilities, no new privileges");
        eventually(|| status().contains(&expected), TIMEOUT);
        assert_eq!(agent.stop().matches("warn").count(), 0, "{mode}");

        // Root reads the state of the agent's user, and owns it again.
        fs::remove_file(testbed.root.join("etc/xen-guest-agent/services.d/web.conf")).unwrap();
        let agent = start(&mut testbed, "off");
        testbed.await_nodes(|nodes| !nodes.contains_key("data/service/web"));
        assert_eq!(owner(&directory.join("state/services")), 0, "{mode}");
        agent.stop();
    }
}

/// The capabilities that the unit leaves to the agent.
const CAPABILITIES: &str = "-all,+setuid,+setgid,+setpcap";

/// Starts the agent with [`CAPABILITIES`].
fn start_with_few_capabilities(testbed: &mut Testbed, mode: &str) -> Agent {
    testbed.set_confine(mode);
    let whole = testbed.command(Profile::Debug);
    let mut command = testbed.network.command("setpriv");
    command.arg(format!("--bounding-set={CAPABILITIES}"));
    // The arguments before the agent's path enter the namespace.
    let is_agent = |argument: &&OsStr| argument.to_string_lossy().ends_with("xen-guest-agent");
    command.args(whole.get_args().skip_while(|argument| !is_agent(argument)));
    let agent = Agent::spawn(command, &testbed.root.join("log"));
    eventually(|| agent.proc("status").contains("Seccomp:\t2"), TIMEOUT);
    testbed.await_network();
    agent
}

#[test]
#[ignore = "needs root and xenstored"]
fn root_without_capabilities_keeps_the_state_of_a_confined_user() {
    let mut testbed = testbed(Daemon::C, Toolstack::Xapi);
    prepare(&testbed);
    let services = "etc/xen-guest-agent/services.d";
    for service in ["db", "web"] {
        let file = format!("{services}/{service}.conf");
        testbed.root.write(&file, "state = up\n");
    }
    let state = testbed.root.join("run/xen-guest-agent/state");

    // The second and the third agent find the names of services in the file of the user.
    for (mode, services_left, uid) in [("user", 2, NOBODY), ("user", 1, NOBODY), ("uid0", 0, 0)] {
        for service in ["db", "web"].iter().skip(services_left) {
            let file = testbed.root.join(&format!("{services}/{service}.conf"));
            fs::remove_file(file).ok();
        }
        let agent = start_with_few_capabilities(&mut testbed, mode);
        testbed.await_nodes(|nodes| {
            let is_service =
                |name: &&String| name.starts_with("data/service/") && name.ends_with("/state");
            nodes.keys().filter(is_service).count() == services_left
        });
        let is_written = |name: &str| fs::exists(state.join(name)).unwrap();
        eventually(|| is_written("status") && is_written("services"), TIMEOUT);
        assert_eq!(owner(&state.join("status")), uid, "{mode}");
        assert_eq!(agent.stop(), "", "{mode}");

        // An attacker with the agent's user may leave this, which only that user can remove.
        for name in ["status.new", "services.new"] {
            let blocked = state.join(name);
            fs::create_dir_all(blocked.join("deep")).unwrap();
            for path in [blocked.join("deep"), blocked] {
                std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
                fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
            }
        }
    }
}

#[test]
#[ignore = "needs root and xenstored"]
fn confined_user_ends_if_it_may_not_connect_again() {
    let mut testbed = testbed(Daemon::C, Toolstack::Xapi);
    prepare(&testbed);
    let mut agent = start(&mut testbed, "user");
    let before = testbed.nodes();
    fs::set_permissions(testbed.guest.socket(), Permissions::from_mode(0o600)).unwrap();
    testbed.guest.hang_up();
    assert_eq!(agent.wait().code(), Some(1), "{}", agent.log());
    assert!(
        agent
            .log()
            .contains("the confined agent cannot connect again"),
        "{}",
        agent.log()
    );
    assert_eq!(testbed.nodes(), before);

    // Another user of the same agent reconnects.
    let mut agent = start(&mut testbed, "uid0");
    testbed.guest.hang_up();
    eventually(|| agent.log().contains("connected to Xenstore"), TIMEOUT);
    assert!(agent.is_running());
    agent.stop();
}

#[test]
#[ignore = "needs root and xenstored"]
fn files_that_the_confined_user_cannot_read_are_named() {
    let mut testbed = testbed(Daemon::C, Toolstack::Xapi);
    prepare(&testbed);
    let name = "etc/xen-guest-agent/services.d/private.conf";
    testbed.root.write(name, "state = up\n");
    let file = testbed.root.join(name);
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let agent = start(&mut testbed, "user");
    let nodes = testbed.nodes();
    assert_eq!(
        nodes.get("data/service/private/state").map(String::as_str),
        Some("up")
    );
    let path = file.display();
    let expected = format!("run: chgrp xen-guest-agent '{path}' && chmod g+r '{path}'");
    eventually(|| agent.log().contains(&expected), TIMEOUT);
    agent.stop();
}
