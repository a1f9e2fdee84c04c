//! The command on a terminal: width and colours.

use std::process::Command;

use system_tests::{Profile, Terminal, build};
use tempfile::TempDir;
use xenstore::embedded::{Server, ServerHandle, Store, Toolstack};
use xenstore::{Client, Nodes};

/// An embedded Xenstore server with a guest, and a few nodes below `/a`.
struct EmbeddedStore {
    directory: TempDir,
    _running: ServerHandle,
}

impl EmbeddedStore {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::new();
        store.introduce_guest(5, Toolstack::Xapi);
        let mut server = Server::new(store);
        server.listen(directory.path().join("socket"), 0).unwrap();
        let running = server.spawn().unwrap();

        let mut client = Client::new(running.connect(0).unwrap().into());
        client.write("/a/b", "value").unwrap();
        client.write("/a/long", "v".repeat(200)).unwrap();
        client.write("/a/odd", b"\"\\\n\x01\xff").unwrap();
        let text = "\u{e4} \"quoted\" \\ \u{1}\n";
        client.write("/a/text", text).unwrap();
        EmbeddedStore {
            directory,
            _running: running,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(build("xenstore-cli", Profile::Debug));
        command
            .args(arguments)
            .env("XENSTORED_PATH", self.directory.path().join("socket"))
            .env("TERM", "xterm")
            .env_remove("NO_COLOR");
        command
    }
}

fn run_on_terminal(command: Command, columns: u16) -> String {
    let (status, printed) = Terminal::new(columns).run(command);
    assert!(status.success(), "{status}");
    String::from_utf8(printed).unwrap()
}

fn without_colours(text: &str) -> String {
    ["\x1b[1;34m", "\x1b[32m", "\x1b[2m", "\x1b[m"]
        .iter()
        .fold(text.to_owned(), |text, code| text.replace(code, ""))
}

#[test]
fn ls_uses_colours_on_a_terminal_unless_no_color_is_set() {
    let store = EmbeddedStore::start();
    let piped = store.command(&["ls", "-p", "/"]).output().unwrap();
    let piped = String::from_utf8(piped.stdout).unwrap();
    assert!(
        piped.contains(" b = \"value\"") && !piped.contains('\x1b'),
        "{piped}"
    );

    // Xen's tools reserve two columns of a terminal, but none of the 80 that they assume without
    // one.
    let ls = |variables: &[(&str, &str)]| {
        let mut command = store.command(&["ls", "-p", "/"]);
        command.envs(variables.iter().copied());
        run_on_terminal(command, 82)
    };
    let coloured = ls(&[("NO_COLOR", "")]);
    assert!(
        coloured.contains("\x1b[1;34ma\x1b[m") && coloured.contains("b = \x1b[32m\"value\"\x1b[m"),
        "{coloured}"
    );
    assert_eq!(without_colours(&coloured), piped);
    assert_eq!(ls(&[("NO_COLOR", "1")]), piped);
    assert_eq!(ls(&[("TERM", "dumb")]), piped);
}

#[test]
fn raw_value_is_escaped_on_a_terminal_only() {
    let store = EmbeddedStore::start();
    let raw = || store.command(&["read", "-R", "/a/text"]);
    assert_eq!(
        raw().output().unwrap().stdout,
        "\u{e4} \"quoted\" \\ \u{1}\n".as_bytes()
    );
    assert_eq!(
        run_on_terminal(raw(), 80).replace("\r\n", "\n"),
        "\u{e4} \"quoted\" \\ \\u0001\n"
    );
}

#[test]
fn ls_cuts_lines_at_the_width_of_the_terminal() {
    let store = EmbeddedStore::start();

    // The ellipsis of Xen's tools is one column longer than the space that they reserve for it.
    for (columns, longest_allowed) in [(40, 39), (100, 99), (300, 299)] {
        let printed = run_on_terminal(store.command(&["ls", "/a"]), columns);
        let text = without_colours(&printed);
        let longest = text.lines().map(str::len).max().unwrap();
        let uncut = "long = \"\"".len() + 200;
        assert_eq!(
            longest,
            longest_allowed.min(uncut),
            "{columns} columns: {text}"
        );
    }
}
