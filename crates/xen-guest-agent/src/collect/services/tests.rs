use std::os::unix::fs::symlink;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::runtime_dir;

/// A directory for services in a temporary one, and what is known of it.
struct Bed {
    directory: tempfile::TempDir,
    services: Directory,
    known: Services,
}

impl Bed {
    /// With `etc` only.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("etc/agent")).unwrap();
        let services = open(&directory);
        Bed {
            directory,
            services,
            known: Services::default(),
        }
    }

    /// With a directory.
    fn with_directory() -> Self {
        let mut bed = Bed::new();
        bed.make("etc/agent/services.d");
        bed.read();
        bed
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

    /// The look of every minute.
    fn look(&mut self) -> bool {
        self.services.look(&mut self.known, false)
    }

    /// Starts the agent again.
    fn restart(&mut self) {
        self.services = open(&self.directory);
        self.known = Services::default();
        self.read();
    }

    fn is_told(&self) -> bool {
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

    /// What was said, without the directory.
    fn said(&self) -> Vec<String> {
        let directory = self.directory.path().to_str().unwrap();
        let mut said: Vec<_> = self
            .services
            .said
            .iter()
            .map(|fault| fault.replace(directory, ""))
            .collect();
        said.sort();
        said
    }
}

fn open(directory: &tempfile::TempDir) -> Directory {
    fs::create_dir_all(directory.path().join("run")).unwrap();
    let root = Root::new(directory.path());
    let state = runtime_dir::path(&root).map(|directory| directory.join(STATE));
    assert_eq!(
        state,
        Some(directory.path().join("run/xen-guest-agent/services"))
    );
    Directory::open(root, "/etc/agent/services.d", state)
}

#[test]
fn files_are_services() {
    let mut bed = Bed::with_directory();
    assert_eq!(bed.shown(), "");
    bed.write("web.conf", "state = up\nport = 80\n");
    bed.write("db-1.conf", "state=up");
    bed.write("empty.conf", "# nothing yet\n");
    for other in [
        "notes",
        "web.conf~",
        ".web.conf.swp",
        ".conf",
        ".hidden.conf",
        "web.conf.dpkg-new",
        "x.CONF",
    ] {
        bed.write(other, "state = no");
    }
    assert!(bed.read());
    assert_eq!(bed.shown(), "db-1/state=up web/port=80 web/state=up");
    assert_eq!(bed.said(), [""; 0]);
    assert!(!bed.read());
}

#[test]
fn what_is_wrong_is_left_out_and_named() {
    let mut bed = Bed::with_directory();
    bed.write("bad.conf", "a = 1\nb\nc\n");
    bed.write("big.conf", "#".repeat(SIZE_MAX + 1));
    bed.write("a b.conf", "a = 1");
    bed.write("db.conf", "a = 1");
    bed.write("db-x.conf", "a = 1");
    bed.write("dbs.conf", "a = 1");
    bed.write("e.conf", "# nothing");
    bed.write("else.conf", "a = 1");
    bed.make("etc/agent/services.d/dir.conf");
    symlink("/nowhere", bed.at("etc/agent/services.d/link.conf")).unwrap();
    bed.read();
    assert_eq!(bed.shown(), "bad/a=1 db/a=1 else/a=1");
    let names = "left out: a service's name has the characters A-Z a-z 0-9 - _ @";
    let another = "left out: its name begins with that of another service, db";
    assert_eq!(
        bed.said(),
        [
            format!("/etc/agent/services.d/a b.conf: {names}"),
            "/etc/agent/services.d/bad.conf:2: left out: not of the form key = value (and 1 more lines)".to_owned(),
            "/etc/agent/services.d/big.conf: larger than 16384 bytes".to_owned(),
            format!("/etc/agent/services.d/db-x.conf: {another}"),
            format!("/etc/agent/services.d/dbs.conf: {another}"),
            "/etc/agent/services.d/dir.conf: not a regular file".to_owned(),
        ]
    );
    bed.write("bad.conf", "a = 2\n");
    assert!(bed.read());
    assert_eq!(bed.said().len(), 5);
}

#[test]
fn no_more_than_there_is_room_for() {
    let mut bed = Bed::with_directory();
    let keys = |count: usize| {
        (0..count)
            .map(|key| format!("k{key} = x\n"))
            .collect::<Vec<_>>()
            .concat()
    };
    // One is for data/service.
    bed.write("a.conf", keys(MOST - 5));
    bed.write("b.conf", keys(3));
    bed.write("c.conf", keys(2));
    bed.read();
    assert_eq!(bed.known.facts.keys().collect::<Vec<_>>(), ["a", "c"]);
    let nodes: usize = bed.known.facts.values().map(|facts| 1 + facts.len()).sum();
    assert_eq!(nodes + 1, MOST);
    assert_eq!(
        bed.said(),
        [
            "/etc/agent/services.d/b.conf: left out: all services together may take 100 nodes of Xenstore"
        ]
    );
}

#[test]
fn however_many_files_there_are() {
    let mut bed = Bed::with_directory();
    for number in 0..5 * MOST {
        bed.write(&format!("s{number:03}.conf"), "a = 1");
        bed.write(&format!("bad {number:03}.conf"), "a = 1");
    }
    bed.read();
    let names: Vec<_> = bed.known.facts.keys().cloned().collect();
    assert_eq!(
        names,
        (0..49)
            .map(|number| format!("s{number:03}"))
            .collect::<Vec<_>>()
    );
    assert!(bed.said().len() <= 2 * MOST, "{}", bed.said().len());
}

#[test]
fn changes_are_told_at_once() {
    let mut bed = Bed::with_directory();
    let at = |bed: &Bed, name: &str| bed.at("etc/agent/services.d").join(name);
    let mut step = |what: &str, change: &dyn Fn(&Bed), expected: &str| {
        assert!(!bed.is_told(), "before: {what}");
        change(&bed);
        assert!(bed.is_told(), "{what}");
        bed.read();
        assert_eq!(bed.shown(), expected, "{what}");
    };
    step("a new file", &|bed| bed.write("a.conf", "x = 1"), "a/x=1");
    step(
        "written again",
        &|bed| bed.write("a.conf", "x = 2"),
        "a/x=2",
    );
    step(
        "moved to its place",
        &|bed| {
            fs::write(bed.at("new"), "x = 3").unwrap();
            fs::rename(bed.at("new"), at(bed, "a.conf")).unwrap();
        },
        "a/x=3",
    );
    step(
        "another name",
        &|bed| fs::rename(at(bed, "a.conf"), at(bed, "b.conf")).unwrap(),
        "b/x=3 -a",
    );
    step(
        "a link",
        &|bed| symlink("b.conf", at(bed, "c.conf")).unwrap(),
        "b/x=3 c/x=3 -a",
    );
    step(
        "removed",
        &|bed| fs::remove_file(at(bed, "b.conf")).unwrap(),
        "-a -b -c",
    );
    step(
        "many",
        &|bed| (0..1000).for_each(|_| bed.write("d.conf", "x = 4")),
        "d/x=4 -a -b -c",
    );
}

#[test]
fn a_directory_that_comes_goes_and_is_replaced_is_followed() {
    let mut bed = Bed::new();
    bed.read();
    let directory = |bed: &Bed| bed.at("etc/agent/services.d");
    let mut step = |what: &str, change: &dyn Fn(&Bed), expected: &str| {
        change(&bed);
        assert!(bed.is_told(), "{what}");
        bed.read();
        assert_eq!(bed.shown(), expected, "{what}");
        // The end of a watch is told, too.
        bed.read();
        assert!(!bed.is_told(), "{what}");
    };
    step(
        "it comes",
        &|bed| fs::create_dir(directory(bed)).unwrap(),
        "",
    );
    step("a file in it", &|bed| bed.write("a.conf", "x = 1"), "a/x=1");
    step(
        "moved away",
        &|bed| fs::rename(directory(bed), bed.at("etc/agent/old")).unwrap(),
        "-a",
    );
    step(
        "and back",
        &|bed| fs::rename(bed.at("etc/agent/old"), directory(bed)).unwrap(),
        "a/x=1",
    );
    step(
        "replaced",
        &|bed| {
            fs::create_dir(bed.at("new")).unwrap();
            fs::write(bed.at("new/b.conf"), "x = 2").unwrap();
            fs::rename(directory(bed), bed.at("old")).unwrap();
            fs::rename(bed.at("new"), directory(bed)).unwrap();
        },
        "b/x=2 -a",
    );
    // What happens to the old one is nobody's business.
    fs::write(bed.at("old/c.conf"), "x = 1").unwrap();
    assert!(!bed.is_told());
    let mut step = |what: &str, change: &dyn Fn(&Bed), expected: &str| {
        change(&bed);
        assert!(bed.is_told(), "{what}");
        bed.read();
        assert_eq!(bed.shown(), expected, "{what}");
    };
    step(
        "written to",
        &|bed| bed.write("b.conf", "x = 3"),
        "b/x=3 -a",
    );
    step(
        "removed",
        &|bed| fs::remove_dir_all(directory(bed)).unwrap(),
        "-a -b",
    );
    step(
        "all is removed",
        &|bed| fs::remove_dir_all(bed.at("etc")).unwrap(),
        "-a -b",
    );
    // Now the next look at it finds it.
    bed.make("etc/agent/services.d");
    bed.write("a.conf", "x = 4");
    assert!(!bed.is_told());
    assert!(bed.look());
    assert_eq!(bed.shown(), "a/x=4 -b");
    bed.write("a.conf", "x = 5");
    assert!(bed.is_told());
}

#[test]
fn what_was_published_is_remembered() {
    let mut bed = Bed::with_directory();
    bed.write("a.conf", "x = 1");
    bed.write("b.conf", "x = 1");
    bed.read();
    fs::remove_file(bed.at("etc/agent/services.d/a.conf")).unwrap();
    bed.restart();
    assert_eq!(bed.shown(), "b/x=1 -a");
    // As long as nobody says that it is gone.
    bed.restart();
    assert_eq!(bed.shown(), "b/x=1 -a");
    bed.services.forget_withdrawn(&mut bed.known);
    assert_eq!(bed.shown(), "b/x=1");
    assert!(!bed.read());
    bed.restart();
    assert_eq!(bed.shown(), "b/x=1");
    fs::remove_dir_all(bed.at("etc")).unwrap();
    bed.restart();
    assert_eq!(bed.shown(), "-b");
    bed.make("etc/agent/services.d");
    bed.write("b.conf", "x = 1");
    assert!(bed.read());
    assert_eq!(bed.shown(), "b/x=1");
}

#[test]
fn a_state_that_is_not_the_agents_is_survived() {
    let mut bed = Bed::with_directory();
    let state = bed.at("run/xen-guest-agent/services");
    bed.make("run/xen-guest-agent");
    for (text, expected) in [
        (&b"a\n\n../b\nc/d\n e\nf"[..], "-a -f"),
        (b"\xff\na\n", ""),
        (b"", ""),
    ] {
        fs::write(&state, text).unwrap();
        bed.restart();
        assert_eq!(bed.shown(), expected);
    }
    fs::remove_file(&state).unwrap();
    fs::create_dir(&state).unwrap();
    bed.restart();
    bed.write("a.conf", "x = 1");
    assert!(bed.read());
    assert_eq!(bed.shown(), "a/x=1");
}

#[test]
fn nothing_is_written_where_there_is_nothing_to_remember() {
    let mut bed = Bed::with_directory();
    bed.read();
    assert_eq!(fs::read_dir(bed.at("run")).unwrap().count(), 0);
    bed.write("a.conf", "x = 1");
    bed.read();
    let home = bed.at("run/xen-guest-agent");
    assert_eq!(fs::read_to_string(home.join("services")).unwrap(), "a\n");
    assert_eq!(fs::read_dir(home).unwrap().count(), 1);
    // A system with the older place, and one with none.
    fs::rename(bed.at("run"), bed.at("var-run")).unwrap();
    let root = Root::new(bed.directory.path());
    assert_eq!(runtime_dir::path(&root), None);
    bed.make("var");
    symlink("/var-run", bed.at("var/run")).unwrap();
    assert_eq!(
        runtime_dir::path(&root),
        Some(bed.at("var-run/xen-guest-agent"))
    );
}

#[test]
fn a_directory_that_cannot_be_read_takes_nothing_away() {
    let mut bed = Bed::with_directory();
    bed.write("a.conf", "x = 1");
    bed.read();
    fs::remove_dir_all(bed.at("etc/agent/services.d")).unwrap();
    fs::write(bed.at("etc/agent/services.d"), "a file").unwrap();
    assert!(!bed.read());
    assert_eq!(bed.shown(), "a/x=1");
    assert_eq!(bed.said().len(), 1);
    bed.restart();
    assert_eq!(bed.shown(), "");
    fs::remove_file(bed.at("etc/agent/services.d")).unwrap();
    assert!(bed.read());
    assert_eq!(bed.shown(), "-a");
    fs::write(bed.at("etc/agent/services.d"), "a file").unwrap();
    bed.read();
    // Nothing to wait for: an error is no reason to be woken again and again.
    assert!(!bed.is_told());
    std::thread::sleep(Duration::from_millis(10));
    assert!(!bed.is_told());
}

#[test]
fn what_is_not_told_is_looked_for() {
    let mut bed = Bed::new();
    fs::remove_dir_all(bed.at("etc")).unwrap();
    bed.read();
    assert!(!bed.look());
    bed.make("etc/agent");
    assert!(!bed.look());
    assert!(bed.services.watch.as_ref().unwrap().is_reliable());
    assert!(!bed.is_told());
    bed.make("etc/agent/services.d");
    assert!(bed.is_told(), "the look found what is above");
    bed.read();
    // Changes outside of the directory.
    fs::write(bed.at("a"), "x = 1").unwrap();
    symlink("/a", bed.at("etc/agent/services.d/a.conf")).unwrap();
    bed.read();
    fs::write(bed.at("a"), "x = 2").unwrap();
    assert!(!bed.look());
    assert!(bed.services.look(&mut bed.known, true));
    assert_eq!(bed.shown(), "a/x=2");
    // Where there is nobody to tell.
    bed.services.watch = None;
    bed.write("b.conf", "x = 1");
    assert!(bed.look());
    assert_eq!(bed.shown(), "a/x=2 b/x=1");
}
