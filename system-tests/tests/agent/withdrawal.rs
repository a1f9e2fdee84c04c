//! The command `withdraw`.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use xenstore::Nodes;

use rustix::process::{Pid, Signal, kill_process};
use system_tests::{
    Agent, Daemon, FakeRoot, Profile, Testbed, Toolstack, build, on_both_daemons, time_limit,
};

/// A guest in which the agent can lock its runtime directory.
fn testbed(daemon: Daemon, toolstack: Toolstack) -> Testbed {
    let testbed = crate::testbed(daemon, toolstack);
    std::fs::create_dir(testbed.root.join("run")).unwrap();
    testbed
}

on_both_daemons! {
    withdrawal_leaves_the_nodes_that_the_agent_found
    withdrawal_is_refused_while_the_agent_runs
}

/// Runs `withdraw` in the guest.
fn withdraw(testbed: &Testbed) -> Output {
    let agent = testbed.command(Profile::Debug);
    let mut command = Command::new(agent.get_program());
    let mut arguments: Vec<_> = agent.get_args().collect();
    arguments.retain(|argument| {
        let argument = argument.to_string_lossy();
        argument != "--stderr" && !argument.starts_with("--confine=")
    });
    command
        .args(arguments)
        .arg("withdraw")
        .env_remove("RUST_LOG");
    command.stdin(Stdio::null()).output().unwrap()
}

/// Returns the exit status and the text on standard output and standard error.
fn result(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (printed, log) = (text(&output.stdout), text(&output.stderr));
    (output.status.code(), printed, log)
}

fn withdrawal_leaves_the_nodes_that_the_agent_found(daemon: Daemon) {
    for toolstack in [Toolstack::Xapi, Toolstack::Libxl] {
        let mut testbed = testbed(daemon, toolstack);
        let home = testbed.guest.home();
        let foreign = format!("{home}/data/service/their/state");
        testbed.dom0.write(&foreign, "up").unwrap();
        let before = testbed.nodes();

        for schema in ["std", "rfc"] {
            testbed.root.write("services.d/web.conf", "port = 80\n");
            let options = ["--schema", schema, "--services-directory", "/services.d"];
            let mut command = testbed.command(Profile::Debug);
            command.args(options);
            let agent = Agent::spawn(command, &testbed.root.join("log"));
            testbed.await_nodes(|nodes| {
                nodes.contains_key("data/service/web/port")
                    && nodes.contains_key("feature/hotplug/vif")
            });
            agent.stop();

            let (status, printed, log) = result(&withdraw(&testbed));
            assert_eq!((status, log.as_str()), (Some(0), ""), "{printed}");
            let nodes = printed
                .strip_prefix("withdrew ")
                .and_then(|rest| rest.strip_suffix(" nodes\n"));
            let nodes: usize = nodes.unwrap().parse().unwrap();
            assert!(nodes > 10, "{nodes}");
            assert_eq!(testbed.nodes(), before, "{schema}");
        }

        let expected = "nothing to withdraw: Xenstore has no nodes of the agent\n";
        let (status, printed, _) = result(&withdraw(&testbed));
        assert_eq!((status, printed.as_str()), (Some(0), expected));
    }
}

fn withdrawal_is_refused_while_the_agent_runs(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    let agent = testbed.start();
    let before = testbed.nodes();
    let (status, printed, log) = result(&withdraw(&testbed));
    assert_eq!((status, printed.as_str()), (Some(4), ""));
    assert!(log.contains("another agent is running"), "{log}");
    assert_eq!(testbed.nodes(), before);
    agent.stop();
}

#[test]
#[ignore = "needs root and xenstored"]
fn withdrawal_ends_although_xenstored_does_not_answer() {
    let mut testbed = testbed(Daemon::C, Toolstack::Xapi);
    testbed.start().stop();
    let server = Pid::from_raw(i32::try_from(testbed.store.pid()).unwrap()).unwrap();
    kill_process(server, Signal::STOP).unwrap();
    let begin = Instant::now();
    let (status, printed, log) = result(&withdraw(&testbed));
    kill_process(server, Signal::CONT).unwrap();

    assert_eq!((status, printed.as_str()), (Some(1), ""));
    assert!(
        log.contains("withdraw: no reply from Xenstore at "),
        "{log}"
    );
    assert!(begin.elapsed() < time_limit(Duration::from_secs(15)));
}

#[test]
#[ignore = "needs root"]
fn withdrawal_without_xenstore_does_nothing_and_exits_with_0() {
    let root = FakeRoot::new();
    std::fs::create_dir(root.join("run")).unwrap();
    for is_guest in [true, false] {
        if !is_guest {
            root.remove("sys/hypervisor/type");
        }
        let script = format!(
            "mount -t tmpfs none /dev && exec \"$0\" --root {} withdraw",
            root.path().display()
        );
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-ec", &script])
            .arg(build("xen-guest-agent", Profile::Debug))
            .env_remove("XENSTORED_PATH")
            .env("XENSTORED_RUNDIR", root.path())
            .output()
            .unwrap();
        let (status, printed, log) = result(&output);
        assert_eq!((status, log.as_str()), (Some(0), ""), "{printed}");
        assert!(
            printed.starts_with("nothing to withdraw: ") && printed.lines().count() == 1,
            "{printed}"
        );
        let run = std::fs::read_dir(root.join("run")).unwrap();
        assert_eq!(run.count(), 0, "no directory is created");
    }
}
