//! Services: facts that an administrator publishes, from a directory with a file for each service.

mod format;
mod state;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use log::warn;

use crate::guest::Services;
use crate::root::Root;
use format::is_name;
use state::State;
use watch::Watch;

/// The directory, where nothing else is set.
pub const DIRECTORY: &str = "/etc/xen-guest-agent/services.d";

/// The most nodes that services may take, the ones in between counted, of the 1000 that a guest may have.
pub const MOST: usize = 100;

/// The most bytes a file may have.
const SIZE_MAX: usize = 16 * 1024;

/// How the name of a service's file ends.
const ENDING: &str = ".conf";

/// The file in the agent's directory of `/run` that remembers which services are published. It lives as long as the nodes in
/// Xenstore do, since both are gone after a boot.
pub const STATE: &str = "services";

/// Reads the directory.
#[derive(Debug)]
pub struct Directory {
    root: Root,
    path: String,
    state: State,
    watch: Option<Watch>,
    /// What was said of it in the log.
    said: BTreeSet<String>,
}

impl Directory {
    /// Takes the directory of that path, which need not be there. With a file for `state`, what the agent publishes is
    /// remembered there over a restart.
    pub fn open(root: Root, path: &str, state: Option<PathBuf>) -> Self {
        let watch =
            Watch::open().inspect_err(|error| warn!("{path}: changes are noticed late: {error}"));
        Directory {
            root,
            path: path.to_owned(),
            state: State::open(state),
            watch: watch.ok(),
            said: BTreeSet::new(),
        }
    }

    /// Readable when there may be something new: then [`read`](Self::read).
    pub fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// Looks whether there is something that was not told, or at everything if `is_full`. Whether something changed.
    pub fn look(&mut self, services: &mut Services, is_full: bool) -> bool {
        // An idle guest has no more to do than this.
        let is_told = self
            .watch
            .as_ref()
            .is_some_and(|watch| watch.is_reliable() || !self.root.exists(above(&self.path)));
        (is_full || !is_told) && self.read(services)
    }

    /// Reads all files. Whether something changed. What is wrong with them is said once in the log, and left out.
    pub fn read(&mut self, services: &mut Services) -> bool {
        if let Some(watch) = &mut self.watch {
            watch.renew(&self.root, &self.path, above(&self.path));
        }
        let mut faults = BTreeSet::new();
        let facts = self.facts(&mut faults);
        if let Err(error) = &facts {
            faults.insert(error.to_string());
        }
        faults
            .difference(&self.said)
            .for_each(|fault| warn!("{fault}"));
        self.said = faults;
        // What cannot be read is not gone: it may be read again later.
        let Ok(facts) = facts else { return false };

        let mut withdrawn = services.withdrawn.clone();
        withdrawn.extend(self.state.names().iter().cloned());
        withdrawn.retain(|name| !facts.contains_key(name));
        // Before any of it is published: what is not remembered could not be taken back.
        self.state
            .set(withdrawn.iter().chain(facts.keys()).cloned().collect());
        let new = Services { facts, withdrawn };
        let is_news = *services != new;
        *services = new;
        is_news
    }

    /// Forgets withdrawn services: they are gone from the store.
    pub fn forget_withdrawn(&mut self, services: &mut Services) {
        if !services.withdrawn.is_empty() {
            services.withdrawn.clear();
            self.state.set(services.facts.keys().cloned().collect());
        }
    }

    fn facts(
        &self,
        faults: &mut BTreeSet<String>,
    ) -> io::Result<BTreeMap<String, BTreeMap<String, String>>> {
        let mut facts = BTreeMap::new();
        let mut left = MOST - 1;
        for name in self.names(faults)? {
            let file = format!("{}/{name}{ENDING}", self.path);
            let text = match self.root.read(&file, SIZE_MAX) {
                Ok(text) => text,
                // It went in between.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => {
                    faults.insert(error.to_string());
                    continue;
                }
            };
            let (own, line_faults) = format::parse(&text);
            if let Some((line, fault)) = line_faults.first {
                let others = match line_faults.others {
                    0 => String::new(),
                    others => format!(" (and {others} more lines)"),
                };
                faults.insert(format!("{file}:{line}: left out: {fault}{others}"));
            }
            if own.is_empty() {
                continue;
            }
            // xapi lists services by the beginning of their paths: one would get what is the other's.
            if let Some(other) = facts
                .keys()
                .find(|other: &&String| name.starts_with(*other))
            {
                faults.insert(format!(
                    "{file}: left out: its name begins with that of another service, {other}"
                ));
            } else if let Some(less) = left.checked_sub(own.len() + 1) {
                left = less;
                facts.insert(name, own);
            } else {
                faults.insert(format!(
                    "{file}: left out: all services together may take {MOST} nodes of Xenstore"
                ));
            }
        }
        Ok(facts)
    }

    /// The names of services that there are files for, in order: one that is the beginning of another comes before it.
    fn names(&self, faults: &mut BTreeSet<String>) -> io::Result<BTreeSet<String>> {
        let path = &self.path;
        let entries = match self.root.path(path).and_then(fs::read_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(io::Error::new(error.kind(), format!("{path}: {error}"))),
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            let name = entry?.file_name();
            // Editors and package managers put files of other endings there, or hidden ones.
            let Some(name) = name.as_encoded_bytes().strip_suffix(ENDING.as_bytes()) else {
                continue;
            };
            match std::str::from_utf8(name) {
                Ok(name) if is_name(name) => drop(names.insert(name.to_owned())),
                _ if name.is_empty() || name.starts_with(b".") => {}
                _ => {
                    let name = name.escape_ascii();
                    let fault = "left out: a service's name has the characters A-Z a-z 0-9 - _ @";
                    faults.insert(format!("{path}/{name}{ENDING}: {fault}"));
                }
            }
            // No more of them can have room; the same ones are left out each time.
            if names.len() > MOST {
                names.pop_last();
            }
            if faults.len() > MOST {
                faults.pop_last();
            }
        }
        Ok(names)
    }
}

/// The directory above.
fn above(path: &str) -> &str {
    path.trim_end_matches('/')
        .rsplit_once('/')
        .map_or("", |(above, _)| above)
}

#[cfg(test)]
mod tests;
