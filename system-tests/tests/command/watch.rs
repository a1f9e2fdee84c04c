//! `watch`.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};
use xenstore::Nodes;

use system_tests::{Daemon, Xenstored};

use crate::{Tools, connect};

const PATHS: [&str; 4] = ["/w", "/w/a/b", "relative", "@releaseDomain"];

/// Starts `watch` and waits until it has printed each of [`PATHS`].
fn start(of: Tools, store: &Xenstored, number: usize) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut command = of.command(store.socket(), "xenstore-watch");
    let mut child = command
        .args(["-n", &number.to_string()])
        .args(PATHS)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();

    // Changes before the watches are set would be missed.
    for path in PATHS {
        assert_eq!(lines.next().unwrap().unwrap(), path);
    }
    (child, lines)
}

pub(crate) fn watch_output_is_identical(daemon: Daemon) {
    let store = Xenstored::start(daemon);

    // The last line belongs to the event that reaches the count.
    let expected = [
        "/w/a",
        "/w/a/b",
        "/w/a/b",
        "/w/a/b/c",
        "/w/a/b/c",
        "relative/x",
        "/w/t1",
        "/w/t2",
        "/w",
        "/w/a/b",
    ];
    let watches =
        [Tools::Xens, Tools::Ours].map(|of| start(of, &store, PATHS.len() + expected.len()));
    let mut client = connect(store.socket());
    client.write("/w/a", "1").unwrap();
    client.write("/w/a/b", "").unwrap();
    client.write("/w/a/b/c", "\n").unwrap();
    client.write("relative/x", "1").unwrap();
    client.write("/elsewhere", "1").unwrap();
    client
        .transaction(|transaction| {
            transaction.write("/w/t1", "1")?;
            transaction.write("/w/t2", "1")
        })
        .unwrap();
    client.remove("/w").unwrap();
    let printed = watches.map(|(mut child, lines)| {
        let lines: Vec<_> = lines.map(Result::unwrap).collect();
        assert!(child.wait().unwrap().success());
        lines
    });
    assert_eq!(printed[1], printed[0]);

    // The server determines the order of events of one change.
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    assert_eq!(
        sorted(printed[1].clone()),
        sorted(expected.map(str::to_owned).into())
    );
}
