//! A program that stops reading what the agent writes does not stop the agent.
//!
//! The queue of each program is full from the start. Every test publishes nevertheless, reloads the
//! settings, and ends the agent by SIGTERM. `connection.rs` has the same test for xenstored.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process};
use system_tests::{
    Daemon, Profile, SETTLE_TIME, TIMEOUT, Terminal, Testbed, Toolstack, build, eventually,
    time_limit,
};

use crate::logging::{with_syslog, without_stderr_option};
use crate::testbed;

/// Longest time between SIGTERM and the end of the agent.
const TERMINATION_TIME: Duration = Duration::from_secs(1);

/// An agent with its own standard error.
struct Agent(Child);

impl Agent {
    /// Starts the agent, and requires it to publish, also after a change.
    fn start(testbed: &mut Testbed, mut command: Command, stderr: impl Into<Stdio>) -> Self {
        command.args(["--loglevel", "trace"]).stderr(stderr);
        let agent = Agent(command.spawn().unwrap());
        testbed.await_network();
        testbed.network.ip("addr add 10.0.0.9/24 dev lan");
        testbed.await_network();
        agent.signal(Signal::HUP);
        sleep(SETTLE_TIME);
        testbed.network.ip("addr del 10.0.0.9/24 dev lan");
        testbed.await_network();
        agent
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Ends the agent by SIGTERM.
    fn stop(mut self) {
        self.signal(Signal::TERM);
        let begin = Instant::now();
        let status = eventually(|| self.0.try_wait().unwrap(), TIMEOUT);
        assert_eq!(status.code(), Some(0));
        let elapsed = begin.elapsed();
        assert!(elapsed <= time_limit(TERMINATION_TIME), "{elapsed:?}");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Fills a queue that `send` adds to, byte by byte at last.
fn fill(mut send: impl FnMut(&[u8]) -> io::Result<usize>) {
    for len in [4096, 1] {
        while send(&vec![b'.'; len]).is_ok() {}
        let error = send(b".").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
    }
}

/// Fills a pipe or terminal by another open file, so that its own one stays in blocking mode.
fn fill_file(file: &OwnedFd) {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap();
    let mut other = OpenOptions::new();
    other.write(true).custom_flags(flags);
    let other = other.open(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let mut other: File = other.unwrap();
    fill(|bytes| other.write(bytes));
}

#[test]
#[ignore = "needs root and xenstored"]
fn service_manager_that_stops_reading() {
    let mut testbed = testbed(Daemon::C, Toolstack::Xapi);
    let path = testbed.root.join("notify");
    let _manager = UnixDatagram::bind(&path).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    fill(|bytes| sender.send_to(bytes, &path));

    let mut command = testbed.command(Profile::Debug);
    command.env("NOTIFY_SOCKET", &path);
    Agent::start(&mut testbed, command, Stdio::null()).stop();
}

#[test]
#[ignore = "needs root and xenstored"]
fn standard_error_is_a_full_pipe_and_lost_messages_are_counted() {
    let mut testbed = testbed(Daemon::C, Toolstack::Xapi);
    // A process of another test would keep the pipe open.
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut reader = File::from(reader);
    fill_file(&writer);
    let command = testbed.command(Profile::Debug);
    let agent = Agent::start(&mut testbed, command, writer);

    let mut log = Vec::new();
    let mut buffer = vec![0; 65536];
    while log.iter().all(|byte| *byte == b'.') {
        agent.signal(Signal::HUP);
        let len = reader.read(&mut buffer).unwrap();
        log.extend_from_slice(&buffer[..len]);
    }
    agent.stop();
    reader.read_to_end(&mut log).unwrap();
    let log = String::from_utf8(log).unwrap();
    let notice = log.trim_start_matches('.').lines().next().unwrap();
    let count = notice
        .strip_prefix("xen-guest-agent: warning: ")
        .and_then(|notice| {
            notice
                .strip_suffix(" log messages were lost, because the reader of the log did not read")
        });
    assert!(
        count.is_some_and(|count| count.parse::<u32>().unwrap() > 10),
        "{notice}"
    );
    assert_eq!(log.matches("were lost").count(), 1, "{log}");
}

#[test]
#[ignore = "needs root and xenstored"]
fn standard_error_is_a_terminal_that_stops() {
    let mut testbed = testbed(Daemon::C, Toolstack::Xapi);
    let command = testbed.command(Profile::Debug);
    stop_terminal(&mut testbed, command, &Terminal::new(80));
}

#[test]
#[ignore = "needs root and xenstored"]
fn standard_error_is_a_terminal_that_stops_and_cannot_be_opened_again() {
    let mut testbed = testbed(Daemon::C, Toolstack::Xapi);
    let terminal = Terminal::new(80);

    // Without capabilities, root is subject to the permissions of the terminal.
    let mut command = testbed.network.command("setpriv");
    command
        .arg("--bounding-set=-all")
        .arg(build("xen-guest-agent", Profile::Debug))
        .args(testbed.arguments());
    stop_terminal(&mut testbed, command, &terminal);
}

/// Runs the agent with a full terminal, which then gets room for a part of what the agent logs.
fn stop_terminal(testbed: &mut Testbed, command: Command, terminal: &Terminal) {
    let file = terminal.file();
    fill_file(&file);
    let stderr = terminal.stdio();
    rustix::fs::fchmod(&file, Mode::empty()).unwrap();
    let agent = Agent::start(testbed, command, stderr);

    let is_writable = || {
        let mut fds = [PollFd::new(&file, PollFlags::OUT)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
    };
    for verb in ["add", "del"] {
        terminal.read_some();
        eventually(is_writable, TIMEOUT);
        let is_full_again = || {
            agent.signal(Signal::HUP);
            !is_writable()
        };
        eventually(is_full_again, TIMEOUT);

        testbed
            .network
            .ip(&format!("addr {verb} 10.0.0.9/24 dev lan"));
        testbed.await_network();
    }
    agent.stop();
}

#[test]
#[ignore = "needs root and xenstored"]
fn journal_that_stops_reading() {
    let mut testbed = testbed(Daemon::C, Toolstack::Xapi);
    let (_journal, stream) = UnixStream::pair().unwrap();
    let flags = rustix::net::SendFlags::DONTWAIT;
    fill(|bytes| Ok(rustix::net::send(&stream, bytes, flags)?));
    let status = rustix::fs::fstat(&stream).unwrap();

    let mut command = without_stderr_option(&testbed.command(Profile::Debug));
    let journal = format!("{}:{}", status.st_dev, status.st_ino);
    command.env("JOURNAL_STREAM", journal);
    Agent::start(&mut testbed, command, OwnedFd::from(stream)).stop();
}

#[test]
#[ignore = "needs root and xenstored"]
fn syslog_datagram_socket_that_stops_reading() {
    let mut testbed = testbed(Daemon::C, Toolstack::Xapi);
    let path = testbed.root.join("log");
    let _syslog = UnixDatagram::bind(&path).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    fill(|bytes| sender.send_to(bytes, &path));

    let command = with_syslog(&testbed);
    Agent::start(&mut testbed, command, Stdio::null()).stop();
}

#[test]
#[ignore = "needs root and xenstored"]
fn syslog_stream_socket_that_stops_reading() {
    let mut testbed = testbed(Daemon::C, Toolstack::Xapi);
    let path = testbed.root.join("log");
    let syslog = UnixListener::bind(&path).unwrap();

    // The first agent fills its connection, and the second one gets none.
    for has_room in [true, false] {
        if !has_room {
            rustix::net::listen(&syslog, 0).unwrap();
        }
        let command = with_syslog(&testbed);
        let agent = Agent::start(&mut testbed, command, Stdio::null());
        if has_room {
            let (stream, _) = syslog.accept().unwrap();
            for _ in 0..2000 {
                agent.signal(Signal::HUP);
                sleep(Duration::from_millis(1));
            }
            agent.stop();
            drop(stream);
            let _waiting = UnixStream::connect(&path).unwrap();
        } else {
            agent.stop();
        }
    }
}
