//! The agent as a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::observe::eventually;

/// Nothing but a machine that stands still takes this long.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// A running agent, killed when dropped.
pub struct Agent {
    process: Child,
    log: PathBuf,
}

impl Agent {
    /// Starts `command`, with what it says on standard error in the file `log`.
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

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        eventually(|| self.process.try_wait().unwrap(), TIMEOUT)
    }

    /// Ends it by SIGTERM, and returns what it has said.
    #[track_caller]
    pub fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        assert_eq!(self.wait().code(), Some(0), "{}", self.log());
        self.log()
    }

    /// A file below `/proc` about it.
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
