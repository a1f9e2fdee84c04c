//! Command lines that are wrong, help, exit statuses, and servers that cannot be used.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::testbed::{Testbed, program, run};

const SUB_COMMANDS: [&str; 13] = [
    "read", "write", "rm", "mkdir", "list", "ls", "exists", "chmod", "perms", "watch", "wait",
    "domains", "control",
];

#[test]
fn help_succeeds_and_names_the_command_as_it_was_called() {
    let directory = tempfile::tempdir().unwrap();
    for name in SUB_COMMANDS {
        let link = directory.path().join(format!("xenstore-{name}"));
        symlink(program(), &link).unwrap();
        for (program, arguments, usage) in [
            (program(), &[name, "-h"][..], format!("xenstore {name}")),
            (&link, &["-h"], format!("xenstore-{name}")),
            (&link, &["--help"], format!("xenstore-{name}")),
        ] {
            // No server is necessary.
            let output = run(program, Path::new("/nowhere"), arguments);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            let help = String::from_utf8(output.stdout).unwrap();
            assert!(help.contains(&format!("Usage: {usage} ")), "{help}");
            assert_eq!(output.stderr, b"");
        }
    }
}

#[test]
fn failures_have_different_statuses_on_request() {
    let testbed = Testbed::new();
    let socket = &testbed.socket(0);
    let nowhere = Path::new("/nowhere");
    for (place, arguments, status) in [
        (socket, &["write", "/a", "1"][..], 0),
        (socket, &["read", "/none"], 1),
        (socket, &["exists", "/none"], 1),
        (socket, &["wait", "--timeout", "0", "/none"], 124),
        (socket, &["read"], 2),
        (socket, &["write", "/a", "1", "/b"], 2),
        (socket, &["bogus"], 2),
        (socket, &["watch", "--depth", "-1", "/a"], 2),
        (&nowhere.to_owned(), &["read", "/a"], 3),
        (&nowhere.to_owned(), &["exists", "/a"], 3),
    ] {
        let with_option = [&["--exit-codes"], arguments].concat();
        assert_eq!(
            run(program(), place, &with_option).status.code(),
            Some(status),
            "{arguments:?}"
        );
        // As in Xen's tools, one status stands for all failures by default.
        let default = if status == 124 { 124 } else { status.min(1) };
        assert_eq!(
            run(program(), place, arguments).status.code(),
            Some(default),
            "{arguments:?}"
        );
    }
}

#[test]
fn control_fails_with_the_reason() {
    let testbed = Testbed::new();
    let output = run(program(), &testbed.socket(0), &["control", "bogus"]);
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "xenstore: could not run bogus: Invalid argument\n"
    );
    assert_eq!(output.status.code(), Some(1));
}
