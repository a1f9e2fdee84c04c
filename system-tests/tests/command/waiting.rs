//! Sub-commands that Xen's tools lack, and `control`, on the real servers.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};
use system_tests::{Daemon, Toolstack, Xenstored};
use xenstore::Nodes;

use crate::{Tools, connect};

pub(crate) fn domains_are_followed(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    let first = store.guest(5, Toolstack::Xapi);
    let mut command = Tools::Ours.command(store.socket(), "xenstore");
    let mut child = command
        .args(["domains", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();

    // Domain 0 has no home on these servers, or is listed first.
    let mut lines = lines
        .map(Result::unwrap)
        .filter(|line| !line.starts_with("+ 0"));
    let mut next = || lines.next().unwrap();
    let name = |domain: u16| {
        let path = format!("/local/domain/{domain}/name");
        connect(store.socket()).read_text(path).unwrap()
    };
    let name_of_first = name(5);
    assert_eq!(next(), format!("+ 5 {name_of_first}"));
    let second = store.guest(6, Toolstack::Libxl);
    assert_eq!(next(), format!("+ 6 {}", name(6)));
    drop(first);
    assert_eq!(next(), format!("- 5 {name_of_first}"));
    child.kill().unwrap();
    child.wait().unwrap();

    let listed = Tools::Ours.prints(store.socket(), "xenstore", &["domains"]);
    let listed = String::from_utf8(listed).unwrap();
    let last = listed.lines().last().map(str::to_owned);
    assert_eq!(last, Some(format!("6 {}", name(second.domid()))));
}

pub(crate) fn values_are_watched_and_waited_for(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    let guest = store.guest(5, Toolstack::Xapi);
    let mut watch = Tools::Ours.command(guest.socket(), "xenstore-watch");
    let mut watch = watch
        .args(["--json", "--values", "-d", "1", "-n", "3", "data"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let object = |path, value| json!({ "key": "data", "path": path, "value": value });
    assert_eq!(next(), object("data", json!("")));

    let mut wait = Tools::Ours.command(store.socket(), "xenstore");
    let path = format!("{}/data/answer", guest.home());
    let mut wait = wait
        .args(["wait", "--timeout", "60", &path, "42"])
        .spawn()
        .unwrap();
    let pairs = ["data/deep/er", "1", "data/answer", "42"];
    Tools::Xens.prints(guest.socket(), "xenstore-write", &pairs);
    assert!(wait.wait().unwrap().success());

    // The parent of the first node is created implicitly, for which no server sends an event.
    assert_eq!(next(), object("data/answer", json!("42")));
    Tools::Xens.prints(guest.socket(), "xenstore-rm", &["data/answer"]);
    assert_eq!(next(), object("data/answer", Value::Null));
    assert!(watch.wait().unwrap().success());
}

/// Xen's `xenstore-control` needs a hypervisor even for this, so its output cannot be compared.
pub(crate) fn control_prints_replies_of_the_server(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    let run = |arguments: &[&str]| Tools::Ours.run(store.socket(), "xenstore-control", arguments);
    assert_eq!(run(&["check"]).stdout, b"OK\n");
    assert!(run(&["log", "on"]).status.success());

    // oxenstored 4.17 replies OK to every command.
    let (help, unknown) = (run(&["help"]), run(&["bogus"]));
    let help = String::from_utf8(help.stdout).unwrap();
    match daemon {
        Daemon::C => {
            assert!(help.contains("memreport\t[<file>]\n"), "{help}");
            let message = "xenstore-control: could not run bogus: Invalid argument\n";
            assert_eq!(String::from_utf8(unknown.stderr).unwrap(), message);
            assert_eq!(unknown.status.code(), Some(1));
        }
        Daemon::OCaml => assert_eq!(help, "OK\n"),
    }
}

pub(crate) fn permissions_of_all_domains_are_accepted_without_the_feature(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    connect(store.socket()).write("/a", "").unwrap();
    Tools::Ours.prints(store.socket(), "xenstore-chmod", &["/a", "n0", "r32757"]);
    let permissions = Tools::Ours.prints(store.socket(), "xenstore", &["perms", "/a"]);
    assert_eq!(
        permissions,
        b"n0 r32757\n",
        "{}",
        permissions.escape_ascii()
    );
}
