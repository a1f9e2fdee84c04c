//! Output of `ls`, and readers that end early.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use tempfile::TempDir;
use xenstore::Nodes;
use xenstore::wire::{Decoder, Message, MessageKind};

use crate::testbed::Testbed;

const SIGPIPE: i32 = 13;

/// Returns a test bed whose store has values to print.
fn testbed() -> Testbed {
    let testbed = Testbed::new();
    let mut client = testbed.client();
    client.write("/a/b", "value").unwrap();
    client.write("/a/long", "v".repeat(200)).unwrap();
    client.write("/a/odd", b"\"\\\n\x01\xff").unwrap();
    client
        .write("/a/text", "\u{e4} \"quoted\" \\ \u{1}\n")
        .unwrap();
    testbed
}

#[test]
fn ls_json_prints_a_valid_object() {
    let testbed = testbed();
    let json = |domain, arguments: &[&str]| -> (serde_json::Value, Option<i32>) {
        let output = testbed.command(domain, arguments).output().unwrap();
        (
            serde_json::from_slice(&output.stdout).unwrap(),
            output.status.code(),
        )
    };
    let (tree, status) = json(0, &["ls", "--json", "/a"]);
    assert_eq!(status, Some(0));
    let text = "\u{e4} \"quoted\" \\ \u{1}\n";
    let odd = serde_json::json!([34, 92, 10, 1, 255]);
    assert_eq!(
        tree,
        serde_json::json!({ "/a/b": "value", "/a/long": "v".repeat(200), "/a/odd": odd, "/a/text": text })
    );
    let (tree, _) = json(0, &["ls", "-p", "--json", "/a"]);
    assert_eq!(
        tree["/a/b"],
        serde_json::json!({ "value": "value", "permissions": ["n0"] })
    );
    assert_eq!(
        json(0, &["ls", "--json", "/a/b"]),
        (serde_json::json!({}), Some(0))
    );
    // After a failure the output is still a valid object.
    assert_eq!(
        json(0, &["ls", "--json", "/none"]),
        (serde_json::json!({}), Some(1))
    );
    testbed
        .client()
        .write("/local/domain/5/data/hidden", "")
        .unwrap();
    let own = xenstore::Permissions::owner_only(0);
    testbed
        .client()
        .set_permissions("/local/domain/5/data/hidden", &own)
        .unwrap();
    let hidden = |value| (serde_json::json!({ "data/hidden": value }), Some(1));
    assert_eq!(
        json(5, &["ls", "--json", "data"]),
        hidden(serde_json::Value::Null)
    );
    let null = serde_json::json!({ "value": null, "permissions": null });
    assert_eq!(json(5, &["ls", "-p", "--json", "data"]), hidden(null));
}

#[test]
fn ls_json_escapes_what_could_control_a_terminal() {
    let testbed = testbed();
    let value = "\u{9b}31m\u{7f}\u{202e}\u{2028}\u{1b}[2J";
    testbed.client().write("/b/evil", value).unwrap();
    let output = testbed
        .command(0, &["ls", "--json", "/b"])
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        printed,
        "{\n  \"/b/evil\": \"\\u009b31m\\u007f\\u202e\\u2028\\u001b[2J\"\n}\n"
    );
    let tree: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(tree["/b/evil"], value);
}

/// Starts a server that sends the same payload as the reply to each request.
fn hostile_server(directory: &TempDir, kind: MessageKind, payload: &'static [u8]) -> PathBuf {
    let path = directory.path().join("hostile");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut decoder = Decoder::default();
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = socket.read(&mut buffer) {
            decoder.extend(&buffer[..len]);
            while let Some(request) = decoder.next_message().unwrap() {
                // A transaction needs a number.
                let is_transaction = request.kind == MessageKind::TRANSACTION_START;
                let reply = Message {
                    kind: if kind == MessageKind::ERROR {
                        kind
                    } else {
                        request.kind
                    },
                    payload: if is_transaction { b"1\0" } else { payload }.to_vec(),
                    ..request
                };
                let mut bytes = Vec::new();
                reply.encode(&mut bytes).unwrap();
                let _ = socket.write_all(&bytes);
            }
        }
    });
    path
}

#[test]
fn names_and_errors_of_the_server_are_escaped() {
    const EVIL: &[u8] = b"\x1b[2J\x1b]0;owned\x07\n<0>kernel: \xc2\x9b\xe2\x80\xae\0";
    let escaped = r"\u001b[2J\u001b]0;owned\u0007\u000a<0>kernel: \u009b\u202e";
    for (arguments, kind, stdout, stderr) in [
        (
            &["list", "/a"][..],
            MessageKind::DIRECTORY,
            format!("{escaped}\n"),
            String::new(),
        ),
        (
            &["read", "/a"],
            MessageKind::ERROR,
            String::new(),
            "xenstore: couldn't read path /a: unknown\n".to_owned(),
        ),
        (
            &["perms", "/a"],
            MessageKind::GET_PERMS,
            String::new(),
            format!(
                "xenstore: could not get permissions of path /a: invalid reply: \
                 not a permission such as r5: '{escaped}'\n"
            ),
        ),
        (
            &["chmod", "-r", "/a", "n0"],
            MessageKind::DIRECTORY,
            String::new(),
            format!(
                "xenstore: Error occurred setting permissions on '/a/{escaped}': invalid path: \
                 only letters, digits, '-', '_', '@' and '/' are allowed\n"
            ),
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let socket = hostile_server(&directory, kind, EVIL);
        let output = Command::new(env!("CARGO_BIN_EXE_xenstore"))
            .args(arguments)
            .env("XENSTORED_PATH", socket)
            .output()
            .unwrap();
        assert_eq!(
            (
                String::from_utf8(output.stdout).unwrap(),
                String::from_utf8(output.stderr).unwrap()
            ),
            (stdout, stderr),
            "{arguments:?}"
        );
    }
}

#[test]
fn permissions_of_all_domains_are_not_sent_to_a_server_that_could_crash() {
    let refused = "xenstore: refusing to set permissions of domain 32757, which means all domains: \
                   over a socket, this can crash xenstored of Xen 4.22; put the access of all \
                   domains into the first mode, as in r0\n";
    for (kind, payload, modes, message) in [
        (
            MessageKind::GET_FEATURE,
            &b"14\0"[..],
            ["n0", "r32757"],
            refused,
        ),
        (MessageKind::GET_FEATURE, b"14\0", ["n32757", "r5"], refused),
        (MessageKind::ERROR, b"EACCES\0", ["n0", "r32757"], refused),
        // The reply to SET_PERMS is the same as that to GET_FEATURE.
        (MessageKind::GET_FEATURE, b"6\0", ["n0", "r32757"], ""),
        (MessageKind::GET_FEATURE, b"14\0", ["n0", "r5"], ""),
        (
            MessageKind::ERROR,
            b"ENOSYS\0",
            ["n0", "r32757"],
            "xenstore: Error occurred setting permissions on '/a': ENOSYS\n",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let socket = hostile_server(&directory, kind, payload);
        let output = Command::new(env!("CARGO_BIN_EXE_xenstore"))
            .args(["chmod", "/a"])
            .args(modes)
            .env("XENSTORED_PATH", socket)
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            message,
            "{modes:?}"
        );
        assert_eq!(output.status.success(), message.is_empty());
    }
}

#[test]
fn reply_to_control_is_printed_as_lines() {
    for (payload, printed) in [
        (&b"OK\0"[..], "OK\n"),
        (b"a\tb\nc\n\0", "a\tb\nc\n"),
        (b"\0", ""),
        (b"\x1b[2J\0", "\\u001b[2J\n"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let socket = hostile_server(&directory, MessageKind::CONTROL, payload);
        let output = Command::new(env!("CARGO_BIN_EXE_xenstore"))
            .args(["control", "log", "-x"])
            .env("XENSTORED_PATH", socket)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), printed);
        assert!(output.status.success());
    }
}

#[test]
fn full_quotas_are_named() {
    let testbed = testbed();
    let long = "v".repeat(3000);
    let keys: Vec<_> = (0..200).map(|number| format!("data/{number}")).collect();
    let mut watches = vec!["watch"];
    watches.extend(keys.iter().map(String::as_str));
    for (arguments, message) in [
        (
            &["write", "data/big", &long][..],
            "could not write path data/big: a quota of the domain is full, or the value is longer \
             than it may be (ENOSPC)\n",
        ),
        (
            &watches,
            "Unable to add watch on data/129: the domain's quota of watches is full (E2BIG)\n",
        ),
    ] {
        let output = testbed.command(5, arguments).output().unwrap();
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(printed, format!("xenstore: {message}"));
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn ls_without_a_path_prints_the_home_in_a_guest() {
    let testbed = testbed();
    let ls = |arguments: &[&str]| {
        String::from_utf8(testbed.command(5, arguments).output().unwrap().stdout).unwrap()
    };
    assert!(ls(&["ls", "-f"]).contains("/local/domain/5/domid = \"5\"\n"));
    assert!(ls(&["ls"]).contains("\ndomid = \"5\"\n"));
}

/// Returns the writing end of a pipe whose reading end is closed.
fn broken_pipe() -> Stdio {
    // A process of another test would keep the reader open.
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn closed_output_kills_the_command_with_sigpipe() {
    let testbed = testbed();
    let killed = |status: ExitStatus| status.signal() == Some(SIGPIPE);
    let cases: [&[&str]; 11] = [
        &["watch", "--json", "--values", "/a"],
        &["domains"],
        &["domains", "--follow"],
        &["control", "help"],
        &["ls", "/"],
        &["ls", "--json", "/"],
        &["read", "/a/b"],
        &["list", "/a"],
        &["perms", "/a"],
        &["watch", "/a"],
        &["--help"],
    ];
    for arguments in cases {
        let status = testbed
            .command(0, arguments)
            .stdout(broken_pipe())
            .status()
            .unwrap();
        assert!(killed(status), "{arguments:?}: {status}");
    }
    for arguments in [
        &["read", "/none"][..],
        &["read", "--bogus"],
        &["write", "/a"],
        &["ls", "/none"],
    ] {
        let status = testbed
            .command(0, arguments)
            .stderr(broken_pipe())
            .status()
            .unwrap();
        assert!(killed(status), "{arguments:?}: {status}");
    }
    // A sub-command without output is not affected.
    let status = testbed
        .command(0, &["write", "/a/c", "1"])
        .stdout(broken_pipe())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}
