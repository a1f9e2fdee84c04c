//! The agent when its connection to xenstored breaks, with both servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use system_tests::{
    Agent, Collector, Daemon, Profile, SETTLE_TIME, TIMEOUT, Testbed, Toolstack, build, eventually,
    is_published_with_link_local, on_both_daemons, tree,
};
use xenstore::{Client, Transport};

on_both_daemons! {
    lost_connection_is_reestablished
    restarted_xenstored_gets_all_nodes
    sigterm_ends_the_agent_while_xenstored_hangs
}

fn testbed(daemon: Daemon) -> Testbed {
    let testbed = Testbed::new(daemon, Toolstack::Xapi, Collector::Netlink, &["lan"]);
    testbed.network.ip("addr add 10.0.0.2/24 dev lan");
    testbed
}

fn descriptors(agent: &Agent) -> usize {
    fs::read_dir(Path::new("/proc").join(agent.id().to_string()).join("fd"))
        .unwrap()
        .count()
}

fn lost_connection_is_reestablished(daemon: Daemon) {
    let mut testbed = testbed(daemon);
    let agent = testbed.start();

    // A request may have been processed although its reply was lost, which is announced on the next
    // connection.
    let undated = |mut nodes: BTreeMap<String, String>| {
        nodes.remove("data/updated");
        nodes
    };
    let (before, open) = (undated(testbed.nodes()), descriptors(&agent));
    let count = |what: &str| {
        agent
            .log()
            .lines()
            .filter(|line| line.contains(what))
            .count()
    };
    for (last, losses) in (3..6).zip(1..) {
        testbed.guest.hang_up();
        testbed
            .network
            .ip(&format!("addr add 10.0.0.{last}/24 dev lan"));
        let begin = Instant::now();
        testbed.await_network();

        // The agent reconnects one second after the loss.
        assert!(
            begin.elapsed() < Duration::from_secs(3),
            "{:?}",
            begin.elapsed()
        );
        testbed
            .network
            .ip(&format!("addr del 10.0.0.{last}/24 dev lan"));
        testbed.await_nodes(|nodes| undated(nodes.clone()) == before);

        // An earlier loss would count as the same one.
        eventually(|| count("connected to Xenstore") == losses, TIMEOUT);
    }
    assert_eq!(descriptors(&agent), open);
    let log = agent.stop();
    let count = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(
        (
            count("trying again until it works"),
            count("connected to Xenstore")
        ),
        (3, 3),
        "{log}"
    );
    assert_eq!(log.lines().count(), 6, "{log}");
}

fn restarted_xenstored_gets_all_nodes(daemon: Daemon) {
    let mut testbed = testbed(daemon);

    // The agent runs as domain 0, because a guest's connection does not survive its server.
    let mut command = testbed
        .network
        .command(build("xen-guest-agent", Profile::Debug));
    command
        .arg("--stderr")
        .arg("--root")
        .arg(testbed.root.path());
    command.arg(format!(
        "--xenstore=socket={}",
        testbed.store.socket().display()
    ));
    let agent = Agent::spawn(command, &testbed.root.join("log"));
    let nodes = |testbed: &Testbed| {
        let mut dom0 = Client::new(Transport::open_socket_at(testbed.store.socket()).unwrap());
        tree(&mut dom0, "/local/domain/0")
    };
    let published = |testbed: &Testbed| {
        let mut nodes = nodes(testbed);
        nodes.retain(|path, _| path != "data/updated" && path != "data/meminfo_free");
        nodes
    };

    // Read once more, because that walk may have missed nodes written behind it.
    eventually(|| is_published_with_link_local(&nodes(&testbed)), TIMEOUT);
    let before = published(&testbed);
    assert_eq!(before["attr/vif/0/ipv4/0"], "10.0.0.2");
    testbed.store.restart();
    eventually(|| published(&testbed) == before, TIMEOUT);
    testbed.network.ip("addr add 10.0.0.3/24 dev lan");
    eventually(
        || published(&testbed).contains_key("attr/vif/0/ipv4/1/prefix"),
        TIMEOUT,
    );
    let log = agent.stop();
    let lines: Vec<_> = log.lines().collect();
    let is_said = lines.len() == 2
        && lines[0].contains("trying again until it works")
        && lines[1].contains("connected");
    assert!(is_said, "{log}");
}

fn sigterm_ends_the_agent_while_xenstored_hangs(daemon: Daemon) {
    let mut testbed = testbed(daemon);
    let mut agent = testbed.start();
    let server = Pid::from_raw(i32::try_from(testbed.store.pid()).unwrap()).unwrap();
    kill_process(server, Signal::STOP).unwrap();
    testbed.network.ip("addr add 10.0.0.9/24 dev lan");
    sleep(SETTLE_TIME);
    let begin = Instant::now();
    agent.signal(Signal::TERM);
    let status = agent.wait();
    let elapsed = begin.elapsed();
    kill_process(server, Signal::CONT).unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(elapsed <= Duration::from_secs(1), "{elapsed:?}");
}
