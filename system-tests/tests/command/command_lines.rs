//! Command lines: output, exit status and resulting tree.

use std::fs;
use std::path::Path;
use std::process::Output;

use system_tests::{Daemon, Toolstack, Xenstored};

use crate::Tools;

/// Command lines that run one after the other on the same store.
const LINES: &[&str] = &[
    "write /t/a a\\x41\\n\\\\ /t/b/c -",
    "write -R /t/raw a\\x41",
    "write --raw /t/raw2 \\",
    "write /t/end \\",
    "write /t/escapes \\x\\xg\\x4g\\777\\8\\t\\q\\101",
    "write -- /t/minus -5",
    "write /t/minus -- -x",
    "write /t/a",
    "write /t/a 1 /t/z",
    "write",
    "write /t/z 1 /bad:path 1",
    "write /t//z 1",
    "write /t/z/ 1",
    "read /t/a /t/raw /t/raw2 /t/end /t/escapes /t/minus",
    "read -p /t/a /none /t/raw",
    "read --prefix /t/b/c /t/b /t /",
    "read --pre /t/b",
    "read -R /t/a",
    "read -R -p /t/a /t/raw",
    "read /none",
    "read /t/a/",
    "read relative",
    "read",
    "exists /t /t/a",
    "exists /t/z",
    "exists /t /none",
    "exists -p /t",
    "exists",
    "list /t",
    "list -p / /t",
    "list /t/a",
    "list /none",
    "list /t /none",
    "list",
    "chmod /t/a n0 b0",
    "chmod -u -r /t/b r0",
    "chmod --upto --recurse /t/b/c n0 r0 w0",
    "chmod /t/a x0",
    "chmod /t/a",
    "chmod /none n0",
    "chmod -r /none n0",
    "chmod",
    "ls -fp /t",
    "ls",
    "ls /none",
    "ls /t/a",
    "ls /t /t/b",
    "ls -f t",
    "watch -n 2 /t/a /t/b",
    "watch -n 0 /t/a",
    "watch -n -2 /t/a",
    "watch -n3 /t /none relative",
    "watch -n 1 /t /t",
    "watch -n 1 /bad:path",
    "watch",
    "write /tidy/a/b/c 1 /tidy/v 2",
    "rm -t /tidy/a/b/c",
    "rm --tidy /tidy/v",
    "rm /none",
    "rm /none/none",
    "rm /t/a /none/none",
    "rm /",
    "rm /t/a /t/b",
    "rm -t /t/raw /t/raw2 /t/end /t/escapes /t/minus",
    "rm",
    "write relative/x 1",
    "rm -t relative/x",
    "read -s /",
    "ls -s -p /",
    "bogus",
    "",
];

/// Command lines of a guest, which lacks permission for some of them.
const GUEST_LINES: &[&str] = &[
    "read domid",
    "write data/x 1 data/y 2",
    "write data/z 1 name forbidden",
    "write /other 1",
    "read data/x data/y data/z",
    "read /",
    "read /local/domain/0/name",
    "list data",
    "list /",
    "exists data/x name",
    "exists data/none",
    "ls data",
    "ls -p data",
    "ls -fp device",
    "ls /",
    "ls /local/domain/5",
    "chmod data/x b5 r0",
    "chmod data/x n0",
    "chmod domid n5",
    "chmod -r data n5 r0",
    "ls -fp /local/domain/5/data",
    "watch -n 2 data domid",
    "rm data/x",
    "rm name",
    "rm -t data/y",
    "exists data/y",
];

/// Runs each line with Xen's tools on one store and with ours on another, both as a subcommand and
/// by the name of the link.
fn compare(lines: &[&str], theirs: (&Xenstored, &Path), ours: (&Xenstored, &Path)) {
    for line in lines {
        for by_link in [false, true] {
            let mut arguments = line.split_whitespace().collect::<Vec<_>>();
            let name = match arguments.first() {
                Some(&first) if by_link && first != "bogus" => {
                    arguments.remove(0);
                    format!("xenstore-{first}")
                }
                _ if by_link => continue,
                _ => "xenstore".to_owned(),
            };
            let [theirs_output, ours_output] = [(Tools::Xens, theirs), (Tools::Ours, ours)]
                .map(|(of, (_, socket))| of.run(socket, &name, &arguments));
            assert_eq!(
                ours_output.status, theirs_output.status,
                "{name} {line}: {ours_output:?}"
            );
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(
                text(&ours_output.stdout),
                text(&theirs_output.stdout),
                "{name} {line}"
            );
            compare_messages(&theirs_output, &ours_output, &format!("{name} {line}"));
            let [theirs_tree, ours_tree] = [theirs, ours].map(|(store, _)| {
                text(&Tools::Xens.prints(store.socket(), "xenstore-ls", &["-fp"]))
            });
            assert_eq!(ours_tree, theirs_tree, "after {name} {line}");
        }
    }
}

/// Compares error messages: ours begins like the last line of Xen's tools, which often give no
/// reason. Usage messages have our own wording.
fn compare_messages(theirs: &Output, ours: &Output, line: &str) {
    let [theirs, ours] =
        [theirs, ours].map(|output| String::from_utf8_lossy(&output.stderr).trim().to_owned());
    assert_eq!(
        ours.is_empty(),
        theirs.is_empty(),
        "{line}: {ours:?}, {theirs:?}"
    );
    if theirs.contains("Usage:") || theirs.contains("unknown mode") {
        assert!(ours.contains("Usage:"), "{line}: {ours:?}");
    } else if !ours.contains("Usage:") {
        let start = theirs.lines().last().unwrap_or_default();

        // The library rejects invalid paths, where libxenstore leaves this to the server.
        let start = start
            .strip_suffix(": Invalid argument")
            .unwrap_or(start)
            .trim_end_matches('\'');
        assert!(ours.starts_with(start), "{line}: {ours:?}, {theirs:?}");
    }
}

pub(crate) fn command_lines_have_identical_results(daemon: Daemon) {
    let [theirs, ours] = [(); 2].map(|()| Xenstored::start(daemon));
    compare(LINES, (&theirs, theirs.socket()), (&ours, ours.socket()));
}

pub(crate) fn command_lines_in_a_guest_have_identical_results(daemon: Daemon) {
    let [theirs, ours] = [(); 2].map(|()| Xenstored::start(daemon));
    let guests = [&theirs, &ours].map(|store| store.guest(5, Toolstack::Xapi));
    for store in [&theirs, &ours] {
        // This node has a different value on each store.
        Tools::Xens.prints(
            store.socket(),
            "xenstore-rm",
            &["/local/domain/5/unique-domain-id"],
        );

        // A node that the guest may not read.
        Tools::Xens.prints(
            store.socket(),
            "xenstore-write",
            &["/local/domain/5/device/hidden/x", "1"],
        );
        Tools::Xens.prints(
            store.socket(),
            "xenstore-chmod",
            &["-r", "/local/domain/5/device/hidden", "n0"],
        );
    }
    compare(
        GUEST_LINES,
        (&theirs, guests[0].socket()),
        (&ours, guests[1].socket()),
    );
}

pub(crate) fn socket_lookup_is_identical(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    let directory = store.socket().parent().unwrap();
    let too_long = directory.join("d".repeat(120));
    fs::create_dir(&too_long).unwrap();
    for (variable, value, works) in [
        ("XENSTORED_RUNDIR", directory, true),
        ("XENSTORED_RUNDIR", Path::new("/nowhere"), false),
        ("XENSTORED_PATH", store.socket(), true),
        ("XENSTORED_PATH", Path::new("/nowhere"), false),
        // This file is neither a socket nor a device.
        ("XENSTORED_PATH", Path::new("/proc/self/environ"), false),
        ("XENSTORED_RUNDIR", &too_long, false),
    ] {
        for arguments in [&["-s", "-f"][..], &["-f"]] {
            let [theirs, ours] = [Tools::Xens, Tools::Ours].map(|of| {
                let mut command = of.command(store.socket(), "xenstore-ls");
                command
                    .env_remove("XENSTORED_PATH")
                    .env(variable, value)
                    .args(arguments)
                    .output()
                    .unwrap()
            });
            let line = format!("{variable}={} {arguments:?}", value.display());
            assert_eq!(theirs.status.success(), works, "{line}: {theirs:?}");
            assert_eq!(ours.status.code(), theirs.status.code(), "{line}: {ours:?}");
            assert_eq!(ours.stdout, theirs.stdout, "{line}");
        }
    }
}
