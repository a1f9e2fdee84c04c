//! Domains, guest trees, and the record of requests.

use super::*;

#[test]
fn domain_requests() {
    // Only this model has all requests.
    let (mut store, host, guest) = guest_of(Model::CXenstored4_22, Toolstack::Libxl);
    let text = |text: &str| Ok(text.as_bytes().to_vec());
    for kind in [
        MessageKind::CONTROL,
        MessageKind::INTRODUCE,
        MessageKind::RELEASE,
        MessageKind::IS_DOMAIN_INTRODUCED,
        MessageKind::RESUME,
        MessageKind::SET_TARGET,
        MessageKind::SET_FEATURE,
        MessageKind::GET_QUOTA,
        MessageKind::SET_QUOTA,
    ] {
        assert_eq!(
            ask(&mut store, guest, kind, "5\0"),
            error("EACCES"),
            "{kind}"
        );
    }
    assert_eq!(
        ask(&mut store, guest, MessageKind::GET_FEATURE, ""),
        text("14\0")
    );
    for (kind, payload) in [
        (MessageKind::GET_FEATURE, "\0"),
        (MessageKind::GET_QUOTA, ""),
        (MessageKind::GET_QUOTA, "\0"),
    ] {
        assert_eq!(ask(&mut store, guest, kind, payload), error("EACCES"));
    }
    assert_eq!(
        ask(&mut store, guest, MessageKind::GET_FEATURE, "5\0"),
        error("EACCES")
    );
    assert_eq!(
        ask(&mut store, guest, MessageKind::GET_DOMAIN_PATH, "12\0"),
        text("/local/domain/12\0")
    );
    for (kind, payload, expected) in [
        (MessageKind::IS_DOMAIN_INTRODUCED, "9\0", text("F\0")),
        (MessageKind::SET_FEATURE, "9\x000\0", ok()),
        (MessageKind::SET_FEATURE, "9\x001\0", error("EINVAL")),
        (MessageKind::GET_FEATURE, "9\0", text("0\0")),
        (MessageKind::GET_FEATURE, "8\0", text("14\0")),
        (MessageKind::GET_FEATURE, "", text("14\0")),
        (MessageKind::GET_FEATURE, "\0", text("14\0")),
        (MessageKind::GET_FEATURE, "x\0", error("EINVAL")),
        (MessageKind::GET_QUOTA, "\0", error("EINVAL")),
        (MessageKind::INTRODUCE, "9\x001\0", error("EINVAL")),
        (MessageKind::INTRODUCE, "9\x001\x000\0", error("EINVAL")),
        (MessageKind::INTRODUCE, "0\x001\x007\0", error("EINVAL")),
        (MessageKind::INTRODUCE, "9\x001\x007\0", ok()),
        (MessageKind::INTRODUCE, "9\x001\x007\0", ok()),
        (MessageKind::IS_DOMAIN_INTRODUCED, "9\0", text("T\0")),
        (MessageKind::IS_DOMAIN_INTRODUCED, "0\0", text("T\0")),
        (MessageKind::IS_DOMAIN_INTRODUCED, "32752\0", text("T\0")),
        (MessageKind::SET_FEATURE, "9\x000\0", error("EBUSY")),
        (MessageKind::RESUME, "9\0", ok()),
        (MessageKind::RESUME, "10\0", error("ENOENT")),
        (MessageKind::RESUME, "0\0", error("EINVAL")),
        (MessageKind::RELEASE, "9\0", ok()),
        (MessageKind::RELEASE, "9\0", error("ENOENT")),
        (MessageKind::RELEASE, "0\0", error("EINVAL")),
        (MessageKind::GET_QUOTA, "nodes\0", text("1000\0")),
        (MessageKind::GET_QUOTA, "5\0watches\0", text("128\0")),
        (MessageKind::SET_QUOTA, "watches\x007\0", ok()),
        (MessageKind::SET_QUOTA, "5\0nodes\x002000\0", ok()),
        (MessageKind::GET_QUOTA, "5\0nodes\0", text("2000\0")),
        (MessageKind::GET_QUOTA, "6\0nodes\0", text("1000\0")),
        (MessageKind::GET_QUOTA, "6\0watches\0", text("7\0")),
        (MessageKind::GET_QUOTA, "none\0", error("EINVAL")),
        (MessageKind::SET_QUOTA, "nodes\0x\0", error("EINVAL")),
        (MessageKind::SET_QUOTA, "nodes\0", error("EINVAL")),
        (MessageKind::CONTROL, "check\0", text("OK\0")),
        (MessageKind::CONTROL, "none\0", error("EINVAL")),
        (MessageKind::CONTROL, "", error("EINVAL")),
    ] {
        assert_eq!(
            ask(&mut store, host, kind, payload),
            expected,
            "{kind} {payload:?}"
        );
    }
    let names = ask(&mut store, host, MessageKind::GET_QUOTA, "").unwrap();
    let names = String::from_utf8(names).unwrap();
    for name in names.trim_end_matches('\0').split(' ') {
        let quota = ask(
            &mut store,
            host,
            MessageKind::GET_QUOTA,
            format!("{name}\0"),
        );
        assert!(quota.is_ok(), "{name}");
    }
    assert!(
        ask(&mut store, host, MessageKind::CONTROL, "help\0")
            .unwrap()
            .starts_with(b"check")
    );
}

#[test]
fn release_removes_everything_of_the_domain() {
    let mut store = Store::new();
    let (host, guest) = (store.connect(0), store.connect(5));
    let released = store.connect(7);
    store.write("/a/x/y/z", "").unwrap();
    store.set_permissions("/a/x", &permissions("n7")).unwrap();
    store.set_permissions("/a/x/y", &permissions("n0")).unwrap();
    store.write("/a/k", "").unwrap();
    store
        .set_permissions("/a/k", &permissions("n0 r7"))
        .unwrap();
    store.set_permissions("/a", &permissions("n0 r5")).unwrap();
    for watched in ["/a", "/a/x/y/z", "@releaseDomain"] {
        for id in [host, guest] {
            assert_eq!(
                ask(
                    &mut store,
                    id,
                    MessageKind::WATCH,
                    format!("{watched}\0w\0")
                ),
                ok()
            );
        }
    }
    events(&mut store, host);
    events(&mut store, guest);
    assert_eq!(ask(&mut store, host, MessageKind::RELEASE, "7\0"), ok());
    assert_eq!(
        events(&mut store, host),
        ["/a/x/y/z w", "/a/x w", "@releaseDomain w"]
    );
    assert_eq!(events(&mut store, guest), ["/a/x w"]);
    assert!(!store.is_connected(released));
    store.handle(
        released,
        &Message {
            kind: MessageKind::READ,
            request_id: 1,
            transaction_id: 0,
            payload: b"x\0".to_vec(),
        },
    );
    assert_eq!(
        (store.take_output(released), store.node_count(7)),
        (Vec::new(), 0)
    );
    // A new domain with the same number has none of the old one's rights.
    let later = store.connect(7);
    assert_eq!(
        ask(&mut store, later, MessageKind::READ, "/a/k\0"),
        error("EACCES")
    );
    store.release(0);
    assert!(store.is_connected(host));
}

#[test]
fn migration_as_seen_by_the_guest() {
    let (mut store, _, guest) = guest(Toolstack::Xapi);
    for watched in ["data", "/local/domain/5/attr", "domid"] {
        assert_eq!(
            ask(
                &mut store,
                guest,
                MessageKind::WATCH,
                format!("{watched}\0w\0")
            ),
            ok()
        );
    }
    assert_eq!(ask(&mut store, guest, MessageKind::WRITE, "data/x\0"), ok());
    events(&mut store, guest);
    let first_id = ask(&mut store, guest, MessageKind::READ, "unique-domain-id\0").unwrap();
    let transaction = start(&mut store, guest);

    store.introduce_guest(6, Toolstack::Xapi);
    store.migrate(5, 6);
    store.destroy_guest(5);
    assert_eq!(
        events(&mut store, guest),
        ["data w", "/local/domain/5/attr w", "domid w"]
    );
    assert_eq!(
        ask_in(&mut store, guest, transaction, MessageKind::READ, "data\0"),
        error("ENOENT")
    );
    assert_eq!(
        ask(&mut store, guest, MessageKind::READ, "domid\0"),
        Ok(b"6".to_vec())
    );
    assert_eq!(
        ask(&mut store, guest, MessageKind::DIRECTORY, "data\0"),
        Ok(Vec::new())
    );
    assert_ne!(
        ask(&mut store, guest, MessageKind::READ, "unique-domain-id\0").unwrap(),
        first_id
    );
    assert_eq!(store.read(HOME), None);
    assert_eq!(store.walk("/vm").count(), 4);
    assert_eq!(ask(&mut store, guest, MessageKind::WRITE, "data/y\0"), ok());
    assert_eq!(events(&mut store, guest), ["data/y w"]);
    assert_eq!(
        ask(&mut store, guest, MessageKind::UNWATCH, "data\0w\0"),
        ok()
    );

    store.introduce_guest(6, Toolstack::Xapi);
    events(&mut store, guest);
    store.resume(6);
    assert_eq!(
        events(&mut store, guest),
        ["/local/domain/5/attr w", "domid w"]
    );
    assert_eq!(
        ask(&mut store, guest, MessageKind::READ, "data/y\0"),
        error("ENOENT")
    );
}

#[test]
fn guest_writable_nodes_of_each_toolstack() {
    let both = [
        "data/x",
        "attr/a/b/c",
        "drivers/x",
        "feature/x/y",
        "error/x",
    ];
    let libxl = [
        "control/shutdown",
        "control/sysrq",
        "control/feature-suspend",
    ];
    let xapi = [
        "control/feature-balloon",
        "xenserver/attr/x",
        "messages/x",
        "vm-data/x",
        "rrd/x",
    ];
    let xapi = [&libxl[..], &xapi].concat();
    let neither = [
        "x",
        "memory/target",
        "name",
        "domid",
        "xenserver/x",
        "cpu/0/availability",
    ];
    let all = || both.iter().chain(&xapi).chain(&neither);
    for (toolstack, own) in [(Toolstack::Xapi, &xapi[..]), (Toolstack::Libxl, &libxl[..])] {
        let (mut store, _, guest) = guest(toolstack);
        for path in all() {
            let expected = if both.contains(path) || own.contains(path) {
                ok()
            } else {
                error("EACCES")
            };
            assert_eq!(
                ask(&mut store, guest, MessageKind::WRITE, format!("{path}\0x")),
                expected,
                "{toolstack:?} {path}"
            );
        }
        for (path, value) in [
            ("domid", "5"),
            ("name", "guest-5"),
            ("memory/target", "1048576"),
        ] {
            assert_eq!(
                ask(&mut store, guest, MessageKind::READ, format!("{path}\0")),
                Ok(value.as_bytes().to_vec())
            );
        }
        let vm = ask(&mut store, guest, MessageKind::READ, "vm\0").unwrap();
        let uuid = [vm.as_slice(), b"/uuid\0"].concat();
        assert!(vm.ends_with(&ask(&mut store, guest, MessageKind::READ, uuid).unwrap()));
        let has_id = ask(&mut store, guest, MessageKind::READ, "unique-domain-id\0").is_ok();
        assert_eq!(has_id, toolstack == Toolstack::Xapi);
    }
}

#[test]
fn requests_are_counted_and_kept() {
    let (mut store, host, guest) = guest(Toolstack::Libxl);
    ask(&mut store, guest, MessageKind::READ, "data\0").unwrap();
    store.keep_requests(true);
    ask(&mut store, guest, MessageKind::WRITE, "data/x\0y").unwrap();
    ask(&mut store, host, MessageKind::READ, "/none\0").unwrap_err();
    ask(&mut store, host, MessageKind::RESET_WATCHES, "").unwrap();
    let request = |domain: u16, kind, path: &str| LoggedRequest {
        domain: domain.into(),
        kind,
        path: path.into(),
    };
    let kept = [
        request(5, MessageKind::WRITE, "data/x"),
        request(0, MessageKind::READ, "/none"),
        request(0, MessageKind::RESET_WATCHES, ""),
    ];
    assert_eq!(store.take_requests(), kept);
    assert_eq!(store.take_requests(), []);
    assert_eq!(
        (
            store.request_count(5),
            store.request_count(0),
            store.request_count(6)
        ),
        (2, 2, 0)
    );
    assert_eq!(
        (
            store.request_count_of_kind(5, MessageKind::READ),
            store.request_count_of_kind(5, MessageKind::RM)
        ),
        (1, 0)
    );
    store.keep_requests(false);
    ask(&mut store, guest, MessageKind::READ, "data\0").unwrap();
    assert_eq!(
        (store.take_requests(), store.request_count(5)),
        (Vec::new(), 3)
    );
}
