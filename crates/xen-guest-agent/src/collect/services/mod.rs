//! Services: facts that the administrator publishes. A directory has a file for each service.

mod format;
mod safe_open;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use log::warn;

use crate::guest::Services;
use crate::platform::{DirWatch as _, Platform, System, clock};
use crate::rate_limit::Limiter;
use format::is_name;
use safe_open::SafeDir;
use state::State;

/// Default directory.
pub const DIRECTORY: &str = System::SERVICES;

/// Maximum number of nodes of all services, intermediate nodes included. A guest may have 1000.
pub const MAX_NODES: usize = 100;

/// Maximum size of a file in bytes.
const FILE_SIZE_MAX: usize = 16 * 1024;

/// Number of changes that may be read one after another at once. A script that writes a few files
/// causes fewer.
const READ_BURST: u32 = 10;

/// Time between two reads after a burst. A user who may write to the directory must not keep the
/// agent busy.
const READ_INTERVAL: Duration = Duration::from_secs(1);

/// Number of problems that may be logged one after another at once. This is enough for all lines of
/// a few files that are invalid throughout.
const LOG_BURST: u32 = 50;

/// Time between two logged problems after a burst. A user who may write to the directory must not
/// fill the log.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Extension of a service's file.
const EXTENSION: &str = ".conf";

/// Facts of each service, by service and key.
type Facts = BTreeMap<String, BTreeMap<String, String>>;

/// The directory of services.
#[derive(Debug)]
pub struct Directory {
    platform: System,
    path: String,
    state: State,
    watch: Option<<System as Platform>::DirWatch>,
    reads: Limiter,
    /// Time until which changes wait, because there have been too many.
    paused_until: Option<Duration>,
    log: Limiter,
    /// Problems that have been logged.
    logged: BTreeSet<String>,
}

impl Directory {
    /// Opens the directory, which need not exist. The file `state` remembers published services
    /// across restarts.
    pub fn open(platform: &System, path: &str, state: Option<PathBuf>) -> Self {
        Directory {
            platform: System::new(platform.root().clone()),
            path: path.to_owned(),
            state: State::open(state),
            watch: None,
            reads: Limiter::new(READ_BURST, READ_INTERVAL),
            paused_until: None,
            log: Limiter::new(LOG_BURST, LOG_INTERVAL),
            logged: BTreeSet::new(),
        }
    }

    /// Returns a descriptor that is readable after a change, or `None` during a pause. Then call
    /// [`on_changed`](Self::on_changed).
    pub fn watch(&self) -> Option<BorrowedFd<'_>> {
        let watch = self.watch.as_ref().filter(|_| self.paused_until.is_none());
        watch.map(AsFd::as_fd)
    }

    /// Returns the time at which [`resume`](Self::resume) is due.
    pub fn deadline(&self) -> Option<Duration> {
        self.paused_until
    }

    /// Ends a pause that is over.
    pub fn resume(&mut self, now: Duration) {
        self.paused_until = self.paused_until.filter(|until| *until > now);
    }

    /// Reads the directory after a change, and pauses if there have been many. Returns whether the
    /// services changed.
    pub fn on_changed(&mut self, services: &mut Services, now: Duration) -> bool {
        self.reads.take(now);
        self.paused_until = Some(self.reads.next()).filter(|next| *next > now);
        self.read(services)
    }

    /// Reads the directory if `is_full` or if changes of it are not reported. Returns whether the
    /// services changed.
    pub fn poll(&mut self, services: &mut Services, is_full: bool) -> bool {
        // For an idle guest this check is all the work of a poll.
        let is_reported = self.watch.as_ref().is_some_and(|watch| {
            watch.is_reliable() || !self.platform.root().exists(parent(&self.path))
        });
        (is_full || !is_reported) && self.read(services)
    }

    /// Reads all files. Returns whether the services changed. Invalid lines and files are logged
    /// once and skipped.
    pub fn read(&mut self, services: &mut Services) -> bool {
        let mut problems = BTreeSet::new();
        let facts = self.read_files(&mut problems);
        if let Err(error) = &facts {
            problems.insert(format!("{}: {error}", self.path));
        }
        self.log(problems, clock::now());

        // A failed read does not mean that the services are gone.
        let Ok(facts) = facts else { return false };

        let mut withdrawn = services.withdrawn.clone();
        withdrawn.extend(self.state.names().iter().cloned());
        withdrawn.retain(|name| !facts.contains_key(name));
        // The names are saved before the nodes are written, so that a restarted agent can remove
        // them.
        self.state
            .set(withdrawn.iter().chain(facts.keys()).cloned().collect());
        let new = Services { facts, withdrawn };
        let changed = *services != new;
        *services = new;
        changed
    }

    /// Has all published services withdrawn, without reading their files.
    pub fn withdraw(&self, services: &mut Services) {
        services.facts.clear();
        services.withdrawn.clone_from(self.state.names());
    }

    /// Forgets withdrawn services, because their nodes have been removed.
    pub fn forget_withdrawn(&mut self, services: &mut Services) {
        if !services.withdrawn.is_empty() {
            services.withdrawn.clear();
            self.state.set(services.facts.keys().cloned().collect());
        }
    }

    /// Logs problems that have not been logged yet. If there are too many, the others wait for
    /// another read.
    fn log(&mut self, mut problems: BTreeSet<String>, now: Duration) {
        problems.retain(|problem| {
            if self.logged.contains(problem) {
                return true;
            }
            if self.log.next() > now {
                return false;
            }
            warn!("{problem}");
            if self.log.take(now) {
                let seconds = LOG_INTERVAL.as_secs();
                warn!(
                    "{}: too many problems; logging at most one every {seconds} s",
                    self.path
                );
            }
            true
        });
        self.logged = problems;
    }

    /// Watches the directory, and reads its files.
    fn read_files(&mut self, problems: &mut BTreeSet<String>) -> io::Result<Facts> {
        match self.open_directory() {
            // inotify_add_watch(2) follows links and may wait, so the path is checked first.
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                self.watch = None;
                return Err(error);
            }
            Ok(_) | Err(_) => {}
        }
        let watched = self.renew_watch();

        let Some(directory) = self.open_directory()? else {
            return Ok(Facts::new());
        };
        if let Err(error) = watched {
            problems.insert(format!("{}: changes are noticed late: {error}", self.path));
        }
        self.facts(&directory, problems)
    }

    /// Opens the directory, if it exists.
    fn open_directory(&self) -> io::Result<Option<SafeDir>> {
        // The default path needs no check, because the agent reads its settings from the same file
        // system.
        match SafeDir::open(self.platform.root(), &self.path, self.path != DIRECTORY) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    fn renew_watch(&mut self) -> io::Result<()> {
        let watch = match &mut self.watch {
            Some(watch) => watch,
            None => self.watch.insert(self.platform.watch_dir()?),
        };
        watch.renew(&self.path, parent(&self.path))
    }

    fn facts(&self, directory: &SafeDir, problems: &mut BTreeSet<String>) -> io::Result<Facts> {
        let mut facts = BTreeMap::new();
        let mut remaining = MAX_NODES - 1;
        for name in self.names(directory, problems)? {
            let file = format!("{}/{name}{EXTENSION}", self.path);
            let text = match directory.read(&format!("{name}{EXTENSION}"), FILE_SIZE_MAX) {
                Ok(text) => text,
                // The file was removed meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => {
                    problems.insert(format!("{file}: ignored: {error}"));
                    continue;
                }
            };

            let (own, invalid) = format::parse(&text);
            for (line, reason) in invalid.first {
                problems.insert(format!("{file}:{line}: ignored: {reason}"));
            }
            if invalid.others > 0 {
                problems.insert(format!("{file}: ignored: {} more lines", invalid.others));
            }
            if own.is_empty() {
                continue;
            }

            // xapi finds services by a prefix of their paths, so it would mix up these two.
            if let Some(other) = facts
                .keys()
                .find(|other: &&String| name.starts_with(*other))
            {
                problems.insert(format!(
                    "{file}: ignored: the name begins with the name of another service, {other}"
                ));
            } else if let Some(rest) = remaining.checked_sub(own.len() + 1) {
                remaining = rest;
                facts.insert(name, own);
            } else {
                problems.insert(format!(
                    "{file}: ignored: all services together may have at most {MAX_NODES} nodes"
                ));
            }
        }
        Ok(facts)
    }

    /// Returns the names of services that have a file, in order. A name precedes longer names that
    /// begin with it.
    fn names(
        &self,
        directory: &SafeDir,
        problems: &mut BTreeSet<String>,
    ) -> io::Result<BTreeSet<String>> {
        let path = &self.path;
        let entries = match fs::read_dir(directory.path()) {
            // The directory was removed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries?,
        };

        let mut names = BTreeSet::new();
        for entry in entries {
            let name = entry?.file_name();
            // Editors and package managers create hidden files and files with other extensions.
            let Some(name) = name.as_encoded_bytes().strip_suffix(EXTENSION.as_bytes()) else {
                continue;
            };
            match std::str::from_utf8(name) {
                Ok(name) if is_name(name) => drop(names.insert(name.to_owned())),
                _ if name.is_empty() || name.starts_with(b".") => {}
                _ => {
                    let name = name.escape_ascii();
                    let reason =
                        "ignored: a service's name may have only the characters A-Z a-z 0-9 - _ @";
                    problems.insert(format!("{path}/{name}{EXTENSION}: {reason}"));
                }
            }

            // Further services would exceed the node limit. The sorted order skips the same ones
            // each time.
            if names.len() > MAX_NODES {
                names.pop_last();
            }
            if problems.len() > MAX_NODES {
                problems.pop_last();
            }
        }
        Ok(names)
    }
}

/// Returns the parent directory.
fn parent(path: &str) -> &str {
    path.trim_end_matches('/')
        .rsplit_once('/')
        .map_or("", |(parent, _)| parent)
}

#[cfg(test)]
mod tests;
