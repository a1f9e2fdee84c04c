//! What the agent says of itself: a file that it keeps, and the command that prints it.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use log::{error, warn};
use sd_notify::NotifyState;
use xenstore::Path;

use crate::agent::Agent;
use crate::collect::{Collectors, host};
use crate::root::Root;
use crate::runtime_dir;
use crate::settings::name;
use crate::show;
use crate::text::quote;

/// What the file is called in its directory.
const FILE: &str = "status";

/// What takes longer than this is told while it is going on.
const PATIENCE: Duration = Duration::from_secs(2);

/// How the agent is, in words that stay the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is published yet.
    Starting,
    /// All is published that the host allows.
    Published,
    /// It is not, and Xenstore has been asked for long.
    Publishing,
    /// There is no room for all.
    ShortOfRoom,
    /// There is no connection to Xenstore.
    Disconnected,
}

impl State {
    fn words(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Published => "published",
            State::Publishing => "publishing",
            State::ShortOfRoom => "short of room",
            State::Disconnected => "waiting for Xenstore",
        }
    }
}

/// Keeps the file: TOML, replaced as a whole each time that something of it changed.
#[derive(Debug)]
pub struct Status {
    file: Option<PathBuf>,
    started: SystemTime,
    /// What was told last, by the agent's count of events, whether or not that worked: what failed is tried again with the
    /// next change.
    told: Option<(u64, State)>,
    is_stale: bool,
    has_failed: bool,
    /// Since when the agent has not been at rest.
    busy: Option<Duration>,
    resumed: Option<(u64, SystemTime)>,
}

impl Status {
    /// Begins to keep the file in `directory`, if there is one.
    pub fn new(directory: Option<PathBuf>, date: SystemTime) -> Self {
        let file = directory.map(|directory| directory.join(FILE));
        Status {
            file,
            started: date,
            told: None,
            is_stale: false,
            has_failed: false,
            busy: None,
            resumed: None,
        }
    }

    /// Has the file written anew though nothing happened that is counted.
    pub fn refresh(&mut self) {
        self.is_stale = true;
    }

    /// When [`update`](Self::update) has something to tell though nothing happens.
    pub fn deadline(&self) -> Option<Duration> {
        let is_told = self
            .told
            .is_some_and(|(_, state)| state == State::Publishing);
        self.busy.filter(|_| !is_told).map(|busy| busy + PATIENCE)
    }

    /// Writes the file, and tells the service manager, if something happened.
    pub fn update(
        &mut self,
        agent: &Agent,
        collectors: &Collectors,
        now: Duration,
        date: SystemTime,
    ) {
        let is_at_rest = agent.is_published() || agent.connection().is_none();
        self.busy = if is_at_rest {
            None
        } else {
            Some(self.busy.unwrap_or(now))
        };
        let Some(state) = self.state(agent, now) else {
            return;
        };
        if !self.is_stale && self.told == Some((agent.events(), state)) {
            return;
        }
        let resumes = agent.resumes();
        if resumes > 0 && self.resumed.is_none_or(|(known, _)| known != resumes) {
            self.resumed = Some((resumes, date));
        }
        // It is ready without Xenstore, too: the device may come late in the boot, and others need not wait for it. Without a
        // service manager that wants to know (sd_notify(3)) nothing is done.
        let notified = match state {
            State::Starting => Ok(()),
            _ => sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(state.words())]),
        };
        let written = match &self.file {
            Some(file) => runtime_dir::write(file, &self.text(state, agent, collectors, date)),
            None => Ok(()),
        };
        (self.told, self.is_stale) = (Some((agent.events(), state)), false);
        if let (Err(_), Some(file)) = (&written, &self.file) {
            // Better none than a false one.
            fs::remove_file(file).ok();
        }
        let had_failed = std::mem::replace(&mut self.has_failed, false);
        if let Err(error) = notified.and(written) {
            self.has_failed = true;
            if !had_failed {
                warn!("cannot tell how the agent is: {error}");
            }
        }
    }

    /// None while it is only just about to be another.
    fn state(&self, agent: &Agent, now: Duration) -> Option<State> {
        if agent.connection().is_none() {
            return Some(State::Disconnected);
        }
        match self.busy {
            None if agent.left_out().next().is_none() => Some(State::Published),
            None => Some(State::ShortOfRoom),
            Some(busy) if now.saturating_sub(busy) >= PATIENCE => Some(State::Publishing),
            Some(_) if self.told.is_none() => Some(State::Starting),
            Some(_) => None,
        }
    }

    fn text(
        &self,
        state: State,
        agent: &Agent,
        collectors: &Collectors,
        now: SystemTime,
    ) -> String {
        let mut text = String::new();
        let mut put = |key: &str, value: &str| {
            // Nothing fails that writes to a string.
            let _ = writeln!(text, "{key} = {value}");
        };
        put("state", &quote(state.words()));
        put("version", &quote(env!("CARGO_PKG_VERSION")));
        put("process", &std::process::id().to_string());
        put("started", &quote(&date(self.started)));
        put("changed", &quote(&date(now)));
        if let Some((_, resumed)) = self.resumed {
            put("resumed", &quote(&date(resumed)));
        }
        put("schema", &quote(&name(&agent.schema_name())));
        put("network", &quote(collectors.network_source()));
        match (agent.connection(), agent.problem()) {
            (Some(connection), _) => put("xenstore", &quote(connection.transport().name())),
            (None, Some(problem)) => put("problem", &quote(problem)),
            (None, None) => {}
        }
        if let Some(id) = agent.domain_id() {
            put("domain", &id.to_string());
        }
        put("refused", &list(agent.refused()));
        put("left-out", &list(agent.left_out()));
        put("pending", &list(agent.pending()));
        let _ = writeln!(text, "\n[nodes]");
        // Services may be for the host's eyes only, and this file is for everybody's.
        for (path, value) in agent
            .nodes()
            .filter(|(path, value)| !value.is_empty() && !path.starts_with("data/service/"))
        {
            let _ = writeln!(text, "{} = {}", quote(path), quote(value));
        }
        text
    }
}

fn list<'a>(paths: impl Iterator<Item = &'a Path>) -> String {
    let paths: Vec<_> = paths.map(|path| quote(path)).collect();
    format!("[{}]", paths.join(", "))
}

/// In UTC and whole seconds, as RFC 3339 has it.
fn date(time: SystemTime) -> String {
    let seconds = Timestamp::try_from(time).map_or(0, Timestamp::as_second);
    Timestamp::from_second(seconds)
        .unwrap_or_default()
        .to_string()
}

/// Prints what the running agent says of itself. As LSB has it for services, the status is 0 where all is well and 3 where
/// there is no agent; it is 1 where an agent cannot publish all, or cannot be asked.
pub fn print(root: &Root) -> ExitCode {
    let Some(file) = runtime_dir::path(root).map(|directory| directory.join(FILE)) else {
        error!("this system has no /run, where an agent would tell how it is");
        return ExitCode::FAILURE;
    };
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(failed) if failed.kind() == std::io::ErrorKind::NotFound => {
            error!("no agent is running: {}: {failed}", file.display());
            return ExitCode::from(3);
        }
        Err(failed) => {
            error!("{}: {failed}", file.display());
            return ExitCode::FAILURE;
        }
    };
    if !is_running(&text) {
        error!("no agent is running; the last one left {}", file.display());
        return ExitCode::from(3);
    }
    if let Err(failure) = show::print(&text) {
        error!("{failure}");
        return ExitCode::FAILURE;
    }
    let is_well =
        text.lines().next() == Some(&format!("state = {}", quote(State::Published.words())));
    if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Whether the agent that wrote this is still there.
fn is_running(text: &str) -> bool {
    text.lines()
        .find_map(|line| line.strip_prefix("process = "))
        .is_some_and(host::is_agent)
}
