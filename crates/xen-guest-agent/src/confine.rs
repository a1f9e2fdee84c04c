//! Confinement: the privileges that the agent gives up once it is connected to Xenstore.

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::collect::distribution;
use crate::platform::{Platform, System};
use crate::root::Root;

/// User and group of the confined agent.
pub const USER: &str = "xen-guest-agent";

/// Maximum size in bytes of the file with the system's users.
const PASSWD_MAX: usize = 4 * 1024 * 1024;

/// Value of the setting `confine`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// [`User`](Self::User) if Xenstore is the kernel's device, the user exists and a service manager
    /// restarts the agent, otherwise [`Uid0`](Self::Uid0). Off with another root directory.
    #[default]
    Auto,
    /// The agent changes to the user [`USER`] and gives up all else.
    User,
    /// The agent keeps its user and gives up all else.
    Uid0,
    /// The agent keeps all privileges.
    Off,
}

/// A user of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User ID, which is not 0.
    pub uid: u32,
    /// ID of the user's group, which is not 0.
    pub gid: u32,
}

impl User {
    /// Finds [`USER`] in `/etc/passwd`, where package managers put system users. getpwnam(3) of
    /// glibc would load libraries and might ask a server.
    pub fn find(root: &Root) -> Option<Self> {
        let passwd = root.read("/etc/passwd", PASSWD_MAX).ok()?;
        String::from_utf8_lossy(&passwd).lines().find_map(|line| {
            let mut fields = line.split(':');
            let is_user = fields.next() == Some(USER);
            let mut ids = fields.skip(1).map(|id| id.parse().ok());
            let (uid, gid) = (ids.next()??, ids.next()??);
            // The kernel takes the greatest number for "no change".
            let is_valid = [uid, gid].iter().all(|id| ![0, u32::MAX].contains(id));
            (is_user && is_valid).then_some(User { uid, gid })
        })
    }
}

/// Privileges that the confined agent keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// User to change to.
    pub user: Option<User>,
    /// Directories below which the agent reads.
    pub readable: Vec<PathBuf>,
    /// Directories below which the agent creates, replaces and removes files.
    pub writable: Vec<PathBuf>,
    /// Directories with devices that the agent opens for reading and writing.
    pub devices: Vec<PathBuf>,
    /// Whether the agent sends to a socket with a name without a file.
    pub uses_abstract_socket: bool,
}

/// Result of giving up privileges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the user was changed.
    pub is_user_changed: bool,
    /// Restrictions that are in force.
    pub in_force: Vec<String>,
    /// Restrictions that this kernel or architecture lacks.
    pub unavailable: Vec<&'static str>,
    /// Steps that the kernel refused, with its reasons.
    pub problems: Vec<String>,
}

impl Outcome {
    /// Describes the restrictions in one line.
    pub fn describe(&self) -> String {
        let in_force = if self.in_force.is_empty() {
            "off".to_owned()
        } else {
            self.in_force.join(", ")
        };
        if self.unavailable.is_empty() {
            in_force
        } else {
            let unavailable = self.unavailable.join(" and ");
            format!("{in_force}; not available here: {unavailable}")
        }
    }
}

/// Confinement that a mode means on this system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// No confinement.
    Off,
    /// Confinement of the present user.
    KeepUser,
    /// Confinement and a change of the user.
    ChangeUser(User),
}

/// Resolves a mode. `connects_again` says whether the agent is connected again after a loss even if
/// it has changed its user: Xenstore is the kernel's device, and a service manager restarts the agent.
/// `find_user` returns the user that the agent can change to.
pub fn resolve(
    mode: Mode,
    root: &Root,
    connects_again: bool,
    find_user: impl FnOnce() -> Option<User>,
) -> Target {
    match mode {
        Mode::Off => Target::Off,
        Mode::Auto if !root.is_system() => Target::Off,
        Mode::Auto if !connects_again => Target::KeepUser,
        Mode::Auto | Mode::User => find_user().map_or(Target::KeepUser, Target::ChangeUser),
        Mode::Uid0 => Target::KeepUser,
    }
}

/// Returns the directories to read below: those of the system, and the real directories of `files`,
/// which may be links that lead elsewhere.
pub fn readable(root: &Root, directories: &[PathBuf], files: &[PathBuf]) -> Vec<PathBuf> {
    let system = System::READABLE.iter();
    let system = system.filter_map(|path| root.path(path).ok());
    let release = root.path(distribution::MAIN_FILE).ok();
    let targets = files
        .iter()
        .cloned()
        .chain(release)
        .filter_map(|file| fs::canonicalize(file).ok()?.parent().map(Path::to_owned))
        // A file in the root directory must not open everything.
        .filter(|directory| directory != Path::new("/"));

    let mut found: Vec<_> = system
        .chain(directories.iter().cloned())
        .chain(targets)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn user_is_found_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        assert_eq!(User::find(&root), None, "no file");
        fs::create_dir(directory.path().join("etc")).unwrap();
        let user = Some(User { uid: 998, gid: 997 });
        for (line, expected) in [
            ("", None),
            (
                "xen-guest-agent:x:998:997:Xen guest agent:/:/usr/sbin/nologin\n",
                user,
            ),
            ("xen-guest-agent:x:998:997", user),
            ("xen-guest-agent2:x:998:997::/:\n", None),
            ("xen-guest-agent:x:0:0::/:\n", None),
            ("xen-guest-agent:x:998:0::/:\n", None),
            ("xen-guest-agent:x:4294967295:997::/:\n", None),
            ("xen-guest-agent:x:998:4294967295::/:\n", None),
            ("xen-guest-agent:x:998\n", None),
            ("xen-guest-agent:x:-1:997\n", None),
            ("xen-guest-agent\n", None),
        ] {
            let text = format!("root:x:0:0:root:/root:/bin/sh\nbroken\n{line}");
            fs::write(directory.path().join("etc/passwd"), text).unwrap();
            assert_eq!(User::find(&root), expected, "{line}");
        }
    }

    #[test]
    fn auto_changes_the_user_only_on_this_system_and_if_the_agent_connects_again() {
        let (here, elsewhere) = (Root::default(), Root::new("/host"));
        let user = User { uid: 998, gid: 997 };
        let resolve =
            |mode, root, connects_again| resolve(mode, root, connects_again, || Some(user));
        let (keep, change) = (Target::KeepUser, Target::ChangeUser(user));
        assert_eq!(resolve(Mode::Auto, &here, true), change);
        assert_eq!(resolve(Mode::Auto, &here, false), keep);
        assert_eq!(resolve(Mode::Auto, &elsewhere, true), Target::Off);
        assert_eq!(resolve(Mode::Off, &here, true), Target::Off);
        assert_eq!(resolve(Mode::Uid0, &elsewhere, true), keep);
        assert_eq!(resolve(Mode::User, &elsewhere, false), change);
        assert_eq!(super::resolve(Mode::Auto, &here, true, || None), keep);
    }

    #[test]
    fn directories_of_link_targets_are_readable() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        fs::create_dir_all(base.join("store/deep")).unwrap();
        fs::create_dir(base.join("etc")).unwrap();
        fs::write(base.join("store/deep/file"), "").unwrap();
        symlink("../store/deep/file", base.join("etc/link")).unwrap();
        symlink("/", base.join("etc/slash")).unwrap();
        let files = ["etc/link", "etc/slash", "etc/missing"].map(|file| base.join(file));
        let found = readable(&Root::new(&base), &[base.join("etc/services.d")], &files);
        for expected in ["etc", "etc/services.d", "store/deep"] {
            assert!(
                found.contains(&base.join(expected)),
                "{expected}: {found:?}"
            );
        }
        assert!(!found.contains(&PathBuf::from("/")));
        assert!(!found.contains(&base));
    }

    #[test]
    fn description_names_what_is_not_available() {
        let mut outcome = Outcome::default();
        assert_eq!(outcome.describe(), "off");
        outcome.in_force = vec!["uid 0".to_owned(), "no capabilities".to_owned()];
        outcome.unavailable = vec!["Landlock", "seccomp"];
        assert_eq!(
            outcome.describe(),
            "uid 0, no capabilities; not available here: Landlock and seccomp"
        );
    }
}
