//! JSON, and readers that go away.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "all of this is test code"
)]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use tempfile::TempDir;
use xenstore::Client;
use xenstore::embedded::{Running, Server, Store, Toolstack};

const SIGPIPE: i32 = 13;

struct Bed {
    directory: TempDir,
    running: Running,
}

impl Bed {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::new();
        store.introduce_guest(5, Toolstack::Xapi);
        let mut server = Server::new(store);
        server.listen(directory.path().join("0"), 0).unwrap();
        server.listen(directory.path().join("5"), 5).unwrap();
        let bed = Bed {
            directory,
            running: server.spawn().unwrap(),
        };
        let mut client = bed.client();
        client.write("/a/b", "value").unwrap();
        client.write("/a/long", "v".repeat(200)).unwrap();
        client.write("/a/odd", b"\"\\\n\x01\xff").unwrap();
        client
            .write("/a/text", "\u{e4} \"quoted\" \\ \u{1}\n")
            .unwrap();
        bed
    }

    fn client(&self) -> Client {
        Client::new(self.running.connect(0).unwrap().into())
    }

    fn command(&self, domain: u16, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xenstore"));
        command.args(arguments).env(
            "XENSTORED_PATH",
            self.directory.path().join(domain.to_string()),
        );
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        command
    }
}

#[test]
fn json_is_json() {
    let bed = Bed::new();
    let json = |domain, arguments: &[&str]| -> (serde_json::Value, Option<i32>) {
        let output = bed.command(domain, arguments).output().unwrap();
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
    // It is an object where a node may not be read, and where there is none.
    assert_eq!(
        json(0, &["ls", "--json", "/none"]),
        (serde_json::json!({}), Some(1))
    );
    bed.client()
        .write("/local/domain/5/data/hidden", "")
        .unwrap();
    let own = ["n0"].map(|text| xenstore::Permission::parse(text.as_bytes()).unwrap());
    bed.client()
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
fn ls_shows_a_guest_its_own_tree() {
    let bed = Bed::new();
    let ls = |arguments: &[&str]| {
        String::from_utf8(bed.command(5, arguments).output().unwrap().stdout).unwrap()
    };
    assert!(ls(&["ls", "-f"]).contains("/local/domain/5/domid = \"5\"\n"));
    assert!(ls(&["ls"]).contains("\ndomid = \"5\"\n"));
}

/// A pipe from which nobody reads.
fn broken_pipe() -> Stdio {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_reader_that_went_ends_it_as_it_ends_a_c_program() {
    let bed = Bed::new();
    let killed = |status: ExitStatus| status.signal() == Some(SIGPIPE);
    let cases: [&[&str]; 7] = [
        &["ls", "/"],
        &["ls", "--json", "/"],
        &["read", "/a/b"],
        &["list", "/a"],
        &["perms", "/a"],
        &["watch", "/a"],
        &["--help"],
    ];
    for arguments in cases {
        let status = bed
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
        let status = bed
            .command(0, arguments)
            .stderr(broken_pipe())
            .status()
            .unwrap();
        assert!(killed(status), "{arguments:?}: {status}");
    }
    // What prints nothing misses nobody.
    let status = bed
        .command(0, &["write", "/a/c", "1"])
        .stdout(broken_pipe())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}
