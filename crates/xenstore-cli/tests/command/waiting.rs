//! Sub-commands that wait: `watch`, `wait` and `domains --follow`.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use xenstore::Nodes;
use xenstore::embedded::{Model, Store, Toolstack};
use xenstore::wire::{Decoder, Message, MessageKind};

use crate::testbed::Testbed;

/// Starts the command in domain 0, and returns the lines that it prints.
fn start(testbed: &Testbed, arguments: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut command = testbed.command(0, arguments);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    lines.next().expect("a line").unwrap()
}

fn next_json(lines: &mut Lines<BufReader<ChildStdout>>) -> Value {
    serde_json::from_str(&next(lines)).unwrap()
}

fn stop(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn watch_prints_values_and_removed_nodes() {
    let testbed = Testbed::new();
    let mut client = testbed.client();
    client.write("/a", "1").unwrap();
    let (child, mut lines) = start(&testbed, &["watch", "--values", "/a", "@releaseDomain"]);
    assert_eq!(next(&mut lines), "/a: 1");
    assert_eq!(next(&mut lines), "@releaseDomain");
    client.write("/a/b", "x\ny").unwrap();
    assert_eq!(next(&mut lines), "/a/b: x\\ny");
    client.write("/a/b", "").unwrap();
    assert_eq!(next(&mut lines), "/a/b: ");
    client.remove("/a/b").unwrap();
    assert_eq!(next(&mut lines), "/a/b");
    stop(child);
}

#[test]
fn watch_prints_a_json_object_per_line() {
    let testbed = Testbed::new();
    let mut client = testbed.client();
    let (child, mut lines) = start(&testbed, &["watch", "--json", "/a", "/b"]);
    for path in ["/a", "/b"] {
        assert_eq!(next_json(&mut lines), json!({ "key": path, "path": path }));
    }
    client.write("/a/x", "1").unwrap();
    let expected = json!({ "key": "/a", "path": "/a/x" });
    assert_eq!(next_json(&mut lines), expected);
    stop(child);

    let (child, mut lines) = start(&testbed, &["watch", "--json", "--values", "/none"]);
    let object = |path, value| json!({ "key": "/none", "path": path, "value": value });
    let missing = object("/none", Value::Null);
    assert_eq!(next_json(&mut lines), missing);
    for (value, expected) in [
        (&b"text"[..], json!("text")),
        (b"", json!("")),
        (b"\x00\xff", json!([0, 255])),
        ("\u{9b}\u{202e}\n".as_bytes(), json!("\u{9b}\u{202e}\n")),
    ] {
        client.write("/none/x", value).unwrap();
        let line = next(&mut lines);
        assert_eq!(xenstore::escape(&line), line);
        let printed: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(printed, object("/none/x", expected));
    }
    client.remove("/none").unwrap();
    assert_eq!(next_json(&mut lines), missing);
    stop(child);
}

#[test]
fn watch_omits_changes_below_the_depth() {
    // The server limits the depth since Xen 4.22, and the client before.
    for model in [Model::CXenstored4_17, Model::CXenstored4_22] {
        let testbed = Testbed::with_model(model);
        let mut client = testbed.client();
        for (depth, expected) in [
            ("0", &["/a", "/a"][..]),
            ("1", &["/a", "/a/b", "/a"]),
            ("2", &["/a", "/a/b/c", "/a/b", "/a"]),
        ] {
            let number = expected.len().to_string();
            let (mut child, mut lines) =
                start(&testbed, &["watch", "--depth", depth, "-n", &number, "/a"]);
            let mut printed = vec![next(&mut lines)];
            for path in ["/a/b/c/d", "/a/b/c", "/a/b", "/a"] {
                client.write(path, "").unwrap();
            }
            printed.extend(lines.map(Result::unwrap));
            assert_eq!(printed, expected, "{model:?} {depth}");
            assert!(child.wait().unwrap().success());
        }
    }
}

#[test]
fn watch_ends_after_the_time_limit() {
    let testbed = Testbed::new();
    for (arguments, status) in [
        (&["watch", "--timeout", "0.2", "/a"][..], 0),
        (&["watch", "--timeout", "0.2", "-n", "2", "/a"], 124),
        (&["watch", "--timeout", "20", "-n", "1", "/a"], 0),
    ] {
        let start = Instant::now();
        let output = testbed.run(0, arguments);
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        assert_eq!(output.stdout, b"/a\n");
        assert_eq!(output.stderr, b"");
        assert!(start.elapsed() < Duration::from_secs(15));
    }
}

#[test]
fn wait_ends_when_the_condition_is_met() {
    let testbed = Testbed::new();
    let mut client = testbed.client();
    for (arguments, value) in [
        (&["wait", "/a/b"][..], Some("1")),
        (&["wait", "/a/b", "two\\n"], Some("two\n")),
        (&["wait", "-R", "/a/b", "\\n"], Some("\\n")),
        (&["wait", "/a/b", "-5"], Some("-5")),
        (&["wait", "--gone", "/a/b"], None),
    ] {
        let mut child = testbed.command(0, arguments).spawn().unwrap();
        // The watch shows that the command has started to wait.
        while testbed.server.with(|server| server.store().watch_count(0)) == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
        client.write("/other", "").unwrap();
        assert_eq!(child.try_wait().unwrap(), None, "{arguments:?}");
        match value {
            Some(value) => client.write("/a/b", value).unwrap(),
            None => client.remove("/a").unwrap(),
        }
        assert!(child.wait().unwrap().success(), "{arguments:?}");
    }

    // The condition is met from the start.
    for arguments in [
        &["wait", "/other"][..],
        &["wait", "/other", ""],
        &["wait", "--timeout", "0", "--gone", "/none"],
    ] {
        let output = testbed.run(0, arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert_eq!((output.stdout, output.stderr), (Vec::new(), Vec::new()));
    }
}

#[test]
fn wait_fails_after_the_time_limit() {
    let testbed = Testbed::new();
    testbed.client().write("/a", "1").unwrap();
    for (seconds, rest) in [
        ("0", &["/none"][..]),
        ("0.1", &["/a", "2"]),
        ("0", &["/a", "--gone"]),
    ] {
        let mut arguments = vec!["wait", "--timeout", seconds];
        arguments.extend(rest);
        let output = testbed.run(0, &arguments);
        let message = format!(
            "xenstore: could not wait for path {}: timed out after {seconds} s\n",
            rest[0]
        );
        assert_eq!(String::from_utf8(output.stderr).unwrap(), message);
        assert_eq!(output.status.code(), Some(124), "{arguments:?}");
    }

    let output = testbed.run(5, &["wait", "/local/domain/0/name"]);
    let message = "xenstore: could not wait for path /local/domain/0/name: Permission denied\n";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), message);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn domains_are_listed_by_number() {
    let testbed = Testbed::new();
    testbed.with_store(|store| {
        for domain in [12, 7, 9] {
            store.introduce_guest(domain, Toolstack::Libxl);
        }
        store
            .write("/local/domain/12/name", "odd\x1b name")
            .unwrap();
        store.remove("/local/domain/7/name").unwrap();
        // Its home stays.
        store.release(9);
    });
    let output = testbed.run(0, &["domains"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed, "0 Domain-0\n5 guest-5\n7\n12 odd\\u001b name\n");
    assert!(output.status.success());

    let output = testbed.run(5, &["domains"]);
    let message = "xenstore: could not list path /local/domain: Permission denied\n";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), message);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn domains_are_followed_while_they_come_and_go() {
    let testbed = Testbed::new();
    let (child, mut lines) = start(&testbed, &["domains", "--follow"]);
    assert_eq!(next(&mut lines), "+ 0 Domain-0");
    assert_eq!(next(&mut lines), "+ 5 guest-5");
    testbed.with_store(|store| store.introduce_guest(6, Toolstack::Xapi));
    assert_eq!(next(&mut lines), "+ 6 guest-6");
    testbed.with_store(|store| store.destroy_guest(5));
    assert_eq!(next(&mut lines), "- 5 guest-5");

    // Several changes can have a single event.
    testbed.with_store(|store| {
        store.destroy_guest(6);
        store.introduce_guest(8, Toolstack::Xapi);
        store.introduce_guest(7, Toolstack::Xapi);
    });
    let changes = [(); 3].map(|()| next(&mut lines));
    assert_eq!(changes, ["- 6 guest-6", "+ 7 guest-7", "+ 8 guest-8"]);

    // A home may be created after the event.
    testbed.with_store(|store| store.introduce(9));
    std::thread::sleep(Duration::from_millis(50));
    testbed
        .client()
        .write("/local/domain/9/name", "late")
        .unwrap();
    assert_eq!(next(&mut lines), "+ 9 late");
    stop(child);
}

#[test]
fn domains_are_followed_by_the_domain_in_the_event() {
    let testbed = Testbed::with_model(Model::CXenstored4_22);
    let (child, mut lines) = start(&testbed, &["domains", "--follow"]);
    assert_eq!(next(&mut lines), "+ 0 Domain-0");
    assert_eq!(next(&mut lines), "+ 5 guest-5");
    testbed.with_store(|store| {
        store.destroy_guest(5);
        store.introduce_guest(8, Toolstack::Xapi);
        store.introduce_guest(7, Toolstack::Xapi);
    });
    // If the first events of the watches come after these changes, the list has them in its order.
    let mut changes = [(); 3].map(|()| next(&mut lines));
    changes.sort();
    assert_eq!(changes, ["+ 7 guest-7", "+ 8 guest-8", "- 5 guest-5"]);

    // The domain needs no home.
    testbed.with_store(|store| store.introduce(9));
    assert_eq!(next(&mut lines), "+ 9");
    testbed.with_store(|store| store.release(9));
    assert_eq!(next(&mut lines), "- 9");
    stop(child);
}

#[test]
fn domains_are_not_listed_again_after_an_event_that_names_the_domain() {
    let testbed = Testbed::with_model(Model::CXenstored4_22);
    let (child, mut lines) = start(&testbed, &["domains", "--follow"]);
    let lists = || {
        let kind = MessageKind::DIRECTORY;
        let count = |store: &Store| store.request_count_of_kind(0, kind);
        testbed.server.with(|server| count(server.store()))
    };
    // Each watch fires when it is set. After four further lists, the next one is due in 1.6 s.
    let start = Instant::now();
    while lists() < 6 {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    testbed.with_store(|store| store.introduce_guest(8, Toolstack::Xapi));
    let printed = [(); 3].map(|()| next(&mut lines));
    assert_eq!(printed, ["+ 0 Domain-0", "+ 5 guest-5", "+ 8 guest-8"]);
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(lists(), 6);
    stop(child);
}

/// Starts a server that accepts a connection and never replies, except to `WATCH` if `can_watch`.
/// It closes the connection 20 s after the last request, so that no test blocks forever.
fn silent_server(directory: &TempDir, name: &str, can_watch: bool) -> PathBuf {
    let path = directory.path().join(name);
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let limit = Some(Duration::from_secs(20));
        socket.set_read_timeout(limit).unwrap();

        let mut decoder = Decoder::default();
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = socket.read(&mut buffer) {
            decoder.extend(&buffer[..len]);
            while let Some(request) = decoder.next_message().unwrap() {
                if !can_watch || request.kind != MessageKind::WATCH {
                    continue;
                }
                let event = Message {
                    kind: MessageKind::WATCH_EVENT,
                    request_id: 0,
                    payload: request.payload.clone(),
                    ..request
                };
                let reply = Message {
                    payload: b"OK\0".to_vec(),
                    ..request
                };
                let mut bytes = Vec::new();
                reply.encode(&mut bytes).unwrap();
                event.encode(&mut bytes).unwrap();
                socket.write_all(&bytes).unwrap();
            }
        }
    });
    path
}

#[test]
fn time_limit_ends_a_request_without_reply() {
    let directory = tempfile::tempdir().unwrap();
    let wait = "could not wait for path /a";
    let add = "Unable to add watch on /a";
    let cases: [(_, _, &[&str], _); 5] = [
        ("0", false, &["wait", "/a"], wait),
        ("1.5", false, &["wait", "/a"], wait),
        ("1.5", true, &["wait", "/a"], wait),
        ("1.5", false, &["watch", "/a"], add),
        ("1.5", true, &["watch", "--values", "/a"], "watch"),
    ];
    let start = Instant::now();
    let mut children = Vec::new();
    for (number, (seconds, can_watch, arguments, operation)) in cases.into_iter().enumerate() {
        let socket = silent_server(&directory, &number.to_string(), can_watch);
        let child = Command::new(env!("CARGO_BIN_EXE_xenstore"))
            .args(arguments)
            .args(["--timeout", seconds])
            .env("XENSTORED_PATH", socket)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        children.push((child, seconds, operation));
    }

    for (child, seconds, operation) in children {
        let output = child.wait_with_output().unwrap();
        let message = format!("xenstore: {operation}: the Xenstore server did not reply in time\n");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), message);
        assert_eq!(output.status.code(), Some(124), "{operation}");
        assert_eq!(output.stdout, b"");
        assert!(start.elapsed() >= Duration::from_secs_f64(seconds.parse().unwrap()));
    }
    assert!(start.elapsed() < Duration::from_secs(15));
}
