//! Speed of the library compared with libxenstore, on the same xenstored or oxenstored. Run it as
//! root with `cargo bench -p system-tests --bench library`; it needs libxen-dev. Both take turns
//! with each repetition. It prints medians and the median ratio of the pairs, and checks nothing.
//!
//! With one CPU, the result is the work of client and server. With all CPUs on a busy machine,
//! whole series of either side took five times as long, so compare several runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark is test code"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use system_tests::{Daemon, Xenstored};
use tempfile::TempDir;
use xenstore::{Client, Nodes, Request, Transport};

/// Number of reads or writes in a repetition.
const OPERATIONS: u32 = 100;
const PAIRS: u32 = 200;
const VALUE: &str = "a value like others";

type Workload = fn(&mut Client);

/// The workloads, and libxenstore's equivalents. libxenstore has no pipelines.
const WORKLOADS: [(&str, Workload, &str); 5] = [
    ("100 reads", reads, "read"),
    ("100 writes", writes, "write"),
    ("100 writes, ours pipelined", pipelined, "write"),
    ("a transaction of 100 writes", transaction, "transaction"),
    (
        "a transaction of 100 writes, ours pipelined",
        pipelined_transaction,
        "transaction",
    ),
];

fn main() {
    let (directory, program) = libxenstore();
    let all = sched_getaffinity(None).unwrap();
    let mut one = CpuSet::new();
    one.set(
        (0..CpuSet::MAX_CPU)
            .find(|number| all.is_set(*number))
            .unwrap(),
    );
    for (processors, set) in [("one processor", one), ("all processors", all)] {
        // Processes started from here on inherit the affinity.
        sched_setaffinity(None, &set).unwrap();
        for daemon in [Daemon::C, Daemon::OCaml] {
            let store = Xenstored::start(daemon);
            println!("{daemon:?}, {processors}");
            for (name, ours, theirs) in WORKLOADS {
                compare(
                    &store,
                    name,
                    ours,
                    Theirs::start(&program, store.socket(), theirs),
                );
            }
        }
    }
    drop(directory);
}

fn compare(store: &Xenstored, name: &str, workload: Workload, mut theirs: Theirs) {
    let mut client = Client::new(Transport::open_socket_at(store.socket()).unwrap());
    writes(&mut client);
    let mut ours = || {
        let begin = Instant::now();
        workload(&mut client);
        begin.elapsed()
    };
    let mut pairs = Vec::new();
    for round in 0..PAIRS {
        // Alternating the order avoids that one side always follows a pause.
        let pair = if round % 2 == 0 {
            let first = ours();
            (first, theirs.repeat())
        } else {
            let first = theirs.repeat();
            (ours(), first)
        };
        pairs.push(pair);
    }
    let ratio = median(
        pairs
            .iter()
            .map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64()),
    );
    let time = |side: fn(&(Duration, Duration)) -> Duration| {
        Duration::from_secs_f64(median(pairs.iter().map(|pair| side(pair).as_secs_f64())))
    };
    println!(
        "  {name}: {:.1?}; libxenstore: {:.1?}; ratio {ratio:.2}",
        time(|pair| pair.0),
        time(|pair| pair.1)
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn path(number: u32) -> String {
    format!("/bench/ours/{number}")
}

fn reads(client: &mut Client) {
    for _ in 0..OPERATIONS {
        assert_eq!(client.read("/bench/ours/0").unwrap(), VALUE.as_bytes());
    }
}

fn writes(client: &mut Client) {
    for number in 0..OPERATIONS {
        client.write(path(number), VALUE).unwrap();
    }
}

fn requests() -> impl Iterator<Item = Request<()>> {
    (0..OPERATIONS).map(|number| Request::write(path(number), VALUE).unwrap())
}

fn pipelined(client: &mut Client) {
    client
        .pipeline(requests())
        .unwrap()
        .into_iter()
        .for_each(Result::unwrap);
}

fn transaction(client: &mut Client) {
    let write_all = |transaction: &mut xenstore::Transaction<'_>| {
        (0..OPERATIONS).try_for_each(|number| transaction.write(path(number), VALUE))
    };
    client.transaction(write_all).unwrap();
}

fn pipelined_transaction(client: &mut Client) {
    let write_all = |transaction: &mut xenstore::Transaction<'_>| {
        transaction
            .pipeline(requests())?
            .into_iter()
            .try_for_each(|reply| reply.map(drop))
    };
    client.transaction(write_all).unwrap();
}

/// The program that runs the workloads with libxenstore, and its directory.
fn libxenstore() -> (TempDir, PathBuf) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/libxenstore.c");
    let directory = tempfile::tempdir().expect("make a temporary directory");
    let program = directory.path().join("libxenstore");
    let compiled = Command::new("cc")
        .args(["-O2", "-Wall", "-o"])
        .arg(&program)
        .args([source, "-lxenstore"])
        .output()
        .unwrap_or_else(|error| panic!("cc: {error}: install a C compiler (gcc, libc6-dev)"));
    let complaints = String::from_utf8_lossy(&compiled.stderr);
    assert!(
        compiled.status.success(),
        "cc cannot compile {source} (is libxen-dev installed?):\n{complaints}"
    );
    (directory, program)
}

/// A process of that program, which runs a repetition on request.
struct Theirs {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Theirs {
    fn start(program: &Path, socket: &Path, workload: &str) -> Self {
        let mut process = Command::new(program)
            .args([workload, &PAIRS.to_string()])
            .env("XENSTORED_PATH", socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the program");
        let (input, output) = (
            process.stdin.take().unwrap(),
            process.stdout.take().unwrap(),
        );
        Theirs {
            process,
            input,
            output: BufReader::new(output),
        }
    }

    fn repeat(&mut self) -> Duration {
        self.input
            .write_all(b"\n")
            .expect("libxenstore's program goes on");
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        Duration::from_nanos(line.trim().parse().expect("nanoseconds"))
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        // The process may have ended already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
