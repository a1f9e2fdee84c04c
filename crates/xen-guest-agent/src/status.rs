//! What the agent says of itself: a file that it keeps, and the command that prints it.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use jiff::Timestamp;
use log::{debug, error};
use sd_notify::NotifyState;
use xenstore::Path;

use crate::agent::Agent;
use crate::collect::Collectors;
use crate::collect::root::Root;
use crate::run_directory;
use crate::settings::{Settings, quote};
use crate::show;

/// What the file is called in its directory.
const FILE: &str = "status";

/// All is published that can be.
const PUBLISHED: &str = "published";

/// There is no connection to Xenstore.
const DISCONNECTED: &str = "waiting for Xenstore";

/// Keeps the file: TOML, replaced as a whole each time that something of it changed.
#[derive(Debug)]
pub struct Status {
    file: Option<PathBuf>,
    started: SystemTime,
    /// What was written last, told by the agent's count of events.
    written: Option<(u64, bool)>,
    changed: SystemTime,
    resumed: Option<(u64, SystemTime)>,
}

impl Status {
    /// Begins to keep the file in `directory`, if there is one.
    pub fn new(directory: Option<PathBuf>, now: SystemTime) -> Self {
        let file = directory.map(|directory| directory.join(FILE));
        Status { file, started: now, written: None, changed: now, resumed: None }
    }

    /// Writes the file, and tells the service manager, if something happened. That it cannot is no reason to do anything else.
    pub fn update(&mut self, agent: &Agent, collectors: &Collectors, now: SystemTime) {
        let is_connected = agent.connection().is_some();
        let state = (agent.events(), is_connected);
        let is_at_rest = agent.is_published() || !is_connected;
        if !is_at_rest || self.written == Some(state) {
            return;
        }
        self.written = Some(state);
        self.changed = now;
        let resumes = agent.resumes();
        if resumes > 0 && self.resumed.is_none_or(|(known, _)| known != resumes) {
            self.resumed = Some((resumes, now));
        }
        // It is ready without Xenstore, too: the device may come late in the boot, and others need not wait for it. Without a
        // service manager that wants to know (sd_notify(3)) nothing is done.
        let notified = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(how(agent))]);
        let written =
            self.file.as_ref().map_or(Ok(()), |file| run_directory::write(file, &self.text(agent, collectors)));
        for error in [notified.err(), written.err()].into_iter().flatten() {
            debug!("the state of the agent: {error}");
        }
    }

    fn text(&self, agent: &Agent, collectors: &Collectors) -> String {
        let mut text = String::new();
        let mut put = |key: &str, value: &str| {
            // Nothing fails that writes to a string.
            let _ = writeln!(text, "{key} = {value}");
        };
        put("state", &quote(how(agent)));
        put("version", &quote(env!("CARGO_PKG_VERSION")));
        put("process", &std::process::id().to_string());
        put("started", &quote(&date(self.started)));
        put("changed", &quote(&date(self.changed)));
        if let Some((_, resumed)) = self.resumed {
            put("resumed", &quote(&date(resumed)));
        }
        put("schema", &quote(agent.schema_name()));
        put("network", &quote(collectors.network_source()));
        if let Some(connection) = agent.connection() {
            put("xenstore", &quote(connection.transport().name()));
        }
        if let Some(id) = agent.domain_id() {
            put("domain", &id.to_string());
        }
        put("refused", &list(agent.refused()));
        put("left-out", &list(agent.left_out()));
        let _ = writeln!(text, "\n[nodes]");
        for (path, value) in agent.nodes() {
            let _ = writeln!(text, "{} = {}", quote(path), quote(value));
        }
        text
    }
}

/// In a word or two, how it is.
fn how(agent: &Agent) -> &'static str {
    let has_room = agent.left_out().next().is_none();
    match agent.connection() {
        None => DISCONNECTED,
        Some(_) if has_room => PUBLISHED,
        Some(_) => "short of room",
    }
}

fn list<'a>(paths: impl Iterator<Item = &'a Path>) -> String {
    let paths: Vec<_> = paths.map(|path| quote(path)).collect();
    format!("[{}]", paths.join(", "))
}

/// In UTC and whole seconds, as RFC 3339 has it.
fn date(time: SystemTime) -> String {
    let seconds = Timestamp::try_from(time).map_or(0, Timestamp::as_second);
    Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

/// Prints what the running agent says of itself. As LSB has it for services, the status is 0 where all is well and 3 where
/// there is no agent; it is 1 where an agent cannot publish all.
pub fn print(settings: &Settings) -> ExitCode {
    let directory = run_directory::path(&Root::new(&settings.root));
    let Some(directory) = directory.filter(|directory| run_directory::is_locked(directory)) else {
        error!("no agent is running");
        return ExitCode::from(3);
    };
    let file = directory.join(FILE);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(failed) => {
            error!("the agent has published nothing yet: {}: {failed}", file.display());
            return ExitCode::FAILURE;
        }
    };
    if let Err(failure) = show::print(&text) {
        error!("{failure}");
        return ExitCode::FAILURE;
    }
    let is_well = text.lines().next() == Some(&format!("state = {}", quote(PUBLISHED)));
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
