//! A process that runs the agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::build::is_emulated;
use crate::observe::eventually;

/// Generous timeout, which only a stalled machine exceeds.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the longest time that the agent may take. In an emulated machine this is [`TIMEOUT`],
/// because emulation is slow and stalls together with the machine that runs it.
pub fn time_limit(limit: Duration) -> Duration {
    if is_emulated() { TIMEOUT } else { limit }
}

/// Removes the lines of every start from a log: the version, the confinement if there is one, and
/// the completion of the first publication. A second line of either kind stays, because it would be
/// a fault.
pub fn without_start_lines(log: &str) -> String {
    let mut starts = vec!["version ", "confinement: ", "published "];
    let mut is_start_line = |line: &str| {
        let message = line.strip_prefix("xen-guest-agent: info: ");
        let start = starts
            .iter()
            .position(|start| message.is_some_and(|message| message.starts_with(start)));
        start.map(|start| starts.remove(start)).is_some()
    };

    let lines = log.split_inclusive('\n');
    lines.filter(|line| !is_start_line(line)).collect()
}

/// A running agent. Dropping it kills the process.
pub struct Agent {
    process: Child,
    log: PathBuf,
}

impl Agent {
    /// Starts `command` with its standard error redirected to the file `log`.
    pub fn spawn(mut command: Command, log: &Path) -> Self {
        let file = fs::File::create(log).unwrap();
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        Agent {
            process,
            log: log.to_owned(),
        }
    }

    /// Process ID.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the log so far, without the lines that every start writes.
    pub fn log(&self) -> String {
        without_start_lines(&fs::read_to_string(&self.log).unwrap())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Whether the process is running.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Waits until the process has ended.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        eventually(|| self.process.try_wait().unwrap(), TIMEOUT)
    }

    /// Ends the agent by SIGTERM, requires exit status 0, and returns its log.
    #[track_caller]
    pub fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        assert_eq!(self.wait().code(), Some(0), "{}", self.log());
        self.log()
    }

    /// Returns the content of a file below `/proc/PID`.
    pub fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.process.id())).unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
