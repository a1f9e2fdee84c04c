//! `ls`, compared byte by byte.

use std::path::Path;

use system_tests::{Daemon, Terminal, Xenstored};
use xenstore::{Client, Nodes, Request};

use crate::{Rng, Tools, connect};

const NODES: usize = 1000;

/// Creates nodes of many depths, values and permissions below `/odd`.
fn make_odd_nodes(client: &mut Client, seed: u64) {
    let mut rng = Rng(seed);
    let mut paths = vec!["/odd".to_owned()];
    let mut requests = Vec::new();
    for number in 0..NODES {
        // Some nodes are added to random parents, and others to the newest one.
        let above = &paths
            [[rng.below(paths.len() as u64), paths.len() - 1][usize::from(rng.below(8) == 0)]];
        let name = ["n", "A-_@9", &"long".repeat(rng.below(20))][rng.below(3)].to_owned();
        let path = format!("{above}/{name}{number}");
        if path.len() > 800 {
            continue;
        }
        requests.push(Request::write(&path, rng.value()).unwrap());
        if rng.below(3) == 0 {
            let count = 1 + rng.below(3);
            let list: Vec<_> = (0..count)
                .map(|_| format!("{}0", ["n", "r", "w", "b"][rng.below(4)]))
                .collect();
            let permissions = list.join(" ").parse().unwrap();
            requests.push(Request::set_permissions(&path, &permissions).unwrap());
        }
        paths.push(path);
    }
    for reply in client.pipeline(requests).unwrap() {
        reply.unwrap();
    }
    assert!(paths.len() > NODES * 9 / 10);
}

pub(crate) fn ls_output_is_identical(daemon: Daemon) {
    for seed in 1..=3 {
        let store = Xenstored::start(daemon);
        make_odd_nodes(&mut connect(store.socket()), seed);
        for arguments in [
            &["-fp", "/odd"][..],
            &["-p", "/odd"],
            &["/odd"],
            &["-f"],
            &["--flat", "--prefix", "-s", "/"],
        ] {
            let [theirs, ours] = [Tools::Xens, Tools::Ours]
                .map(|of| of.prints(store.socket(), "xenstore-ls", arguments));
            let lines = theirs.split(|byte| *byte == b'\n').count();
            assert!(lines > NODES * 9 / 10, "{lines} lines");
            assert!(
                ours == theirs,
                "seed {seed}, {arguments:?}: {}",
                first_difference(&ours, &theirs)
            );
        }
    }
}

fn first_difference(ours: &[u8], theirs: &[u8]) -> String {
    let lines = |text: &[u8]| {
        String::from_utf8_lossy(text)
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let difference = lines(ours)
        .into_iter()
        .zip(lines(theirs))
        .find(|(ours, theirs)| ours != theirs);
    format!("{difference:#?}")
}

pub(crate) fn ls_output_on_a_terminal_is_identical(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    make_odd_nodes(&mut connect(store.socket()), 4);
    for columns in [0, 30, 80, 132, 1000] {
        for arguments in [&["-p", "/odd"][..], &["-fp", "/odd"]] {
            let [theirs, ours] = [Tools::Xens, Tools::Ours]
                .map(|of| on_terminal(of, store.socket(), arguments, columns));
            assert!(theirs.len() > NODES);
            assert!(
                ours == theirs,
                "{columns} columns, {arguments:?}: {}",
                first_difference(&ours, &theirs)
            );
        }
    }
}

fn on_terminal(of: Tools, socket: &Path, arguments: &[&str], columns: u16) -> Vec<u8> {
    let mut command = of.command(socket, "xenstore-ls");
    command.args(arguments).env("NO_COLOR", "1");
    let (status, printed) = Terminal::new(columns).run(command);
    assert!(status.success(), "{of:?} {arguments:?}: {status}");
    printed
}
