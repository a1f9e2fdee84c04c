//! Values that one tool writes and the other reads.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use xenstore::Nodes;

use system_tests::{Daemon, Xenstored};

use crate::{Rng, Tools, connect};

pub(crate) fn written_values_are_read_by_the_other_tool(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    let socket = store.socket();
    let mut client = connect(socket);
    let mut rng = Rng(5);
    for (writer, reader) in Tools::BOTH {
        for round in 0..40 {
            let value = rng.value();
            client.write("/x/source", &value).unwrap();

            // The escaped output of one tool is valid input for the other.
            let mut printed = writer.prints(socket, "xenstore-read", &["/x/source"]);
            assert_eq!(printed.pop(), Some(b'\n'));
            let arguments = [
                "--".into(),
                "/x/escaped".into(),
                OsString::from_vec(printed.clone()),
            ];
            reader.prints(socket, "xenstore-write", &arguments);
            assert_eq!(
                client.read("/x/escaped").unwrap(),
                value,
                "{writer:?}, round {round}"
            );

            // Raw values work, except for NUL, which cannot be in an argument.
            let raw: Vec<_> = value.into_iter().filter(|byte| *byte != 0).collect();
            let arguments = [
                "-R".into(),
                "--".into(),
                "/x/raw".into(),
                OsString::from_vec(raw.clone()),
            ];
            writer.prints(socket, "xenstore-write", &arguments);
            assert_eq!(
                reader.prints(socket, "xenstore-read", &["-R", "/x/raw"]),
                raw,
                "{writer:?}, round {round}"
            );

            // Both tools interpret the same escape sequences.
            let arguments = ["--".into(), "/x/odd".into(), OsString::from_vec(raw)];
            let both = [writer, reader].map(|of| {
                of.prints(socket, "xenstore-write", &arguments);
                client.read("/x/odd").unwrap()
            });
            assert_eq!(both[0], both[1], "{arguments:?}");
            reader.prints(
                socket,
                "xenstore-exists",
                &["/x/escaped", "/x/raw", "/x/odd"],
            );
        }
    }
}

pub(crate) fn removal_and_chmod_are_seen_by_the_other_tool(daemon: Daemon) {
    let store = Xenstored::start(daemon);
    let socket = store.socket();
    for (one, other) in Tools::BOTH {
        one.prints(
            socket,
            "xenstore-write",
            &["/r/a/b/c", "1", "/r/d", "", "/r/a/e", "2"],
        );
        assert_eq!(
            other.prints(socket, "xenstore-list", &["/r"]),
            b"a\nd\n",
            "{one:?}"
        );
        one.prints(socket, "xenstore-chmod", &["-r", "/r/a", "r0", "b0"]);
        let tree = "/r/a = \"\"   (r0,b0)\n/r/a/b = \"\"   (r0,b0)\n/r/a/b/c = \"1\"   (r0,b0)\n\
                    /r/a/e = \"2\"   (r0,b0)\n/r/d = \"\"   (n0)\n";
        let printed = other.prints(socket, "xenstore-ls", &["-fp", "/r"]);

        // The server determines the order.
        let sorted = |text: &[u8]| {
            let mut lines: Vec<_> = String::from_utf8_lossy(text)
                .lines()
                .map(str::to_owned)
                .collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&printed), sorted(tree.as_bytes()), "{one:?}");
        one.prints(socket, "xenstore-rm", &["-t", "/r/a/b/c"]);
        assert_eq!(
            other
                .run(socket, "xenstore-exists", &["/r/a/b"])
                .status
                .code(),
            Some(1),
            "{one:?}"
        );
        other.prints(socket, "xenstore-exists", &["/r/a", "/r/a/e"]);
        one.prints(socket, "xenstore-rm", &["/r"]);
        assert_eq!(
            other.run(socket, "xenstore-list", &["/r"]).status.code(),
            Some(1),
            "{one:?}"
        );
    }
}
