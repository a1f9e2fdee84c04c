//! Standard output and standard error that accept nothing.

use std::fs::File;
use std::process::{Command, Stdio};

use rustix::pipe::{PipeFlags, pipe_with};
use system_tests::{FakeRoot, Profile, build};

/// Returns a descriptor that fails each write: a full device, or a pipe that nobody reads.
fn broken(is_pipe: bool) -> Stdio {
    if is_pipe {
        // A process of another test would keep the reader open.
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        drop(reader);
        return writer.into();
    }
    File::options()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

#[test]
fn output_that_fails_changes_no_exit_status_and_causes_no_panic() {
    let root = FakeRoot::new();
    root.remove("sys/hypervisor/type");
    let binary = build("xen-guest-agent", Profile::Debug);
    let root = root.path().display().to_string();

    // The exit status with an output that works, and with a full or unread standard output.
    for (arguments, expected, full, unread) in [
        ("--help", 0, 0, 0),
        ("--version", 0, 0, 0),
        ("config", 0, 1, 0),
        ("show --network-mode=off --root ROOT", 0, 1, 0),
        ("show --network-mode=off --format=json --root ROOT", 0, 1, 0),
        ("status --root ROOT", 1, 1, 1),
        ("--root ROOT", 3, 3, 3),
        ("--root ROOT --stderr", 3, 3, 3),
        ("--root ROOT --loglevel=off", 3, 3, 3),
        ("--config /nonexistent", 2, 2, 2),
        ("--schema nothing", 2, 2, 2),
        ("--loglevel foo", 2, 2, 2),
        ("--unknown-option", 2, 2, 2),
        ("status --schema rfc", 2, 2, 2),
    ] {
        let run = |stdout: Stdio, stderr: Stdio| {
            let arguments = arguments.replace("ROOT", &root);
            let mut command = Command::new(&binary);
            command
                .args(arguments.split(' '))
                .env_remove("XENSTORED_PATH")
                .env("XENSTORED_RUNDIR", &root)
                .stdout(stdout)
                .stderr(stderr);
            command.status().unwrap()
        };
        let normal = run(Stdio::null(), Stdio::null());
        assert_eq!(normal.code(), Some(expected), "{arguments}");
        for (is_pipe, code) in [(false, full), (true, unread)] {
            let status = run(broken(is_pipe), Stdio::null());
            assert_eq!(status.code(), Some(code), "{arguments} >broken: {status}");
            let status = run(Stdio::null(), broken(is_pipe));
            assert_eq!(
                status.code(),
                Some(expected),
                "{arguments} 2>broken: {status}"
            );
            let status = run(broken(is_pipe), broken(is_pipe));
            assert_eq!(
                status.code(),
                Some(code),
                "{arguments} >broken 2>&1: {status}"
            );
        }
    }
}
