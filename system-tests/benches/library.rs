//! Speed of the library's clients compared with libxenstore, on the same xenstored or oxenstored.
//! Run it as root with `cargo bench -p system-tests --bench library`; it needs libxen-dev. All
//! clients take turns with each repetition. It prints medians, and the median of the ratios within
//! a repetition. It checks nothing.
//!
//! With one CPU, the result is the work of client and server. With all CPUs on a busy machine,
//! whole series of a client took five times as long, so compare several runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark is test code"
)]

use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use system_tests::{Daemon, Xenstored};
use tempfile::TempDir;
use tokio::runtime;
use tokio::task::JoinSet;
use xenstore::{AsyncClient, AsyncNodes, Client, Nodes, Request, SharedClient, Transport};

/// Number of reads or writes in a repetition.
const OPERATIONS: u32 = 100;
const REPETITIONS: u32 = 200;
const VALUE: &str = "a value like others";

/// A client with a workload. Runs it once, and returns its duration.
type Run = Box<dyn FnMut() -> Duration>;

/// Connects a client to the socket of a server.
type Connect = fn(&Path) -> Run;

struct Workload {
    name: &'static str,
    /// The equivalent of libxenstore, which has no pipelines.
    theirs: &'static str,
    /// Names of clients, and functions that connect them.
    ours: &'static [(&'static str, Connect)],
}

const WORKLOADS: [Workload; 6] = [
    Workload {
        name: "100 reads",
        theirs: "read",
        ours: &[
            ("Client", |socket| blocking(socket, reads)),
            ("SharedClient", |socket| {
                shared(socket, |mut client| reads(&mut client))
            }),
            ("AsyncClient", |socket| on_tokio(socket, async_reads)),
        ],
    },
    Workload {
        name: "100 reads, ours at once",
        theirs: "read",
        ours: &[
            ("Client::pipeline", |socket| {
                blocking(socket, pipelined_reads)
            }),
            ("SharedClient::pipeline", |socket| {
                shared(socket, |mut client| pipelined_reads(&mut client))
            }),
            ("AsyncClient::pipeline", |socket| {
                on_tokio(socket, async_pipelined_reads)
            }),
            ("AsyncClient in 100 tasks", |socket| on_tokio(socket, tasks)),
        ],
    },
    Workload {
        name: "100 writes",
        theirs: "write",
        ours: &[
            ("Client", |socket| blocking(socket, writes)),
            ("SharedClient", |socket| {
                shared(socket, |mut client| writes(&mut client))
            }),
            ("AsyncClient", |socket| on_tokio(socket, async_writes)),
        ],
    },
    Workload {
        name: "100 writes, ours at once",
        theirs: "write",
        ours: &[
            ("Client::pipeline", |socket| {
                blocking(socket, pipelined_writes)
            }),
            ("SharedClient::pipeline", |socket| {
                shared(socket, |mut client| pipelined_writes(&mut client))
            }),
            ("AsyncClient::pipeline", |socket| {
                on_tokio(socket, async_pipelined_writes)
            }),
        ],
    },
    Workload {
        name: "a transaction of 100 writes",
        theirs: "transaction",
        ours: &[
            ("Client", |socket| {
                blocking(socket, |client| {
                    client.transaction(|nodes| write_all(nodes)).unwrap();
                })
            }),
            ("SharedClient", |socket| {
                shared(socket, |client| {
                    client.transaction(|nodes| write_all(nodes)).unwrap();
                })
            }),
            ("AsyncClient", |socket| on_tokio(socket, async_transaction)),
        ],
    },
    Workload {
        name: "a transaction of 100 writes, ours at once",
        theirs: "transaction",
        ours: &[
            ("Client", |socket| {
                blocking(socket, |client| {
                    client.transaction(|nodes| pipeline_all(nodes)).unwrap();
                })
            }),
            ("SharedClient", |socket| {
                shared(socket, |client| {
                    client.transaction(|nodes| pipeline_all(nodes)).unwrap();
                })
            }),
            ("AsyncClient", |socket| {
                on_tokio(socket, async_pipelined_transaction)
            }),
        ],
    },
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
            for workload in &WORKLOADS {
                compare(workload, store.socket(), &program);
            }
        }
    }
    drop(directory);
}

fn compare(workload: &Workload, socket: &Path, program: &Path) {
    writes(&mut Client::new(Transport::open_socket_at(socket).unwrap()));
    let mut process = Theirs::start(program, socket, workload.theirs);
    let theirs: Run = Box::new(move || process.repeat());
    let connect = |(name, connect): &(&'static str, Connect)| (*name, connect(socket));
    let mut clients: Vec<_> = workload.ours.iter().map(connect).collect();
    clients.push(("libxenstore", theirs));

    let mut times = vec![Vec::new(); clients.len()];
    for repetition in 0..REPETITIONS as usize {
        // Alternating the order avoids that one client always follows the same other one.
        let mut order: Vec<_> = (0..clients.len()).collect();
        order.rotate_left(repetition % clients.len());
        if repetition / clients.len() % 2 == 1 {
            order.reverse();
        }
        for number in order {
            times[number].push((clients[number].1)().as_secs_f64());
        }
    }

    println!("  {}", workload.name);
    let theirs = &times[clients.len() - 1];
    for ((name, _), ours) in clients.iter().zip(&times) {
        let time = Duration::from_secs_f64(median(ours.iter().copied()));
        let ratio = median(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs));
        println!("    {name}: {time:.1?}, ratio {ratio:.2}");
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn timed(workload: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    workload();
    begin.elapsed()
}

fn blocking(socket: &Path, workload: fn(&mut Client)) -> Run {
    let mut client = Client::new(Transport::open_socket_at(socket).unwrap());
    Box::new(move || timed(|| workload(&mut client)))
}

fn shared(socket: &Path, workload: fn(&SharedClient)) -> Run {
    let client = Client::new(Transport::open_socket_at(socket).unwrap());
    let client = SharedClient::new(client).unwrap();
    Box::new(move || timed(|| workload(&client)))
}

fn on_tokio<F: Future<Output = ()> + 'static>(
    socket: &Path,
    workload: fn(AsyncClient) -> F,
) -> Run {
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let transport = Transport::open_socket_at(socket).unwrap();
    let client = runtime.block_on(async { AsyncClient::new(transport).unwrap() });
    Box::new(move || timed(|| runtime.block_on(workload(client.clone()))))
}

fn path(number: u32) -> String {
    format!("/bench/ours/{number}")
}

fn read_requests() -> impl Iterator<Item = Request> {
    (0..OPERATIONS).map(|_| Request::read("/bench/ours/0").unwrap())
}

fn write_requests() -> impl Iterator<Item = Request<()>> {
    (0..OPERATIONS).map(|number| Request::write(path(number), VALUE).unwrap())
}

fn reads(client: &mut impl Nodes) {
    for _ in 0..OPERATIONS {
        assert_eq!(client.read("/bench/ours/0").unwrap(), VALUE.as_bytes());
    }
}

fn pipelined_reads(client: &mut impl Nodes) {
    for value in client.pipeline(read_requests()).unwrap() {
        assert_eq!(value.unwrap(), VALUE.as_bytes());
    }
}

fn writes(client: &mut impl Nodes) {
    write_all(client).unwrap();
}

fn pipelined_writes(client: &mut impl Nodes) {
    pipeline_all(client).unwrap();
}

fn write_all(nodes: &mut impl Nodes) -> xenstore::Result<()> {
    (0..OPERATIONS).try_for_each(|number| nodes.write(path(number), VALUE))
}

fn pipeline_all(nodes: &mut impl Nodes) -> xenstore::Result<()> {
    nodes.pipeline(write_requests())?.into_iter().collect()
}

async fn async_reads(client: AsyncClient) {
    for _ in 0..OPERATIONS {
        let value = client.read("/bench/ours/0").await.unwrap();
        assert_eq!(value, VALUE.as_bytes());
    }
}

async fn async_pipelined_reads(client: AsyncClient) {
    for value in client.pipeline(read_requests()).await.unwrap() {
        assert_eq!(value.unwrap(), VALUE.as_bytes());
    }
}

/// Reads once in each of many tasks.
async fn tasks(client: AsyncClient) {
    let mut tasks = JoinSet::new();
    for _ in 0..OPERATIONS {
        let client = client.clone();
        tasks.spawn(async move { client.read("/bench/ours/0").await });
    }
    while let Some(value) = tasks.join_next().await {
        assert_eq!(value.unwrap().unwrap(), VALUE.as_bytes());
    }
}

async fn async_writes(client: AsyncClient) {
    async_write_all(&client).await.unwrap();
}

async fn async_pipelined_writes(client: AsyncClient) {
    async_pipeline_all(&client).await.unwrap();
}

async fn async_transaction(client: AsyncClient) {
    client
        .transaction(|transaction| async move { async_write_all(&transaction).await })
        .await
        .unwrap();
}

async fn async_pipelined_transaction(client: AsyncClient) {
    client
        .transaction(|transaction| async move { async_pipeline_all(&transaction).await })
        .await
        .unwrap();
}

async fn async_write_all(nodes: &impl AsyncNodes) -> xenstore::Result<()> {
    for number in 0..OPERATIONS {
        nodes.write(path(number), VALUE).await?;
    }
    Ok(())
}

async fn async_pipeline_all(nodes: &impl AsyncNodes) -> xenstore::Result<()> {
    nodes
        .pipeline(write_requests())
        .await?
        .into_iter()
        .collect()
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
            .args([workload, &REPETITIONS.to_string()])
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
