//! Exit status and output of each sub-command.

use std::process::Command;

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::testbed::{Testbed, program, run};

#[test]
fn exit_status_and_output_of_each_sub_command() {
    let testbed = Testbed::new();
    let socket = testbed.socket(0);
    let cases: [(&[&str], i32, &str); 37] = [
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
        // `rm -t` stops at the first parent with a value or with another child.
        (
            &[
                "write",
                "/t/v/e/f/x",
                "1",
                "/t/v",
                "1",
                "/t/o/p/x",
                "1",
                "/t/o/q",
                "",
            ],
            0,
            "",
        ),
        (&["rm", "-t", "/t/v/e/f/x"], 0, ""),
        (&["exists", "/t/v/e"], 1, ""),
        (&["rm", "--tidy", "/t/o/p/x", "/none"], 0, ""),
        (&["exists", "/t/o/p"], 1, ""),
        (&["exists", "/t/v", "/t/o/q"], 0, ""),
        (&["rm", "-t", "/t/v", "/t/none/none"], 1, ""),
        (&["exists", "/t/v"], 0, ""),
        (&["rm", "/t"], 0, ""),
        (&["rm", "/none"], 0, ""),
        (&["rm", "/none/none"], 1, ""),
        (&["list", "-p", "/a"], 0, "/a/b\n/a/c\n/a/r\n"),
        (&["chmod", "-r", "/a", "n0", "r5"], 0, ""),
        (&["perms", "/a/b"], 0, "n0 r5\n"),
        (
            &["perms", "-p", "/a/b", "/a/c"],
            0,
            "/a/b: n0 r5\n/a/c: n0 r5\n",
        ),
        (&["chmod", "/a", "x0"], 1, ""),
        (
            &["ls", "-f", "-p", "/a"],
            0,
            "/a/b = \"1\\n\"   (n0,r5)\n/a/c = \"-5\"   (n0,r5)\n/a/r = \"\\\\n\"   (n0,r5)\n",
        ),
        (
            &["ls", "--json", "/a"],
            0,
            "{\n  \"/a/b\": \"1\\n\",\n  \"/a/c\": \"-5\",\n  \"/a/r\": \"\\\\n\"\n}\n",
        ),
        (&["watch", "-n", "1", "/a"], 0, "/a\n"),
        (&["watch", "-n", "0", "/a"], 0, ""),
        (&["watch", "-n", "-2", "/a"], 0, ""),
        (&["exists", "-p", "/a"], 1, ""),
        (&["bogus"], 1, ""),
    ];
    for (arguments, status, stdout) in cases {
        let output = run(program(), &socket, arguments);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{arguments:?}: {output:?}"
        );
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            stdout,
            "{arguments:?}"
        );
    }
}

#[test]
fn link_runs_its_sub_command() {
    let testbed = Testbed::new();
    let link = testbed.directory.path().join("xenstore-read");
    std::os::unix::fs::symlink(program(), &link).unwrap();
    let output = run(&link, &testbed.socket(0), &["/none"]);
    let message = "xenstore-read: couldn't read path /none: No such file or directory\n";
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).as_ref()
        ),
        (Some(1), message)
    );
}

#[test]
fn error_messages_name_each_path_once() {
    let testbed = Testbed::new();
    let socket = testbed.socket(0);
    let long = "v".repeat(5000);
    let cases: [(&[&str], &str); 4] = [
        (
            &["read", "a b"],
            "couldn't read path a b: invalid path: only letters, digits, '-', '_', '@' and '/' are allowed",
        ),
        (
            &["write", "/a", &long],
            "could not write path /a: path and value are too long: 5003 bytes; at most 4096 fit",
        ),
        (
            &["rm", "/none/none"],
            "could not remove path /none/none: No such file or directory",
        ),
        (
            &["watch", "a//b"],
            "Unable to add watch on a//b: invalid path: it contains an empty name",
        ),
    ];
    for (arguments, message) in cases {
        let output = run(program(), &socket, arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            format!("xenstore: {message}\n")
        );
    }
}

#[test]
fn invalid_number_is_a_usage_error() {
    let testbed = Testbed::new();
    let socket = testbed.socket(0);
    let output = run(program(), &socket, &["watch", "-n", "x", "/a"]);
    let message = "error: invalid value 'x' for '--number <NR>': not a number\n";
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).starts_with(message),
        "{output:?}"
    );
}

#[test]
fn only_a_socket_or_a_device_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("file"), "contents").unwrap();
    mkfifoat(CWD, path("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
    for name in ["file", "fifo"] {
        let output = run(program(), &path(name), &["read", "domid"]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            format!(
                "xenstore: open {}: neither a socket nor a device\n",
                path(name).display()
            )
        );
    }
    assert_eq!(std::fs::read_to_string(path("file")).unwrap(), "contents");
}

#[test]
fn path_that_is_too_long_for_a_socket_fails_with_the_limit() {
    let directory = format!("/{}", "d".repeat(120));
    let output = Command::new(program())
        .args(["--socket", "read", "domid"])
        .env_remove("XENSTORED_PATH")
        .env("XENSTORED_RUNDIR", &directory)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        format!(
            "xenstore: connect to {directory}/socket: path too long: 128 bytes; at most 108 fit\n"
        )
    );
}
