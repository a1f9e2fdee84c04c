//! The agent whose connection to xenstored breaks, on both daemons.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "all of this is test code"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use system_tests::{
    Agent, Bed, Collector, Daemon, MOMENT, Profile, SOON, Toolstack, build, eventually,
    on_both_daemons, tree,
};
use xenstore::{Client, Transport};

on_both_daemons! {
    a_connection_that_breaks_is_made_again
    a_server_that_is_started_again_has_all_published
    a_silent_server_does_not_keep_it_from_ending
}

fn bed(daemon: Daemon) -> Bed {
    let bed = Bed::new(daemon, Toolstack::Xapi, Collector::Netlink, &["lan"]);
    bed.network.ip("addr add 10.0.0.2/24 dev lan");
    bed
}

fn descriptors(agent: &Agent) -> usize {
    fs::read_dir(Path::new("/proc").join(agent.id().to_string()).join("fd"))
        .unwrap()
        .count()
}

fn a_connection_that_breaks_is_made_again(daemon: Daemon) {
    let mut bed = bed(daemon);
    let agent = bed.start();
    // What was on its way when the connection broke may have arrived, and is announced on the next one.
    let undated = |mut nodes: BTreeMap<String, String>| {
        nodes.remove("data/updated");
        nodes
    };
    let (before, open) = (undated(bed.nodes()), descriptors(&agent));
    let count = |what: &str| {
        agent
            .log()
            .lines()
            .filter(|line| line.contains(what))
            .count()
    };
    for (last, losses) in (3..6).zip(1..) {
        bed.guest.hang_up();
        bed.network
            .ip(&format!("addr add 10.0.0.{last}/24 dev lan"));
        let begin = Instant::now();
        bed.await_truth();
        // The first attempt is a second after the loss.
        assert!(
            begin.elapsed() < Duration::from_secs(3),
            "{:?}",
            begin.elapsed()
        );
        bed.network
            .ip(&format!("addr del 10.0.0.{last}/24 dev lan"));
        bed.await_nodes(|nodes| undated(nodes.clone()) == before);
        // Another loss before that would be one with the first.
        eventually(|| count("connected to Xenstore") == losses, SOON);
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

fn a_server_that_is_started_again_has_all_published(daemon: Daemon) {
    let mut bed = bed(daemon);
    // In domain 0: a guest's connection does not outlive its server.
    let mut command = bed
        .network
        .command(build("xen-guest-agent", Profile::Debug));
    command.arg("--stderr").arg("--root").arg(bed.root.path());
    command.arg(format!(
        "--xenstore=socket={}",
        bed.store.socket().display()
    ));
    let agent = Agent::spawn(command, &bed.root.join("log"));
    let published = |bed: &Bed| {
        let mut dom0 = Client::new(Transport::connect(bed.store.socket()).unwrap());
        let mut nodes = tree(&mut dom0, "/local/domain/0");
        nodes.retain(|path, _| path != "data/updated" && path != "data/meminfo_free");
        nodes
    };
    // The link-local address comes last.
    let before = eventually(
        || Some(published(&bed)).filter(|nodes| nodes.contains_key("attr/vif/0/ipv6/1/prefix")),
        SOON,
    );
    assert_eq!(before["attr/vif/0/ipv4/0"], "10.0.0.2");
    bed.store.restart();
    eventually(|| published(&bed) == before, SOON);
    bed.network.ip("addr add 10.0.0.3/24 dev lan");
    eventually(
        || published(&bed).contains_key("attr/vif/0/ipv4/1/prefix"),
        SOON,
    );
    let log = agent.stop();
    let lines: Vec<_> = log.lines().collect();
    let is_said = lines.len() == 2
        && lines[0].contains("trying again until it works")
        && lines[1].contains("connected");
    assert!(is_said, "{log}");
}

fn a_silent_server_does_not_keep_it_from_ending(daemon: Daemon) {
    let mut bed = bed(daemon);
    let mut agent = bed.start();
    let server = Pid::from_raw(i32::try_from(bed.store.pid()).unwrap()).unwrap();
    kill_process(server, Signal::STOP).unwrap();
    bed.network.ip("addr add 10.0.0.9/24 dev lan");
    sleep(MOMENT);
    agent.signal(Signal::TERM);
    let status = agent.wait();
    kill_process(server, Signal::CONT).unwrap();
    assert_eq!(status.code(), Some(0));
}
