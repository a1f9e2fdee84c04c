//! Services: facts that the administrator publishes. A directory has a file for each service.

mod format;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use log::warn;

use crate::guest::Services;
use crate::platform::{DirWatch as _, Platform, System};
use crate::root::Root;
use format::is_name;
use state::State;

/// Default directory.
pub const DIRECTORY: &str = "/etc/xen-guest-agent/services.d";

/// Maximum number of nodes of all services, intermediate nodes included. A guest may have 1000.
pub const MAX_NODES: usize = 100;

/// Maximum size of a file in bytes.
const FILE_SIZE_MAX: usize = 16 * 1024;

/// Extension of a service's file.
const EXTENSION: &str = ".conf";

/// File in the runtime directory with the names of published services. It exists as long as the
/// nodes in Xenstore do, because a boot removes both.
pub const STATE: &str = "services";

/// The directory of services.
#[derive(Debug)]
pub struct Directory {
    root: Root,
    path: String,
    state: State,
    watch: Option<<System as Platform>::DirWatch>,
    /// Problems that have been logged.
    logged: BTreeSet<String>,
}

impl Directory {
    /// Opens the directory, which need not exist. The file `state` remembers published services
    /// across restarts.
    pub fn open(platform: &System, path: &str, state: Option<PathBuf>) -> Self {
        let watch = platform
            .watch_dir()
            .inspect_err(|error| warn!("cannot watch {path}: {error}; polling it instead"));
        Directory {
            root: platform.root().clone(),
            path: path.to_owned(),
            state: State::open(state),
            watch: watch.ok(),
            logged: BTreeSet::new(),
        }
    }

    /// Returns a descriptor that is readable after a change. Then call [`read`](Self::read).
    pub fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// Reads the directory if `is_full` or if changes of it are not reported. Returns whether the
    /// services changed.
    pub fn poll(&mut self, services: &mut Services, is_full: bool) -> bool {
        // For an idle guest this check is all the work of a poll.
        let is_reported = self
            .watch
            .as_ref()
            .is_some_and(|watch| watch.is_reliable() || !self.root.exists(parent(&self.path)));
        (is_full || !is_reported) && self.read(services)
    }

    /// Reads all files. Returns whether the services changed. Invalid lines and files are logged
    /// once and skipped.
    pub fn read(&mut self, services: &mut Services) -> bool {
        if let Some(watch) = &mut self.watch {
            watch.renew(&self.path, parent(&self.path));
        }
        let mut faults = BTreeSet::new();
        let facts = self.facts(&mut faults);
        if let Err(error) = &facts {
            faults.insert(error.to_string());
        }
        faults
            .difference(&self.logged)
            .for_each(|fault| warn!("{fault}"));
        self.logged = faults;

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

    /// Forgets withdrawn services, because their nodes have been removed.
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
        let mut remaining = MAX_NODES - 1;
        for name in self.names(faults)? {
            let file = format!("{}/{name}{EXTENSION}", self.path);
            let text = match self.root.read(&file, FILE_SIZE_MAX) {
                Ok(text) => text,
                // The file was removed meanwhile.
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
                faults.insert(format!("{file}:{line}: ignored: {fault}{others}"));
            }
            if own.is_empty() {
                continue;
            }

            // xapi finds services by a prefix of their paths, so it would mix up these two.
            if let Some(other) = facts
                .keys()
                .find(|other: &&String| name.starts_with(*other))
            {
                faults.insert(format!(
                    "{file}: ignored: the name begins with the name of another service, {other}"
                ));
            } else if let Some(rest) = remaining.checked_sub(own.len() + 1) {
                remaining = rest;
                facts.insert(name, own);
            } else {
                faults.insert(format!(
                    "{file}: ignored: all services together may have at most {MAX_NODES} nodes"
                ));
            }
        }
        Ok(facts)
    }

    /// Returns the names of services that have a file, in order. A name precedes longer names that
    /// begin with it.
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
            // Editors and package managers create hidden files and files with other extensions.
            let Some(name) = name.as_encoded_bytes().strip_suffix(EXTENSION.as_bytes()) else {
                continue;
            };
            match std::str::from_utf8(name) {
                Ok(name) if is_name(name) => drop(names.insert(name.to_owned())),
                _ if name.is_empty() || name.starts_with(b".") => {}
                _ => {
                    let name = name.escape_ascii();
                    let fault =
                        "ignored: a service's name may have only the characters A-Z a-z 0-9 - _ @";
                    faults.insert(format!("{path}/{name}{EXTENSION}: {fault}"));
                }
            }

            // Further services would exceed the node limit. The sorted order skips the same ones
            // each time.
            if names.len() > MAX_NODES {
                names.pop_last();
            }
            if faults.len() > MAX_NODES {
                faults.pop_last();
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
