//! Giving up privileges once the agent is connected.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use log::{info, warn};
use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::Daemon;
use crate::confine::{Mode, Outcome, Plan, Target, USER, User, readable, resolve};
use crate::platform::{Platform, System};
use crate::root::Root;
use crate::runtime_dir;
use crate::service_manager;
use crate::settings::Sources;

/// How far the agent has given up privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confinement {
    /// All privileges of the start.
    None,
    /// Only the capabilities that are needed to give up the rest.
    FewCapabilities,
    /// All restrictions are in force, as far as the system has them.
    Complete,
    /// The settings want no restrictions.
    Off,
}

impl Daemon {
    /// Gives up privileges: all of them once there is a connection, and most capabilities before.
    pub(super) fn confine(&mut self, sources: &Sources) {
        let is_pending = match self.confinement {
            Confinement::None => true,
            Confinement::FewCapabilities => self.agent.connection().is_some(),
            Confinement::Complete | Confinement::Off => false,
        };
        if !is_pending {
            return;
        }

        let root = Root::new(&self.settings.root);
        let is_device = self
            .agent
            .connection()
            .map(|connection| connection.channel().is_device());
        let mode = self.settings.confine;
        let find_user = || find_user(&root, mode);
        let connects_again = is_device.unwrap_or_default() && service_manager::restarts_agent();
        let user = match resolve(mode, &root, connects_again, find_user) {
            Target::Off => {
                self.confinement = Confinement::Off;
                self.status.set_confinement("off".to_owned());
                return;
            }
            Target::KeepUser => None,
            Target::ChangeUser(user) => Some(user),
        };
        if is_device.is_none() {
            self.confinement = Confinement::FewCapabilities;
            if let Err(error) = System::reduce_capabilities() {
                warn!("cannot give up capabilities: {error}");
            }
            return;
        }

        self.confinement = Confinement::Complete;
        let outcome = self.give_up_privileges(&root, user, sources);
        for problem in &outcome.problems {
            warn!("cannot {problem}");
        }
        let description = outcome.describe();
        info!("confinement: {description}");
        self.status.set_confinement(description);
    }

    fn give_up_privileges(&self, root: &Root, user: Option<User>, sources: &Sources) -> Outcome {
        let (mut directories, mut files) = sources.paths().unwrap_or_default();
        let services = self.settings.services.as_path();
        if let Ok(services) = root.path(services) {
            let entries = fs::read_dir(&services).into_iter().flatten().flatten();
            files.extend(entries.map(|entry| entry.path()));
            directories.push(existing(services));
        }

        let mut plan = Plan {
            user,
            readable: readable(root, &directories, &files),
            uses_abstract_socket: env::var_os("NOTIFY_SOCKET")
                .is_some_and(|address| address.as_bytes().starts_with(b"@")),
            ..Plan::default()
        };
        if let Some(directory) = &self.runtime_dir {
            plan.writable.push(runtime_dir::state_dir(directory));
            if user.is_none() {
                plan.writable.push(directory.clone());
            }
        }
        if user.is_none() {
            plan.devices = System::XENSTORE_DEVICES.iter().map(PathBuf::from).collect();
        }

        if let (Some(directory), Some(user)) = (&self.runtime_dir, user) {
            if let Err(error) = runtime_dir::give_state(directory, user.gid) {
                warn!("cannot give the state to the group {USER}: {error}");
            }
        }
        let outcome = System::confine(&plan);
        if outcome.is_user_changed {
            warn_of_unreadable(directories.iter().chain(&files));
        }
        outcome
    }

    /// Whether the agent gave up privileges that opening another connection may need.
    pub(super) fn is_confined(&self) -> bool {
        self.confinement == Confinement::Complete
    }
}

/// Takes the state back from the group of an earlier agent.
pub(super) fn take_state(directory: &Path) {
    if let Err(error) = runtime_dir::take_state(directory) {
        warn!("cannot take over the state of an earlier agent: {error}");
    }
}

/// Returns the user that the agent can change to.
fn find_user(root: &Root, mode: Mode) -> Option<User> {
    let user = User::find(root);
    let problem = if user.is_none() {
        "there is no such user; create it as a system user"
    } else if System::can_change_user() {
        return user;
    } else {
        "capabilities are missing; start it with CAP_SETUID and CAP_SETGID"
    };

    if mode == Mode::User {
        warn!("confine: the agent cannot change to the user {USER}: {problem}");
    }
    None
}

/// Returns the directory, or its parent as long as the directory does not exist.
fn existing(directory: PathBuf) -> PathBuf {
    let parent = directory
        .parent()
        .filter(|parent| *parent != Path::new("/"));
    match parent {
        Some(parent) if !directory.exists() => parent.to_owned(),
        _ => directory,
    }
}

/// Names files and directories that the user of the agent cannot read, because the agent would miss
/// their changes.
fn warn_of_unreadable<'a>(paths: impl Iterator<Item = &'a PathBuf>) {
    for path in paths {
        let (needed, mode) = if path.is_dir() {
            (Access::READ_OK | Access::EXEC_OK, "g+rx")
        } else {
            (Access::READ_OK, "g+r")
        };
        let name = path.file_name().map(OsStr::as_bytes);
        if name.is_some_and(|name| name.starts_with(b".")) {
            continue;
        }
        if access(path, needed) == Err(Errno::ACCESS) {
            let path = path.display().to_string();
            let quoted = format!("'{}'", path.replace('\'', r"'\''"));
            warn!(
                "{path}: the user {USER} cannot read it, so changes have no effect; run: \
                 chgrp {USER} {quoted} && chmod {mode} {quoted}"
            );
        }
    }
}
