//! Differences between the models of servers.

use super::*;

const MODELS: [Model; 3] = [
    Model::CXenstored4_17,
    Model::CXenstored4_22,
    Model::Oxenstored4_17,
];

/// Repeats a request until it is refused. Returns how often it succeeded, and the error.
fn until_refused(
    store: &mut Store,
    id: ConnectionId,
    kind: MessageKind,
    payload: impl Fn(usize) -> String,
) -> (usize, String) {
    let mut count = 0;
    loop {
        match ask(store, id, kind, payload(count)) {
            Ok(_) => count += 1,
            Err(error) => return (count, error),
        }
        store.take_output(id);
    }
}

#[test]
fn limits_of_a_guest() {
    let start = |_| "\0".to_owned();
    let watch = |n| format!("data\0{n}\0");
    let value = |n| format!("data/x\0{}", "v".repeat(n));
    let node = |n| format!("attr/{}/{n}\0", n / 100);
    let permission = |n| format!("data/p\0n5\0{}", "r7\0".repeat(n));
    let path = |n| format!("{}\0", "p".repeat(n));
    for (model, expected) in MODELS.into_iter().zip([
        [
            (11, "ENOSPC"),
            (129, "E2BIG"),
            (2016, "ENOSPC"),
            (5, "ENOSPC"),
            (2048, "EINVAL"),
        ],
        [
            (9, "ENOSPC"),
            (127, "ENOSPC"),
            (2024, "ENOSPC"),
            (5, "ENOSPC"),
            (2048, "EINVAL"),
        ],
        [
            (11, "EQUOTA"),
            (101, "EQUOTA"),
            (2049, "E2BIG"),
            (usize::MAX, ""),
            (1024, "EINVAL"),
        ],
    ]) {
        let (mut store, _, guest) = guest_of(model, Toolstack::Libxl);
        let mut limit = |kind, payload: &dyn Fn(usize) -> String| {
            until_refused(&mut store, guest, kind, payload)
        };
        let limits = [
            limit(MessageKind::TRANSACTION_START, &start),
            limit(MessageKind::WATCH, &watch),
            limit(MessageKind::WRITE, &value),
        ];
        for (limit, expected) in limits.iter().zip(expected) {
            assert_eq!((limit.0, &*limit.1), expected, "{model:?}");
        }

        ask(&mut store, guest, MessageKind::WRITE, "data/p\0").unwrap();
        if model == Model::Oxenstored4_17 {
            // There is no limit.
            let many = ask(&mut store, guest, MessageKind::SET_PERMS, permission(99));
            assert_eq!(many, ok());
        } else {
            let (count, code) =
                until_refused(&mut store, guest, MessageKind::SET_PERMS, permission);
            assert_eq!((count, &*code), expected[3], "{model:?}");
        }

        let mut len = 1;
        let refused = loop {
            match ask(&mut store, guest, MessageKind::READ, path(len)) {
                Err(code) if code == "ENOENT" => len += 1,
                other => break other,
            }
        };
        assert_eq!(
            (len - 1, refused),
            (expected[4].0, error(expected[4].1)),
            "{model:?}"
        );
        let full = if model == Model::Oxenstored4_17 {
            "EQUOTA"
        } else {
            "ENOSPC"
        };
        let (made, code) = until_refused(&mut store, guest, MessageKind::WRITE, node);
        assert!((970..1000).contains(&made), "{model:?}: {made}");
        assert_eq!((store.node_count(5), &*code), (1000, full), "{model:?}");
    }
}

#[test]
fn error_codes_of_models() {
    type Row<'a> = (bool, u32, MessageKind, &'a str, [&'a str; 3]);
    let rows: [Row<'_>; 14] = [
        (
            true,
            77,
            MessageKind::READ,
            "data\0",
            ["ENOENT", "ENOENT", "EIO"],
        ),
        (
            true,
            77,
            MessageKind::TRANSACTION_END,
            "T\0",
            ["ENOENT", "ENOENT", "EIO"],
        ),
        (
            true,
            0,
            MessageKind::SET_PERMS,
            "data\0n0\0",
            ["EPERM", "EPERM", "EACCES"],
        ),
        (
            true,
            0,
            MessageKind::READ,
            "/secret/none\0",
            ["EACCES", "EACCES", "ENOENT"],
        ),
        (true, 0, MessageKind::WRITE, "/secret/none\0", ["EACCES"; 3]),
        (true, 0, MessageKind::READ, "/secret\0", ["EACCES"; 3]),
        (
            true,
            0,
            MessageKind::GET_FEATURE,
            "",
            ["ENOSYS", "14\0", "ENOSYS"],
        ),
        (
            true,
            0,
            MessageKind::GET_FEATURE,
            "5\0",
            ["ENOSYS", "EACCES", "ENOSYS"],
        ),
        (
            false,
            0,
            MessageKind::GET_QUOTA,
            "nodes\0",
            ["ENOSYS", "1000\0", "ENOSYS"],
        ),
        (
            false,
            0,
            MessageKind::SET_QUOTA,
            "nodes\09\0",
            ["ENOSYS", "OK\0", "ENOSYS"],
        ),
        (
            true,
            0,
            MessageKind::CONTROL,
            "none\0",
            ["EACCES", "EACCES", "OK\0"],
        ),
        (
            false,
            0,
            MessageKind::CONTROL,
            "none\0",
            ["EINVAL", "EINVAL", "OK\0"],
        ),
        (
            false,
            0,
            MessageKind::RELEASE,
            "77\0",
            ["ENOENT", "ENOENT", "EINVAL"],
        ),
        (
            false,
            0,
            MessageKind::RELEASE,
            "0\0",
            ["EINVAL", "EINVAL", "ENOENT"],
        ),
    ];
    for (index, model) in MODELS.into_iter().enumerate() {
        let (mut store, host, guest) = guest_of(model, Toolstack::Libxl);
        store.write("/secret", "").unwrap();
        for (of_guest, transaction, kind, payload, expected) in rows {
            let id = if of_guest { guest } else { host };
            let reply = ask_in(&mut store, id, transaction, kind, payload);
            let reply = reply.map_or_else(|code| code, |text| String::from_utf8(text).unwrap());
            assert_eq!(reply, expected[index], "{model:?}: {kind} {payload:?}");
        }
    }
}

#[test]
fn requests_of_a_transaction_are_limited_in_oxenstored() {
    let (mut store, host, guest) = guest_of(Model::Oxenstored4_17, Toolstack::Libxl);
    for (id, is_limited) in [(guest, true), (host, false)] {
        let transaction = start(&mut store, id);
        for _ in 0..1024 {
            ask_in(&mut store, id, transaction, MessageKind::READ, "domid\0").unwrap();
        }
        let end = ask_in(
            &mut store,
            id,
            transaction,
            MessageKind::TRANSACTION_END,
            "T\0",
        );
        assert_eq!(end, if is_limited { error("EQUOTA") } else { ok() });
    }
}

#[test]
fn long_lists_of_models() {
    for model in MODELS {
        let (mut store, host, guest) = guest_of(model, Toolstack::Libxl);
        for name in 0..200 {
            store
                .write(format!("{HOME}/data/{}{name:03}", "n".repeat(27)), "")
                .unwrap();
        }
        let list = format!("{HOME}/data\0");
        let part = format!("{HOME}/data\x000\0");
        let mut len = |id, kind, payload: &str| {
            ask(&mut store, id, kind, payload).map(|payload| payload.len())
        };
        let lists = [host, guest].map(|id| len(id, MessageKind::DIRECTORY, &list));
        let parts = [host, guest].map(|id| len(id, MessageKind::DIRECTORY_PART, &part).is_ok());
        let refused = || Err("E2BIG".to_owned());
        let expected = match model {
            Model::Oxenstored4_17 => ([Ok(200 * 31), refused()], [false, false]),
            _ => ([refused(), refused()], [true, true]),
        };
        assert_eq!((lists, parts), expected, "{model:?}");
    }
}

#[test]
fn equal_events_are_merged_in_c_xenstored() {
    for (model, count) in MODELS.into_iter().zip([1, 1, 2]) {
        let (mut store, _, guest) = guest_of(model, Toolstack::Libxl);
        for path in ["data", "data/x"] {
            ask(
                &mut store,
                guest,
                MessageKind::WATCH,
                format!("{path}\0t\0"),
            )
            .unwrap();
        }
        store.take_output(guest);
        store.write(format!("{HOME}/data/x"), "").unwrap();
        assert_eq!(
            events(&mut store, guest),
            vec!["data/x t"; count],
            "{model:?}"
        );
    }
}

#[test]
fn watches_of_a_depth() {
    let (mut store, host, guest) = guest_of(Model::CXenstored4_22, Toolstack::Libxl);
    for depth in 0..4 {
        let watch = format!("data\0{depth}\0{depth}\0");
        assert_eq!(ask(&mut store, guest, MessageKind::WATCH, watch), ok());
    }
    let from_root = ask(&mut store, host, MessageKind::WATCH, "/\0root\x002\0");
    assert_eq!(from_root, ok());
    for id in [host, guest] {
        store.take_output(id);
    }
    for (path, depths) in [
        ("data", &["data 0", "data 1", "data 2", "data 3"][..]),
        ("data/a", &["data/a 1", "data/a 2", "data/a 3"]),
        ("data/a/b", &["data/a/b 2", "data/a/b 3"]),
        ("data/a/b/c", &["data/a/b/c 3"]),
        ("data/a/b/c/d", &[]),
    ] {
        store.write(format!("{HOME}/{path}"), "x").unwrap();
        assert_eq!(events(&mut store, guest), depths, "{path}");
    }

    // The removal of a parent concerns the watched node itself.
    ask(&mut store, guest, MessageKind::WATCH, "data/a/b\0w\x000\0").unwrap();
    store.take_output(guest);
    store.remove(format!("{HOME}/data/a")).unwrap();
    assert_eq!(
        events(&mut store, guest),
        ["data/a/b w", "data/a 1", "data/a 2", "data/a 3"]
    );
    assert_eq!(events(&mut store, host), [""; 0]);
    store.write("/a/b", "").unwrap();
    store.write("/a/b/c", "").unwrap();
    assert_eq!(events(&mut store, host), ["/a/b root"]);

    for (payload, expected) in [
        ("data\0x\0-1\0", error("EINVAL")),
        ("data\0x\x001\x002\0", error("EINVAL")),
        ("@releaseDomain\0x\x000\0", error("EINVAL")),
        ("@releaseDomain\0x\x002\0", error("EINVAL")),
        ("@introduceDomain\0x\x001\0", ok()),
    ] {
        assert_eq!(
            ask(&mut store, guest, MessageKind::WATCH, payload),
            expected,
            "{payload:?}"
        );
    }
    for model in [Model::CXenstored4_17, Model::Oxenstored4_17] {
        let (mut store, _, guest) = guest_of(model, Toolstack::Libxl);
        let watch = ask(&mut store, guest, MessageKind::WATCH, "data\0x\x001\0");
        assert_eq!(watch, error("EINVAL"), "{model:?}");
    }
}

#[test]
fn depth_needs_the_feature() {
    let (mut store, host, _) = guest_of(Model::CXenstored4_22, Toolstack::Libxl);
    for (features, expected) in [(4, ok()), (10, error("EINVAL"))] {
        let domain = 10 + features;
        let set = format!("{domain}\0{features}\0");
        assert_eq!(ask(&mut store, host, MessageKind::SET_FEATURE, set), ok());
        let id = store.connect(domain);
        let own = ask(&mut store, id, MessageKind::GET_FEATURE, "");
        assert_eq!(own, Ok(format!("{features}\0").into_bytes()));
        let watch = ask(&mut store, id, MessageKind::WATCH, "data\0x\x001\0");
        assert_eq!(watch, expected);
    }
}

#[test]
fn special_watches_of_models() {
    for model in MODELS {
        let (mut store, host, guest) = guest_of(model, Toolstack::Libxl);
        let is_new = model == Model::CXenstored4_22;
        for id in [host, guest] {
            for (path, token) in [
                ("@introduceDomain", "in"),
                ("@releaseDomain", "out"),
                ("@releaseDomain/9", "out9"),
                ("@releaseDomain/8", "out8"),
                ("/", "root"),
            ] {
                let watch = format!("{path}\0{token}\0");
                assert_eq!(ask(&mut store, id, MessageKind::WATCH, watch), ok());
            }
            for path in ["@introduceDomain", "@releaseDomain"] {
                let watch = format!("{path}\0depth\x001\0");
                let set = ask(&mut store, id, MessageKind::WATCH, watch);
                assert_eq!(set.is_ok(), is_new);
            }
            store.take_output(id);
        }
        store.introduce(9);
        store.release(9);
        let (mut of_host, mut of_guest) = (vec!["@introduceDomain in"], Vec::new());
        if is_new {
            let released = [
                "@releaseDomain out",
                "@releaseDomain/9 out9",
                "@releaseDomain/9 depth",
            ];
            of_host.push("@introduceDomain/9 depth");
            of_host.extend(released);
            of_guest.extend(released);
        } else {
            of_host.push("@releaseDomain out");
        }
        assert_eq!(events(&mut store, host), of_host, "{model:?}");
        assert_eq!(events(&mut store, guest), of_guest, "{model:?}");
    }
}

#[test]
fn permission_for_all_domains_needs_a_newer_server() {
    for (model, expected) in MODELS.into_iter().zip([false, true, false]) {
        let (mut store, _, guest) = guest_of(model, Toolstack::Libxl);
        store.write("/all", "").unwrap();
        store
            .set_permissions("/all", &permissions("n0 r32757"))
            .unwrap();
        let read = ask(&mut store, guest, MessageKind::READ, "/all\0");
        let write = ask(&mut store, guest, MessageKind::WRITE, "/all\0");
        assert_eq!(
            (read.is_ok(), write.is_ok()),
            (expected, false),
            "{model:?}"
        );

        // An entry for the domain itself counts if it comes first.
        store
            .set_permissions("/all", &permissions("n0 n5 r32757"))
            .unwrap();
        let read = ask(&mut store, guest, MessageKind::READ, "/all\0");
        assert_eq!(read, error("EACCES"), "{model:?}");
    }
}
