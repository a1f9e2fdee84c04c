mod trust;
mod watch;

use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode};

use super::*;
use crate::root::Root;
use crate::runtime_dir;

/// A temporary system with a directory of services, and the collected services.
struct Testbed {
    directory: tempfile::TempDir,
    services: Directory,
    known: Services,
}

impl Testbed {
    /// Makes a system with `etc` only.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("etc/agent")).unwrap();
        let services = open(&directory);
        Testbed {
            directory,
            services,
            known: Services::default(),
        }
    }

    /// Makes a system with a directory of services.
    fn with_directory() -> Self {
        let mut testbed = Testbed::new();
        testbed.make("etc/agent/services.d");
        testbed.read();
        testbed
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn make(&self, path: &str) {
        fs::create_dir_all(self.at(path)).unwrap();
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.at("etc/agent/services.d").join(name), text).unwrap();
    }

    fn read(&mut self) -> bool {
        self.services.read(&mut self.known)
    }

    /// Polls as the agent does every minute.
    fn poll(&mut self) -> bool {
        self.services.poll(&mut self.known, false)
    }

    /// Restarts the agent.
    fn restart(&mut self) {
        self.services = open(&self.directory);
        self.known = Services::default();
        self.read();
    }

    fn is_reported(&self) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(
            self.services.watch().unwrap(),
            PollFlags::IN,
        )];
        poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
    }

    fn shown(&self) -> String {
        let facts = self.known.facts.iter().flat_map(|(service, facts)| {
            facts
                .iter()
                .map(move |(key, value)| format!("{service}/{key}={value} "))
        });
        let withdrawn = self.known.withdrawn.iter().map(|name| format!("-{name} "));
        facts
            .chain(withdrawn)
            .collect::<String>()
            .trim_end()
            .to_owned()
    }

    /// Returns the logged problems, without the path of the temporary directory.
    fn logged(&self) -> Vec<String> {
        let directory = self.directory.path().to_str().unwrap();
        let mut logged: Vec<_> = self
            .services
            .logged
            .iter()
            .map(|problem| problem.replace(directory, ""))
            .collect();
        logged.sort();
        logged
    }
}

fn open(directory: &tempfile::TempDir) -> Directory {
    fs::create_dir_all(directory.path().join("run")).unwrap();
    let root = Root::new(directory.path());
    let state = runtime_dir::path(&root)
        .map(|directory| runtime_dir::state_file(&directory, runtime_dir::SERVICES));
    assert_eq!(
        state,
        Some(directory.path().join("run/xen-guest-agent/state/services"))
    );
    Directory::open(&System::new(root), "/etc/agent/services.d", state)
}

#[test]
fn each_file_is_a_service() {
    let mut testbed = Testbed::with_directory();
    assert_eq!(testbed.shown(), "");
    testbed.write("web.conf", "state = up\nport = 80\n");
    testbed.write("db-1.conf", "state=up");
    testbed.write("empty.conf", "# nothing yet\n");
    for other in [
        "notes",
        "web.conf~",
        ".web.conf.swp",
        ".conf",
        ".hidden.conf",
        "web.conf.dpkg-new",
        "x.CONF",
    ] {
        testbed.write(other, "state = no");
    }
    assert!(testbed.read());
    assert_eq!(testbed.shown(), "db-1/state=up web/port=80 web/state=up");
    assert_eq!(testbed.logged(), [""; 0]);
    assert!(!testbed.read());
}

#[test]
fn invalid_files_and_lines_are_ignored_and_logged() {
    let mut testbed = Testbed::with_directory();
    testbed.write("bad.conf", "a = 1\nb\nc\n");
    testbed.write("big.conf", "#".repeat(FILE_SIZE_MAX + 1));
    testbed.write("a b.conf", "a = 1");
    testbed.write("db.conf", "a = 1");
    testbed.write("db-x.conf", "a = 1");
    testbed.write("dbs.conf", "a = 1");
    testbed.write("e.conf", "# nothing");
    testbed.write("else.conf", "a = 1");
    testbed.make("etc/agent/services.d/dir.conf");
    symlink("/nowhere", testbed.at("etc/agent/services.d/link.conf")).unwrap();
    testbed.read();
    assert_eq!(testbed.shown(), "bad/a=1 db/a=1 else/a=1");
    let names = "ignored: a service's name may have only the characters A-Z a-z 0-9 - _ @";
    let another = "ignored: the name begins with the name of another service, db";
    assert_eq!(
        testbed.logged(),
        [
            format!("/etc/agent/services.d/a b.conf: {names}"),
            "/etc/agent/services.d/bad.conf:2: ignored: not of the form key = value".to_owned(),
            "/etc/agent/services.d/bad.conf:3: ignored: not of the form key = value".to_owned(),
            "/etc/agent/services.d/big.conf: ignored: larger than 16384 bytes".to_owned(),
            format!("/etc/agent/services.d/db-x.conf: {another}"),
            format!("/etc/agent/services.d/dbs.conf: {another}"),
            "/etc/agent/services.d/dir.conf: ignored: not a regular file".to_owned(),
        ]
    );
    testbed.write("bad.conf", "a = 2\n");
    assert!(testbed.read());
    assert_eq!(testbed.logged().len(), 5);
}

#[test]
fn all_services_together_have_a_node_limit() {
    let mut testbed = Testbed::with_directory();
    let keys = |count: usize| {
        (0..count)
            .map(|key| format!("k{key} = x\n"))
            .collect::<Vec<_>>()
            .concat()
    };
    // One node is `data/service` itself.
    testbed.write("a.conf", keys(MAX_NODES - 5));
    testbed.write("b.conf", keys(3));
    testbed.write("c.conf", keys(2));
    testbed.read();
    assert_eq!(testbed.known.facts.keys().collect::<Vec<_>>(), ["a", "c"]);
    let nodes: usize = testbed
        .known
        .facts
        .values()
        .map(|facts| 1 + facts.len())
        .sum();
    assert_eq!(nodes + 1, MAX_NODES);
    assert_eq!(
        testbed.logged(),
        ["/etc/agent/services.d/b.conf: ignored: all services together may have at most 100 nodes"]
    );
}

#[test]
fn number_of_files_and_messages_is_limited() {
    let mut testbed = Testbed::with_directory();
    for number in 0..5 * MAX_NODES {
        testbed.write(&format!("s{number:03}.conf"), "a = 1");
        testbed.write(&format!("bad {number:03}.conf"), "a = 1");
    }
    testbed.read();
    let names: Vec<_> = testbed.known.facts.keys().cloned().collect();
    assert_eq!(
        names,
        (0..49)
            .map(|number| format!("s{number:03}"))
            .collect::<Vec<_>>()
    );
    assert!(
        testbed.logged().len() <= 2 * MAX_NODES,
        "{}",
        testbed.logged().len()
    );
}

#[test]
fn published_services_are_remembered_over_a_restart() {
    let mut testbed = Testbed::with_directory();
    testbed.write("a.conf", "x = 1");
    testbed.write("b.conf", "x = 1");
    testbed.read();
    fs::remove_file(testbed.at("etc/agent/services.d/a.conf")).unwrap();
    testbed.restart();
    assert_eq!(testbed.shown(), "b/x=1 -a");
    // The name stays until the node has been removed.
    testbed.restart();
    assert_eq!(testbed.shown(), "b/x=1 -a");
    testbed.services.forget_withdrawn(&mut testbed.known);
    assert_eq!(testbed.shown(), "b/x=1");
    assert!(!testbed.read());
    testbed.restart();
    assert_eq!(testbed.shown(), "b/x=1");
    fs::remove_dir_all(testbed.at("etc")).unwrap();
    testbed.restart();
    assert_eq!(testbed.shown(), "-b");
    testbed.make("etc/agent/services.d");
    testbed.write("b.conf", "x = 1");
    assert!(testbed.read());
    assert_eq!(testbed.shown(), "b/x=1");
}

#[test]
fn foreign_content_of_the_state_file_is_ignored() {
    let mut testbed = Testbed::with_directory();
    let state = testbed.at("run/xen-guest-agent/state/services");
    testbed.make("run/xen-guest-agent/state");
    for (text, expected) in [
        (&b"a\n\n../b\nc/d\n e\nf"[..], "-a -f"),
        (b"\xff\na\n", ""),
        (b"", ""),
    ] {
        fs::write(&state, text).unwrap();
        testbed.restart();
        assert_eq!(testbed.shown(), expected);
    }
    fs::remove_file(&state).unwrap();
    fs::create_dir(&state).unwrap();
    testbed.restart();
    testbed.write("a.conf", "x = 1");
    assert!(testbed.read());
    assert_eq!(testbed.shown(), "a/x=1");
}

#[test]
fn state_file_is_not_written_without_services() {
    let mut testbed = Testbed::with_directory();
    testbed.read();
    assert_eq!(fs::read_dir(testbed.at("run")).unwrap().count(), 0);
    testbed.write("a.conf", "x = 1");
    testbed.read();
    let home = testbed.at("run/xen-guest-agent/state");
    assert_eq!(fs::read_to_string(home.join("services")).unwrap(), "a\n");
    assert_eq!(fs::read_dir(home).unwrap().count(), 1);
    // One system has the older place, and one has none.
    fs::rename(testbed.at("run"), testbed.at("var-run")).unwrap();
    let root = Root::new(testbed.directory.path());
    assert_eq!(runtime_dir::path(&root), None);
    testbed.make("var");
    symlink("/var-run", testbed.at("var/run")).unwrap();
    assert_eq!(
        runtime_dir::path(&root),
        Some(testbed.at("var-run/xen-guest-agent"))
    );
}

#[test]
fn unreadable_directory_withdraws_nothing() {
    let mut testbed = Testbed::with_directory();
    testbed.write("a.conf", "x = 1");
    testbed.read();
    fs::remove_dir_all(testbed.at("etc/agent/services.d")).unwrap();
    fs::write(testbed.at("etc/agent/services.d"), "a file").unwrap();
    assert!(!testbed.read());
    assert_eq!(testbed.shown(), "a/x=1");
    assert_eq!(testbed.logged().len(), 1);
    testbed.restart();
    assert_eq!(testbed.shown(), "");
    fs::remove_file(testbed.at("etc/agent/services.d")).unwrap();
    assert!(testbed.read());
    assert_eq!(testbed.shown(), "-a");
    fs::write(testbed.at("etc/agent/services.d"), "a file").unwrap();
    testbed.read();
}

#[test]
fn ten_invalid_lines_of_a_file_are_logged() {
    let mut testbed = Testbed::with_directory();
    testbed.write("bad.conf", "words\n".repeat(12));
    testbed.read();
    let logged = testbed.logged();
    assert_eq!(logged.len(), 11, "{logged:?}");
    let others = "/etc/agent/services.d/bad.conf: ignored: 2 more lines".to_owned();
    assert!(logged.contains(&others), "{logged:?}");
}

#[test]
fn state_file_that_is_a_fifo_or_a_link_is_not_read() {
    let testbed = Testbed::with_directory();
    testbed.make("run/xen-guest-agent/state");
    let state = testbed.at("run/xen-guest-agent/state/services");
    rustix::fs::mkfifoat(CWD, &state, Mode::from(0o600)).unwrap();
    let mut restarted = open(&testbed.directory);
    assert!(restarted.state.names().is_empty());

    fs::remove_file(&state).unwrap();
    fs::write(testbed.at("names"), "a\n").unwrap();
    symlink(testbed.at("names"), &state).unwrap();
    restarted = open(&testbed.directory);
    assert!(restarted.state.names().is_empty());

    // A service replaces the file by a regular one, which only root may read.
    testbed.write("web.conf", "state = up");
    restarted.read(&mut Services::default());
    let metadata = fs::symlink_metadata(&state).unwrap();
    assert!(metadata.is_file());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read_to_string(testbed.at("names")).unwrap(), "a\n");
}

#[test]
fn log_of_problems_is_rate_limited() {
    let mut testbed = Testbed::with_directory();
    for number in 0..60 {
        testbed.write(&format!("a{number:02}.conf"), "words");
    }
    testbed.read();
    assert_eq!(testbed.logged().len(), 50);
    testbed.read();
    assert_eq!(testbed.logged().len(), 50, "none is forgotten or repeated");
    for _ in 0..100 {
        testbed.write("a00.conf", "a = 1");
        testbed.read();
        testbed.write("a00.conf", "words");
        testbed.read();
    }
    assert!(testbed.logged().len() <= 52, "{}", testbed.logged().len());
}
