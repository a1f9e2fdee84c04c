use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use system_tests::{Daemon, Xenstored, build_example};

/// Counts system calls by name while `reads` reads `count` times.
fn traced(program: &Path, client: &str, socket: &Path, count: u32) -> BTreeMap<String, u32> {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let status = Command::new("strace")
        .arg("-o")
        .arg(&trace)
        .arg(program)
        .arg(client)
        .arg(socket)
        .arg(count.to_string())
        .status()
        .unwrap_or_else(|error| panic!("strace: {error}: install strace"));
    assert!(status.success(), "{status}");

    let mut calls = BTreeMap::new();
    for line in fs::read_to_string(trace).unwrap().lines() {
        if let Some((name, _)) = line.split_once('(') {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    calls
}

/// Asserts that a read makes at most so many system calls.
#[track_caller]
fn assert_calls_per_read(client: &str, most: f64) {
    const READS: u32 = 1000;
    let program = build_example("reads");
    let store = Xenstored::start(Daemon::C);

    // The difference excludes start and end of the program.
    let once = traced(&program, client, store.socket(), READS);
    let twice = traced(&program, client, store.socket(), 2 * READS);
    let total = |calls: &BTreeMap<String, u32>| f64::from(calls.values().sum::<u32>());
    let per_read = (total(&twice) - total(&once)) / f64::from(READS);
    println!("{client}: {per_read} system calls per read");
    assert!(
        (2.0..=most).contains(&per_read),
        "{client}: {per_read} system calls per read\n{READS}: {once:?}\n{}: {twice:?}",
        2 * READS
    );
}

/// One each to send, to wait and to receive.
#[test]
#[ignore = "needs root, xenstored and strace"]
fn blocking_read_makes_three_system_calls() {
    assert_calls_per_read("Client", 3.0);
}

#[test]
#[ignore = "needs root, xenstored and strace"]
fn shared_read_makes_three_system_calls() {
    assert_calls_per_read("SharedClient", 3.0);
}

/// tokio polls epoll(7) for other tasks, too.
#[test]
#[ignore = "needs root, xenstored and strace"]
fn async_read_makes_few_system_calls() {
    assert_calls_per_read("AsyncClient", 4.3);
}
