//! The status of the running agent: the file that the agent keeps, the socket that shows that it
//! runs, and the sub-command that prints the file.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use log::{error, warn};
use xenstore::Path;

use crate::agent::Agent;
use crate::collect::Collectors;
use crate::root::Root;
use crate::runtime_dir::{self, LivenessSocket, STATUS};
use crate::schema::layout::LAYOUT;
use crate::settings::name;
use crate::show;
use crate::text::quote;

/// Prefix of the nodes of services.
const SERVICES: &str = "data/service/";

/// Time after which an unfinished publication gets a status of its own. Most take milliseconds.
const PUBLISHING_AFTER: Duration = Duration::from_secs(2);

/// State of the agent. The words are part of the file format, and so they must stay the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is published yet.
    Starting,
    /// Everything is published, except perhaps a node that some toolstacks never let guests write.
    Published,
    /// Requests have been outstanding for at least [`PUBLISHING_AFTER`].
    Publishing,
    /// Some nodes are missing: they are denied, over quota, or failed for another reason.
    Incomplete,
    /// There is no connection to Xenstore.
    Disconnected,
}

impl State {
    fn words(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Published => "published",
            State::Publishing => "publishing",
            State::Incomplete => "incomplete",
            State::Disconnected => "waiting for Xenstore",
        }
    }
}

/// Keeps the status file: TOML, replaced as a whole whenever the status changes.
#[derive(Debug)]
pub struct Status {
    directory: Option<PathBuf>,
    socket: Option<LivenessSocket>,
    started: SystemTime,
    /// The agent's event count and the state that were written last. A failed attempt counts, so
    /// that only the next change causes a new one.
    last_written: Option<(u64, State)>,
    is_stale: bool,
    has_failed: bool,
    /// Restrictions in force, once they are known.
    confinement: Option<String>,
    /// Time since which the agent has had work to do.
    busy_since: Option<Duration>,
    /// The agent's count of resumes, and the date of the last one.
    resumed: Option<(u64, SystemTime)>,
}

impl Status {
    /// Keeps the status file in `directory`, or none without a directory.
    pub fn new(directory: Option<PathBuf>, date: SystemTime) -> Self {
        Status {
            directory,
            socket: None,
            started: date,
            last_written: None,
            is_stale: false,
            has_failed: false,
            confinement: None,
            busy_since: None,
            resumed: None,
        }
    }

    /// Makes the next update write the file, even if the agent counts no event until then.
    pub fn refresh(&mut self) {
        self.is_stale = true;
    }

    /// Sets the restrictions in force, for the next update.
    pub fn set_confinement(&mut self, confinement: String) {
        self.confinement = Some(confinement);
        self.refresh();
    }

    /// Returns the time at which the status changes although nothing happens.
    pub fn deadline(&self) -> Option<Duration> {
        let is_written = self
            .last_written
            .is_some_and(|(_, state)| state == State::Publishing);
        self.busy_since
            .filter(|_| !is_written)
            .map(|busy| busy + PUBLISHING_AFTER)
    }

    /// Writes the file if the status changed.
    pub fn update(
        &mut self,
        agent: &Agent,
        collectors: &Collectors,
        now: Duration,
        date: SystemTime,
    ) {
        let is_at_rest = agent.is_published() || agent.connection().is_none();
        self.busy_since = if is_at_rest {
            None
        } else {
            Some(self.busy_since.unwrap_or(now))
        };
        let Some(state) = self.state(agent, now) else {
            return;
        };
        if !self.is_stale && self.last_written == Some((agent.events(), state)) {
            return;
        }

        let resumes = agent.resumes();
        if resumes > 0 && self.resumed.is_none_or(|(known, _)| known != resumes) {
            self.resumed = Some((resumes, date));
        }

        let written = match self.directory.clone() {
            Some(directory) => {
                self.write(&directory, &self.text(state, agent, collectors, now, date))
            }
            None => Ok(()),
        };
        (self.last_written, self.is_stale) = (Some((agent.events(), state)), false);

        let had_failed = std::mem::replace(&mut self.has_failed, false);
        if let Err(error) = written {
            self.has_failed = true;
            if !had_failed {
                warn!("cannot report the status: {error}");
            }
        }
    }

    /// Returns the state as the service manager gets it, or `None` while the agent starts.
    ///
    /// The agent is ready without Xenstore, too. The device may appear late in the boot. Services
    /// that start after the agent need not wait for the device.
    pub fn ready_state(&self) -> Option<&'static str> {
        match self.last_written? {
            (_, State::Starting) => None,
            (_, state) => Some(state.words()),
        }
    }

    fn write(&mut self, directory: &FilePath, text: &str) -> io::Result<()> {
        let file = runtime_dir::state_file(directory, STATUS);
        let written = runtime_dir::write(&file, text);
        if written.is_err() {
            // A missing file is better than a stale one.
            fs::remove_file(file).ok();
        }

        // The file comes first, because a reader trusts it once it can connect.
        let is_linked = self.socket.as_ref().is_some_and(LivenessSocket::is_linked);
        if !is_linked {
            self.socket = Some(LivenessSocket::bind(directory)?);
        }
        written
    }

    /// Returns the state, or `None` while a publication has only just begun.
    fn state(&self, agent: &Agent, now: Duration) -> Option<State> {
        if agent.connection().is_none() {
            return Some(State::Disconnected);
        }
        match self.busy_since {
            None if is_complete(agent, now) => Some(State::Published),
            None => Some(State::Incomplete),
            Some(busy) if now.saturating_sub(busy) >= PUBLISHING_AFTER => Some(State::Publishing),
            Some(_) if self.last_written.is_none() => Some(State::Starting),
            Some(_) => None,
        }
    }

    fn text(
        &self,
        state: State,
        agent: &Agent,
        collectors: &Collectors,
        now: Duration,
        changed: SystemTime,
    ) -> String {
        let mut text = String::new();
        let mut put = |key: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{key} = {value}");
        };

        put("state", &quote(state.words()));
        put("version", &quote(env!("CARGO_PKG_VERSION")));
        put("process", &std::process::id().to_string());
        put("started", &quote(&date(self.started)));
        put("changed", &quote(&date(changed)));
        if let Some((_, resumed)) = self.resumed {
            put("resumed", &quote(&date(resumed)));
        }

        put("schema", &quote(&name(&agent.schema_name())));
        put("network", &quote(collectors.network_source()));
        match (agent.connection(), agent.problem()) {
            (Some(connection), _) => put("xenstore", &quote(connection.channel().name())),
            (None, Some(problem)) => put("problem", &quote(problem)),
            (None, None) => {}
        }
        if let Some(confinement) = &self.confinement {
            put("confinement", &quote(confinement));
        }
        if let Some(id) = agent.domain_id() {
            put("domain", &id.to_string());
        }
        put("denied", &list(agent.denied()));
        put("over-quota", &list(agent.over_quota()));
        put("deferred", &list(agent.deferred()));
        put("overwritten", &list(agent.overwritten(now).into_iter()));
        put("pending", &list(agent.pending()));

        let _ = writeln!(text, "\n[nodes]");
        // Services are omitted. Every user may read this file, and services may be meant for the
        // host alone.
        for (path, value) in agent
            .nodes()
            .filter(|(path, value)| !value.is_empty() && !path.as_str().starts_with(SERVICES))
        {
            let _ = writeln!(text, "{} = {}", quote(path.as_str()), quote(value));
        }
        text
    }
}

/// Whether all nodes are published, except the one that some toolstacks let no guest write.
fn is_complete(agent: &Agent, now: Duration) -> bool {
    let denied = agent
        .denied()
        .filter(|path| path.as_str() != LAYOUT.optional);
    denied
        .chain(agent.over_quota())
        .chain(agent.deferred())
        .chain(agent.overwritten(now))
        .next()
        .is_none()
}

/// Formats a list of nodes. Those of services have no names, because every user may read the file.
fn list<'a>(paths: impl Iterator<Item = &'a Path>) -> String {
    let mut has_services = false;
    let paths: Vec<_> = paths
        .filter_map(|path| {
            if !path.as_str().starts_with(SERVICES) {
                return Some(quote(path.as_str()));
            }
            let is_first = !std::mem::replace(&mut has_services, true);
            is_first.then(|| quote("data/service/..."))
        })
        .collect();
    format!("[{}]", paths.join(", "))
}

/// Formats a time as RFC 3339, in UTC and whole seconds.
fn date(time: SystemTime) -> String {
    let seconds = Timestamp::try_from(time).map_or(0, Timestamp::as_second);
    Timestamp::from_second(seconds)
        .unwrap_or_default()
        .to_string()
}

/// Prints the status of the running agent.
///
/// As the LSB defines for services, the exit status is 0 if the agent works and 3 if no agent is
/// running. It is 1 if the agent has not published everything, or if its status cannot be
/// determined.
pub fn print(root: &Root) -> ExitCode {
    let Some(directory) = runtime_dir::path(root) else {
        error!("cannot read the status: there is no directory /run");
        return ExitCode::FAILURE;
    };

    match runtime_dir::is_agent_running(&directory) {
        Ok(true) => {}
        Ok(false) => {
            error!(
                "no agent is running: nothing listens on {}",
                directory.join(runtime_dir::SOCKET).display()
            );
            return ExitCode::from(3);
        }
        Err(error) => {
            error!("cannot determine whether an agent is running: {error}");
            return ExitCode::FAILURE;
        }
    }
    let text = match runtime_dir::read(&runtime_dir::state_file(&directory, STATUS)) {
        Ok(text) => text,
        Err(error) => {
            error!("an agent is running, but its status is unknown: {error}");
            return ExitCode::FAILURE;
        }
    };

    // A confined agent whose code is an attacker's must not reach the terminal of root.
    let is_foreign = |c: char| c.is_control() && c != '\n';
    let printed = text.replace(is_foreign, "\u{fffd}");
    if let Err(failure) = show::print(&printed) {
        error!("{failure}");
        return ExitCode::FAILURE;
    }

    let is_published =
        text.lines().next() == Some(&format!("state = {}", quote(State::Published.words())));
    if is_published {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_hide_the_names_of_services() {
        let shown = |paths: &[&str]| {
            let paths: Vec<_> = paths.iter().map(|path| Path::new(*path).unwrap()).collect();
            list(paths.iter())
        };
        assert_eq!(shown(&[]), "[]");
        assert_eq!(shown(&["data/service"]), r#"["data/service"]"#);
        assert_eq!(
            shown(&[
                "attr/eth0/ip",
                "data/service/db",
                "data/service/db/state",
                "data/services",
                "data/service/web",
            ]),
            r#"["attr/eth0/ip", "data/service/...", "data/services"]"#
        );
    }
}
