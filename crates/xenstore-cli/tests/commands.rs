//! The command as scripts see it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "all of this is test code")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use system_tests::{Daemon, Xenstored};
use tempfile::TempDir;
use xenstore::embedded::{Running, Server, Store};
use xenstore::{Client, Transport};

fn run(program: impl AsRef<Path>, socket: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program.as_ref());
    command.args(arguments).env("XENSTORED_PATH", socket).output().expect("run the command")
}

fn ours() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_xenstore"))
}

fn embedded() -> (TempDir, Running) {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::new(Store::new());
    server.listen(directory.path().join("socket"), 0).unwrap();
    (directory, server.spawn().unwrap())
}

#[test]
fn each_command_does_what_it_says() {
    let (directory, _running) = embedded();
    let socket = directory.path().join("socket");
    let cases: [(&[&str], i32, &str); 24] = [
        (&["write", "/a/b", "1\\n", "/a/c", "-5"], 0, ""),
        (&["read", "/a/b", "/a/c"], 0, "1\\n\n-5\n"),
        (&["read", "-p", "/a/c"], 0, "/a/c: -5\n"),
        (&["read", "-R", "/a/b"], 0, "1\n"),
        (&["read", "/a/c", "/none"], 1, "-5\n"),
        (&["write", "/a/d", "1", "bad path", "1"], 1, ""),
        (&["exists", "/a/d"], 1, ""),
        (&["write", "/a/d"], 1, ""),
        (&["write", "-R", "/a/r", "\\n"], 0, ""),
        (&["read", "/a/r"], 0, "\\\\n\n"),
        (&["mkdir", "/m/n"], 0, ""),
        (&["exists", "/m", "/m/n"], 0, ""),
        (&["rm", "-t", "/m/n"], 0, ""),
        (&["exists", "/m"], 1, ""),
        (&["rm", "/none"], 0, ""),
        (&["rm", "/none/none"], 1, ""),
        (&["list", "-p", "/a"], 0, "/a/b\n/a/c\n/a/r\n"),
        (&["chmod", "-r", "/a", "n0", "r5"], 0, ""),
        (&["perms", "/a/b"], 0, "n0 r5\n"),
        (&["chmod", "/a", "x0"], 1, ""),
        (
            &["ls", "-f", "-p", "/a"],
            0,
            "/a/b = \"1\\n\"   (n0,r5)\n/a/c = \"-5\"   (n0,r5)\n/a/r = \"\\\\n\"   (n0,r5)\n",
        ),
        (&["ls", "--json", "/a"], 0, "{\n  \"/a/b\": \"1\\n\",\n  \"/a/c\": \"-5\",\n  \"/a/r\": \"\\\\n\"\n}\n"),
        (&["watch", "-n", "1", "/a"], 0, "/a\n"),
        (&["bogus"], 1, ""),
    ];
    for (arguments, status, stdout) in cases {
        let output = run(ours(), &socket, arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "{arguments:?}");
    }
}

#[test]
fn a_link_is_its_sub_command() {
    let (directory, _running) = embedded();
    let link = directory.path().join("xenstore-read");
    std::os::unix::fs::symlink(ours(), &link).unwrap();
    let output = run(&link, &directory.path().join("socket"), &["/none"]);
    let message = "xenstore-read: couldn't read path /none: No such file or directory\n";
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(1), message));
}

#[test]
#[ignore = "needs xenstored and xenstore-utils"]
fn ls_prints_what_xens_prints() {
    let store = Xenstored::start(Daemon::C);
    let mut client = Client::new(Transport::connect(store.socket()).unwrap());
    // A fixed sequence that looks random.
    let mut state = 1_u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    for node in 0..1000 {
        let mut path = String::from("/odd");
        for _ in 0..next() % 5 {
            write!(path, "/d{}", next() % 4).unwrap();
        }
        let value: Vec<u8> = (0..next() % 90).map(|_| next().to_le_bytes()[0]).collect();
        client.write(format!("{path}/n{node}"), value).unwrap();
    }
    for arguments in [&["-fp", "/odd"][..], &["-p", "/odd"], &["/odd"], &["-f"]] {
        let theirs = run("/usr/bin/xenstore-ls", store.socket(), arguments);
        let ours = run(ours(), store.socket(), &[&["ls"], arguments].concat());
        assert!(theirs.status.success() && theirs.stdout.len() > 1000, "{theirs:?}");
        assert!(ours.stdout == theirs.stdout, "ls {arguments:?} differs");
    }
}

#[test]
#[ignore = "needs xenstored and xenstore-utils"]
fn scripts_for_xens_tools_see_no_difference() {
    let store = Xenstored::start(Daemon::C);
    let cases: [&[&str]; 21] = [
        &["write", "/t/a", "a\\x41\\n\\\\", "/t/b/c", ""],
        &["write", "-R", "/t/raw", "a\\x41"],
        &["write", "/t/a"],
        &["write", "/t/z", "1", "bad path", "1"],
        &["read", "/t/a", "/t/raw"],
        &["read", "-p", "/t/a", "/none", "/t/raw"],
        &["read", "-R", "/t/a"],
        &["read"],
        &["exists", "/t", "/t/a"],
        &["exists", "/t/z"],
        &["list", "/t"],
        &["list", "-p", "/"],
        &["list", "/none"],
        &["chmod", "/t/a", "n0", "b0"],
        &["chmod", "-u", "-r", "/t/b", "r0"],
        &["chmod", "/t/a", "x0"],
        &["chmod", "/none", "n0"],
        &["ls", "-fp", "/t"],
        &["ls", "/none"],
        &["watch", "-n", "2", "/t/a", "/t/b"],
        &["rm", "/none", "/t/a"],
    ];
    for arguments in cases {
        // Each finds the same, since what the one does the other may do again.
        let theirs = run("/usr/bin/xenstore", store.socket(), arguments);
        let ours = run(ours(), store.socket(), arguments);
        assert_eq!(ours.status.code(), theirs.status.code(), "{arguments:?}: {ours:?}");
        assert_eq!(String::from_utf8_lossy(&ours.stdout), String::from_utf8_lossy(&theirs.stdout), "{arguments:?}");
    }
}
