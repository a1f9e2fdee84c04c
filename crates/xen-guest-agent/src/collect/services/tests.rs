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

/// Returns the names of all files that the agent refuses to read.
fn refused(directory: &Path) -> Vec<String> {
    let path = directory.to_str().unwrap();
    let opened = SafeDir::open(&Root::default(), path, false).unwrap();
    let names = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| match opened.read(name, 100) {
            Err(error) => error.kind() == ErrorKind::PermissionDenied,
            Ok(text) => text != b"password = hunter2",
        })
        .collect();
    names.sort();
    names
}

fn open(directory: &tempfile::TempDir) -> Directory {
    fs::create_dir_all(directory.path().join("run")).unwrap();
    let root = Root::new(directory.path());
    let state = runtime_dir::path(&root).map(|directory| directory.join(STATE));
    assert_eq!(
        state,
        Some(directory.path().join("run/xen-guest-agent/services"))
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
#[ignore = "needs a free inotify instance, which other programs may use up"]
fn changes_are_reported_at_once() {
    let mut testbed = Testbed::with_directory();
    let at = |testbed: &Testbed, name: &str| testbed.at("etc/agent/services.d").join(name);
    let mut step = |what: &str, change: &dyn Fn(&Testbed), expected: &str| {
        assert!(!testbed.is_reported(), "before: {what}");
        change(&testbed);
        assert!(testbed.is_reported(), "{what}");
        testbed.read();
        assert_eq!(testbed.shown(), expected, "{what}");
    };
    step(
        "a new file",
        &|testbed| testbed.write("a.conf", "x = 1"),
        "a/x=1",
    );
    step(
        "written again",
        &|testbed| testbed.write("a.conf", "x = 2"),
        "a/x=2",
    );
    step(
        "moved to its place",
        &|testbed| {
            fs::write(testbed.at("new"), "x = 3").unwrap();
            fs::rename(testbed.at("new"), at(testbed, "a.conf")).unwrap();
        },
        "a/x=3",
    );
    step(
        "another name",
        &|testbed| fs::rename(at(testbed, "a.conf"), at(testbed, "b.conf")).unwrap(),
        "b/x=3 -a",
    );
    step(
        "a link",
        &|testbed| symlink("b.conf", at(testbed, "c.conf")).unwrap(),
        "b/x=3 c/x=3 -a",
    );
    step(
        "removed",
        &|testbed| fs::remove_file(at(testbed, "b.conf")).unwrap(),
        "-a -b -c",
    );
    step(
        "many",
        &|testbed| (0..1000).for_each(|_| testbed.write("d.conf", "x = 4")),
        "d/x=4 -a -b -c",
    );
}

#[test]
#[ignore = "needs a free inotify instance, which other programs may use up"]
fn creation_removal_and_replacement_of_the_directory_are_reported() {
    let mut testbed = Testbed::new();
    testbed.read();
    let directory = |testbed: &Testbed| testbed.at("etc/agent/services.d");
    let mut step = |what: &str, change: &dyn Fn(&Testbed), expected: &str| {
        change(&testbed);
        assert!(testbed.is_reported(), "{what}");
        testbed.read();
        assert_eq!(testbed.shown(), expected, "{what}");
        // The end of a watch is an event, too.
        testbed.read();
        assert!(!testbed.is_reported(), "{what}");
    };
    step(
        "it comes",
        &|testbed| fs::create_dir(directory(testbed)).unwrap(),
        "",
    );
    step(
        "a file in it",
        &|testbed| testbed.write("a.conf", "x = 1"),
        "a/x=1",
    );
    step(
        "moved away",
        &|testbed| fs::rename(directory(testbed), testbed.at("etc/agent/old")).unwrap(),
        "-a",
    );
    step(
        "and back",
        &|testbed| fs::rename(testbed.at("etc/agent/old"), directory(testbed)).unwrap(),
        "a/x=1",
    );
    step(
        "replaced",
        &|testbed| {
            fs::create_dir(testbed.at("new")).unwrap();
            fs::write(testbed.at("new/b.conf"), "x = 2").unwrap();
            fs::rename(directory(testbed), testbed.at("old")).unwrap();
            fs::rename(testbed.at("new"), directory(testbed)).unwrap();
        },
        "b/x=2 -a",
    );
    // The old directory is no longer watched.
    fs::write(testbed.at("old/c.conf"), "x = 1").unwrap();
    assert!(!testbed.is_reported());
    let mut step = |what: &str, change: &dyn Fn(&Testbed), expected: &str| {
        change(&testbed);
        assert!(testbed.is_reported(), "{what}");
        testbed.read();
        assert_eq!(testbed.shown(), expected, "{what}");
    };
    step(
        "written to",
        &|testbed| testbed.write("b.conf", "x = 3"),
        "b/x=3 -a",
    );
    step(
        "removed",
        &|testbed| fs::remove_dir_all(directory(testbed)).unwrap(),
        "-a -b",
    );
    step(
        "all is removed",
        &|testbed| fs::remove_dir_all(testbed.at("etc")).unwrap(),
        "-a -b",
    );
    // No watch is left, so the next poll finds the directory.
    testbed.make("etc/agent/services.d");
    testbed.write("a.conf", "x = 4");
    assert!(!testbed.is_reported());
    assert!(testbed.poll());
    assert_eq!(testbed.shown(), "a/x=4 -b");
    testbed.write("a.conf", "x = 5");
    assert!(testbed.is_reported());
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
    let state = testbed.at("run/xen-guest-agent/services");
    testbed.make("run/xen-guest-agent");
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
    let home = testbed.at("run/xen-guest-agent");
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
#[ignore = "needs a free inotify instance, which other programs may use up"]
fn descriptor_of_an_unreadable_directory_is_not_readable_all_the_time() {
    let mut testbed = Testbed::new();
    fs::write(testbed.at("etc/agent/services.d"), "a file").unwrap();
    testbed.read();
    assert!(!testbed.is_reported());
    std::thread::sleep(Duration::from_millis(10));
    assert!(!testbed.is_reported());
}

#[test]
#[ignore = "needs a free inotify instance, which other programs may use up"]
fn unreported_changes_are_found_by_polls() {
    let mut testbed = Testbed::new();
    fs::remove_dir_all(testbed.at("etc")).unwrap();
    testbed.read();
    assert!(!testbed.poll());
    testbed.make("etc/agent");
    assert!(!testbed.poll());
    assert!(testbed.services.watch.as_ref().unwrap().is_reliable());
    assert!(!testbed.is_reported());
    testbed.make("etc/agent/services.d");
    assert!(testbed.is_reported(), "the poll has watched the parent");
    testbed.read();
    // These changes are outside of the directory.
    fs::write(testbed.at("a"), "x = 1").unwrap();
    symlink("/a", testbed.at("etc/agent/services.d/a.conf")).unwrap();
    testbed.read();
    fs::write(testbed.at("a"), "x = 2").unwrap();
    assert!(!testbed.poll());
    assert!(testbed.services.poll(&mut testbed.known, true));
    assert_eq!(testbed.shown(), "a/x=2");
}

#[test]
fn polls_find_changes_without_a_watch() {
    let mut testbed = Testbed::with_directory();
    testbed.services.watch = None;
    testbed.write("b.conf", "x = 1");
    assert!(testbed.poll());
    assert_eq!(testbed.shown(), "b/x=1");
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
    testbed.make("run/xen-guest-agent");
    let state = testbed.at("run/xen-guest-agent/services");
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
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(testbed.at("names")).unwrap(), "a\n");
}

#[test]
fn reads_after_changes_are_rate_limited() {
    let mut testbed = Testbed::with_directory();
    let start = clock::now();
    let mut reads = 0;
    for millisecond in (0..20_000).step_by(10) {
        let now = start + Duration::from_millis(millisecond);
        testbed.services.resume(now);
        if testbed.services.deadline().is_none() {
            testbed.services.on_changed(&mut testbed.known, now);
            reads += 1;
        } else {
            assert!(testbed.services.watch().is_none(), "poll(2) would not wait");
        }
    }
    assert!((20..=30).contains(&reads), "{reads} reads in 20 s");

    // The last change is read after the pause.
    testbed.write("web.conf", "state = up");
    let later = testbed.services.deadline().unwrap();
    testbed.services.resume(later);
    assert!(testbed.services.on_changed(&mut testbed.known, later));
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

#[test]
fn links_out_of_local_file_systems_are_not_followed() {
    let testbed = Testbed::with_directory();
    let directory = testbed.at("etc/agent/services.d");
    let opened = SafeDir::open(&Root::default(), directory.to_str().unwrap(), false).unwrap();
    // proc(5) stands for a file system of another kind, because the test must not mount one.
    symlink("/proc/self/status", directory.join("direct.conf")).unwrap();
    symlink("/proc", testbed.at("etc/agent/other")).unwrap();
    symlink("../other/self/status", directory.join("nested.conf")).unwrap();
    for name in ["direct.conf", "nested.conf"] {
        let error = opened.read(name, 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "/proc is not on a local file system");
    }

    let error = SafeDir::open(&Root::default(), "/proc/self/task", true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn links_to_devices_are_not_opened() {
    let testbed = Testbed::with_directory();
    let directory = testbed.at("etc/agent/services.d");
    let opened = SafeDir::open(&Root::default(), directory.to_str().unwrap(), false).unwrap();
    symlink("/dev/null", directory.join("null.conf")).unwrap();
    rustix::fs::mkfifoat(CWD, testbed.at("fifo"), Mode::from(0o600)).unwrap();
    symlink("../../../fifo", directory.join("fifo.conf")).unwrap();
    for name in ["null.conf", "fifo.conf"] {
        let error = opened.read(name, 100).unwrap_err();
        assert_eq!(error.to_string(), "not a regular file", "{name}");
    }
}

#[test]
#[ignore = "needs root"]
fn user_who_may_write_to_the_directory_reveals_only_own_files() {
    const USER: u32 = 1234;
    let testbed = Testbed::with_directory();
    let directory = testbed.at("etc/agent/services.d");
    let own = |path: &PathBuf, user| lchown(path, Some(user), Some(user)).unwrap();
    let file = |name: &str, user, mode| {
        let path = testbed.at(name);
        fs::write(&path, "password = hunter2").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        own(&path, user);
        path
    };
    let link = |target: &PathBuf, name: &str, user| {
        symlink(target, directory.join(name)).unwrap();
        own(&directory.join(name), user);
    };
    own(&directory, USER);
    let secret = file("secret", 0, 0o600);
    let public = file("public", 0, 0o644);
    let theirs = file("theirs", USER, 0o600);
    let strangers = file("strangers", USER + 1, 0o644);

    link(&secret, "secret.conf", USER);
    link(&public, "public.conf", USER);
    link(&secret, "root-secret.conf", 0);
    link(&strangers, "strangers.conf", 0);
    link(&theirs, "foreign.conf", USER + 1);
    fs::hard_link(&secret, directory.join("hard.conf")).unwrap();
    let names = refused(&directory);
    assert_eq!(names.len(), 6, "{names:?}");

    for name in fs::read_dir(&directory).unwrap() {
        fs::remove_file(name.unwrap().path()).unwrap();
    }
    link(&theirs, "own.conf", USER);
    link(&theirs, "root-own.conf", 0);
    link(&public, "root-public.conf", 0);
    file("etc/agent/services.d/plain.conf", USER, 0o600);
    file("etc/agent/services.d/root-plain.conf", 0, 0o644);
    assert_eq!(refused(&directory), [""; 0]);

    // If only root may write, the file of a link may be as private as root likes.
    own(&directory, 0);
    link(&secret, "secret.conf", 0);
    let names = refused(&directory);
    assert_eq!(names, ["own.conf", "plain.conf", "root-own.conf"]);
}

/// Changes owner and mode of a file.
fn give(path: &Path, user: u32, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    lchown(path, Some(user), None).unwrap();
}

#[test]
#[ignore = "needs root"]
fn directory_of_root_behind_a_path_of_a_user_is_refused() {
    const USER: u32 = 1234;
    let testbed = Testbed::with_directory();
    let base = fs::canonicalize(testbed.directory.path()).unwrap();
    let (app, secret) = (base.join("app"), base.join("secret"));
    testbed.make("app/plain");
    testbed.make("secret");
    give(&secret, 0, 0o700);
    give(&base, 0, 0o755);
    give(&app, USER, 0o755);
    symlink(&secret, app.join("root-link")).unwrap();
    symlink(&secret, base.join("user-link")).unwrap();
    lchown(base.join("user-link"), Some(USER), None).unwrap();
    symlink("user-link", base.join("nested")).unwrap();
    symlink("secret", base.join("good")).unwrap();

    let open = |path: &str| {
        let path = base.join(path);
        let opened = SafeDir::open(&Root::default(), path.to_str().unwrap(), false);
        opened.map(drop).map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            error
                .to_string()
                .replace(&format!("{}/", base.display()), "")
        })
    };
    let owned = |path: &str| {
        Err(format!(
            "{path} is owned by user {USER}, but only root and the owner of the directory are \
             trusted; run: chown -h root {path}"
        ))
    };
    assert_eq!(open("app/plain"), owned("app"));
    assert_eq!(open("app/root-link"), owned("app"));
    assert_eq!(open("user-link"), owned("user-link"));
    assert_eq!(open("nested"), owned("user-link"));
    assert_eq!(open("good"), Ok(()));

    // A user may lead the agent to a directory of the same user, but not of another.
    give(&secret, USER, 0o700);
    for path in ["user-link", "nested", "app/root-link", "good"] {
        assert_eq!(open(path), Ok(()), "{path}");
    }
    give(&secret, USER + 1, 0o700);
    assert_eq!(open("user-link"), owned("user-link"));

    // Others could rename another directory of root to the path, but not in a sticky directory.
    for (mode, is_refused) in [
        (0o777, true),
        (0o775, true),
        (0o1777, false),
        (0o755, false),
    ] {
        give(&app, 0, mode);
        let reason = "others than root may write to app; run: chmod go-w app".to_owned();
        let expected = if is_refused { Err(reason) } else { Ok(()) };
        assert_eq!(open("app/plain"), expected, "{mode:o}");
    }
}

#[test]
#[ignore = "needs root"]
fn private_file_of_root_in_a_directory_of_a_user_is_refused() {
    let testbed = Testbed::with_directory();
    let directory = testbed.at("etc/agent/services.d");
    testbed.make("app");
    let file = testbed.at("app/file");
    fs::write(&file, "password = hunter2").unwrap();
    symlink(&file, directory.join("a.conf")).unwrap();
    for (owner, directory_mode, mode, is_refused) in [
        (0, 0o755, 0o600, false),
        (1234, 0o755, 0o600, true),
        (1234, 0o755, 0o644, false),
        (0, 0o775, 0o600, true),
        (0, 0o1777, 0o600, false),
    ] {
        give(&testbed.at("app"), owner, directory_mode);
        give(&file, 0, mode);
        assert_eq!(
            !refused(&directory).is_empty(),
            is_refused,
            "{owner} {directory_mode:o} {mode:o}"
        );
    }
}

#[test]
#[ignore = "needs root"]
fn private_file_in_a_group_writable_directory_is_refused() {
    let testbed = Testbed::with_directory();
    let directory = testbed.at("etc/agent/services.d");
    testbed.write("a.conf", "password = hunter2");
    give(&directory.join("a.conf"), 0, 0o600);
    // An access control list looks like a directory that root's group may write.
    for (group, mode, is_refused) in [(0, 0o755, false), (0, 0o775, true), (1234, 0o775, true)] {
        give(&directory, 0, mode);
        lchown(&directory, None, Some(group)).unwrap();
        assert_eq!(!refused(&directory).is_empty(), is_refused, "{mode:o}");
    }
}

#[test]
#[ignore = "needs root and mount namespaces"]
fn private_file_on_a_read_only_mount_is_read() {
    const DIRECTORY: &str = "TEST_READ_ONLY_DIRECTORY";
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let opened = SafeDir::open(&Root::default(), directory.to_str().unwrap(), false).unwrap();
        assert_eq!(opened.read("a.conf", 100).unwrap(), b"password = hunter2");
        return;
    }
    // As Kubernetes mounts a volume.
    let testbed = Testbed::with_directory();
    let directory = testbed.at("etc/agent/services.d");
    fs::create_dir(directory.join("..1")).unwrap();
    fs::write(directory.join("..1/a.conf"), "password = hunter2").unwrap();
    give(&directory.join("..1/a.conf"), 0, 0o400);
    give(&directory.join("..1"), 0, 0o777);
    give(&directory, 0, 0o777);
    symlink("..1", directory.join("..data")).unwrap();
    symlink("..data/a.conf", directory.join("a.conf")).unwrap();
    assert!(refused(&directory).contains(&"a.conf".to_owned()));

    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && \
                  exec \"$2\" --exact --include-ignored \"$3\"";
    let name = "collect::services::tests::private_file_on_a_read_only_mount_is_read";
    let status = std::process::Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(&directory)
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(DIRECTORY, &directory)
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}
