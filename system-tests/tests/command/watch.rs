//! `watch`.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

use system_tests::{Daemon, Xenstored};

use crate::{Tools, connect};

const PATHS: [&str; 4] = ["/w", "/w/a/b", "relative", "@releaseDomain"];

/// A `watch` that has printed each of [`PATHS`] already.
fn start(of: Tools, store: &Xenstored, number: usize) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut command = of.command(store.socket(), "xenstore-watch");
    let mut child = command
        .args(["-n", &number.to_string()])
        .args(PATHS)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Nobody is told of what happens before the watch is set.
    for path in PATHS {
        assert_eq!(lines.next().unwrap().unwrap(), path);
    }
    (child, lines)
}

pub(crate) fn watch_output_is_identical(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    // The last line is that of the node which ends it.
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
    // The order of what one change fires is the server's.
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    assert_eq!(
        sorted(printed[1].clone()),
        sorted(expected.map(str::to_owned).into())
    );
}
