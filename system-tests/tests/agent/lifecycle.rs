//! Restart and termination of the agent, and resume and checkpoint of its domain.

use std::collections::BTreeMap;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use system_tests::{
    Agent, Daemon, Profile, SETTLE_TIME, TIMEOUT, Toolstack, eventually, on_both_daemons,
    time_limit,
};
use xenstore::wire::MessageKind;

use crate::testbed;

on_both_daemons! {
    restart_writes_nothing_and_keeps_slots
    resume_republishes_within_a_second
    checkpoint_causes_no_request
    termination_signals_exit_with_0_and_keep_nodes
}

fn restart_writes_nothing_and_keeps_slots(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    let agent = testbed.start();

    // Slot 1 is free after this. The address in slot 2 keeps its slot.
    testbed.network.ip("addr add 10.8.0.1/16 dev lan");
    testbed.await_nodes(|nodes| nodes.contains_key("attr/vif/0/ipv4/2/prefix"));
    testbed.network.ip("addr del 10.0.0.3/24 dev lan");
    let before = testbed.await_nodes(|nodes| !nodes.contains_key("attr/vif/0/ipv4/1"));
    agent.stop();
    let mut second = None;
    let requests = testbed.requests_during(|testbed| {
        let before = testbed.guest.requests();
        second = Some(testbed.start_as(Profile::Debug));
        let has_started = || {
            let requests = testbed.guest.requests();
            let is_sent = |kind| requests.of(kind) > before.of(kind);
            is_sent(MessageKind::WATCH) && is_sent(MessageKind::READ)
        };
        eventually(has_started, TIMEOUT);
        sleep(SETTLE_TIME);
    });
    assert!(
        requests["WATCH"] > 0 && requests["READ"] > 0,
        "the agent did not start: {requests:?}"
    );
    assert!(
        !requests.contains_key("WRITE") && !requests.contains_key("RM"),
        "{requests:?}"
    );
    assert_eq!(testbed.nodes(), before);
}

fn resume_republishes_within_a_second(daemon: Daemon) {
    // Domains of libxl have no unique-domain-id.
    for toolstack in [Toolstack::Xapi, Toolstack::Libxl] {
        let mut testbed = testbed(daemon, toolstack);
        let agent = testbed.start();
        let strip = |mut nodes: BTreeMap<String, String>| {
            nodes.retain(|path, _| !matches!(path.as_str(), "data/updated" | "unique-domain-id"));
            nodes
        };
        let before = strip(testbed.nodes());
        for _ in 0..3 {
            testbed.guest.resume();
            let begin = Instant::now();
            testbed.await_nodes(|nodes| {
                strip(nodes.clone()) == before && nodes.contains_key("data/updated")
            });
            println!(
                "fully published {} ms after the resume",
                begin.elapsed().as_millis()
            );
            assert!(
                begin.elapsed() <= time_limit(Duration::from_secs(1)),
                "{:?}",
                begin.elapsed()
            );
        }
        let log = agent.stop();
        assert_eq!(log.matches("the domain was resumed").count(), 3, "{log}");

        // The write that libxl denies is logged once.
        assert_eq!(
            log.lines().count(),
            3 + usize::from(toolstack == Toolstack::Libxl),
            "{log}"
        );
    }
}

fn checkpoint_causes_no_request(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    let agent = testbed.start();
    assert_eq!(
        testbed.requests_during(|testbed| testbed.guest.checkpoint()),
        BTreeMap::new()
    );
    assert_eq!(agent.stop(), "");
}

fn termination_signals_exit_with_0_and_keep_nodes(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    for signal in [Signal::TERM, Signal::INT] {
        let mut agent = testbed.start();
        let before = testbed.nodes();
        agent.signal(signal);
        assert_eq!(agent.wait().code(), Some(0));
        assert_eq!(testbed.nodes(), before);
    }

    // The signal may come at any time. Before the handlers are installed it kills the process.
    for delay in 0..20 {
        let mut agent = testbed.start_as(Profile::Debug);
        sleep(Duration::from_micros(500 * delay));
        agent.signal(Signal::TERM);
        let status = agent.wait();
        let is_early =
            std::os::unix::process::ExitStatusExt::signal(&status) == Some(Signal::TERM.as_raw());
        assert!(
            status.code() == Some(0) || is_early,
            "after {delay}: {status} {}",
            agent.log()
        );
    }
}

#[test]
#[ignore = "needs root and xenstored"]
fn signals_blocked_by_the_parent_are_unblocked() {
    let testbed = testbed(Daemon::C, Toolstack::Xapi);
    for signal in [Signal::TERM, Signal::INT] {
        let agent = testbed.command(Profile::Debug);
        let mut command = Command::new("env");
        command.arg("--block-signal=TERM,INT,HUP");
        command.arg(agent.get_program()).args(agent.get_args());

        // A blocked signal waits, so it may come before the agent has installed its handlers.
        let mut agent = Agent::spawn(command, &testbed.root.join("log"));
        // Until then, env(1) has not blocked them yet.
        eventually(|| agent.proc("comm").starts_with("xen-guest"), TIMEOUT);
        agent.signal(Signal::HUP);
        eventually(|| agent.log().contains("settings reloaded"), TIMEOUT);
        agent.signal(signal);
        assert_eq!(agent.wait().code(), Some(0));
    }
}
