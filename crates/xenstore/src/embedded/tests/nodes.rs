//! Paths, payloads, permissions, and operations on nodes.

use super::*;

#[test]
fn new_store_has_the_nodes_of_a_started_host() {
    let mut store = Store::new();
    let nodes: Vec<_> = store
        .walk("/")
        .map(|(path, value)| (path, value.to_vec()))
        .collect();
    let expected = [
        ("/", ""),
        ("/local", ""),
        ("/local/domain", ""),
        ("/local/domain/0", ""),
        ("/local/domain/0/domid", "0"),
        ("/local/domain/0/name", "Domain-0"),
        ("/tool", ""),
        ("/tool/xenstored", ""),
    ];
    assert_eq!(
        nodes,
        expected.map(|(path, value)| (path, value.as_bytes().to_vec()))
    );
    assert_eq!(store.permissions("/").unwrap(), permissions("n0"));
    let host = store.connect(0);
    assert_eq!(
        ask(&mut store, host, MessageKind::READ, "name\0"),
        Ok(b"Domain-0".to_vec())
    );
    assert_eq!(
        ask(&mut store, host, MessageKind::DIRECTORY, "/\0"),
        Ok(b"tool\0local\0".to_vec())
    );
    assert_eq!(
        ask(&mut store, host, MessageKind::GET_PERMS, "@releaseDomain\0"),
        Ok(b"n0\0".to_vec())
    );
}

#[test]
fn valid_and_invalid_paths() {
    let (mut store, host, guest) = guest(Toolstack::Libxl);
    let long = |start: &str, len: usize| format!("{start}{}", "a".repeat(len - start.len()));
    for (path, expected) in [
        ("data", ok()),
        ("data/-_@9zA", error("ENOENT")),
        ("/local/domain/5/data", ok()),
        ("/", error("EACCES")),
        ("", error("EINVAL")),
        ("//", error("EINVAL")),
        ("data/", error("EINVAL")),
        ("data//x", error("EINVAL")),
        ("data x", error("EINVAL")),
        ("data.x", error("EINVAL")),
        ("dät", error("EINVAL")),
        ("@releaseDomain", error("EINVAL")),
        (&long("data/", 2048), error("ENOENT")),
        (&long("data/", 2049), error("EINVAL")),
        (&long("/local/domain/5/", 16 + 2048), error("ENOENT")),
        (&long("/local/domain/5/", 16 + 2049), error("EINVAL")),
        (&long("/", 2048), error("EACCES")),
        (&long("/", 2049), error("EINVAL")),
    ] {
        let reply = ask(&mut store, guest, MessageKind::READ, format!("{path}\0"));
        assert_eq!(reply.map(|_| b"OK\0".to_vec()), expected, "{path}");
    }
    for (path, expected) in [
        (long("/", 3072), error("ENOENT")),
        (long("/", 3073), error("EINVAL")),
    ] {
        assert_eq!(
            ask(&mut store, host, MessageKind::READ, format!("{path}\0")),
            expected
        );
    }
    assert_eq!(
        ask(&mut store, host, MessageKind::READ, b"/\xff\0"),
        error("EINVAL")
    );
}

#[test]
fn malformed_payloads_are_rejected() {
    let (mut store, host, guest) = guest(Toolstack::Libxl);
    for (kind, payload) in [
        (MessageKind::READ, "data"),
        (MessageKind::READ, "data\0x\0"),
        (MessageKind::READ, "data\0x"),
        (MessageKind::READ, ""),
        (MessageKind::WRITE, "data"),
        (MessageKind::MKDIR, "data\0\0"),
        (MessageKind::DIRECTORY_PART, "data\0"),
        (MessageKind::DIRECTORY_PART, "data\x000"),
        (MessageKind::DIRECTORY_PART, "data\x000\x000\0"),
        (MessageKind::SET_PERMS, "data\0"),
        (MessageKind::SET_PERMS, "data\0n5"),
        (MessageKind::SET_PERMS, "data\0x5\0"),
        (MessageKind::SET_PERMS, "data\0n5\0n\0"),
        (MessageKind::WATCH, "data\0"),
        (MessageKind::WATCH, "data\0token"),
        (MessageKind::WATCH, "data\0token\0more\0"),
        (MessageKind::UNWATCH, "data\0"),
        (MessageKind::TRANSACTION_END, "\0"),
        (MessageKind::TRANSACTION_END, "X\0"),
        (MessageKind::TRANSACTION_END, "T"),
        (MessageKind::GET_DOMAIN_PATH, "x\0"),
        (MessageKind::GET_DOMAIN_PATH, "65536\0"),
    ] {
        assert_eq!(
            ask(&mut store, guest, kind, payload),
            error("EINVAL"),
            "{kind} {payload:?}"
        );
    }
    for kind in [
        MessageKind(20),
        MessageKind(27),
        MessageKind(99),
        MessageKind(u32::MAX),
        MessageKind::WATCH_EVENT,
        MessageKind::ERROR,
    ] {
        for id in [host, guest] {
            assert_eq!(
                ask(&mut store, id, kind, "data\0"),
                error("ENOSYS"),
                "{kind}"
            );
        }
    }
}

#[test]
fn access_by_permissions() {
    // Each case: permissions of a node; whether domain 5 may read it, write it, and change its
    // permissions.
    for (entries, read, write, own) in [
        ("n0", false, false, false),
        ("r0", true, false, false),
        ("w0", false, true, false),
        ("b0", true, true, false),
        ("n5", true, true, true),
        ("n0 r5", true, false, false),
        ("n0 w5", false, true, false),
        ("n0 b5", true, true, false),
        ("b0 n5", false, false, false),
        ("n0 b6", false, false, false),
        ("r0 w5 b5", false, true, false),
        ("n0 b0 r6 r5", true, false, false),
    ] {
        let mut store = Store::new();
        let id = store.connect(5);
        store.write("/node", "value").unwrap();
        store
            .set_permissions("/node", &permissions(entries))
            .unwrap();
        let refused = |allowed: bool| {
            if allowed {
                None
            } else {
                Some("EACCES".to_owned())
            }
        };
        let code = |reply: Reply| reply.err();
        assert_eq!(
            code(ask(&mut store, id, MessageKind::READ, "/node\0")),
            refused(read),
            "{entries}"
        );
        assert_eq!(
            code(ask(&mut store, id, MessageKind::DIRECTORY, "/node\0")),
            refused(read),
            "{entries}"
        );
        assert_eq!(
            code(ask(&mut store, id, MessageKind::GET_PERMS, "/node\0")),
            refused(read),
            "{entries}"
        );
        assert_eq!(
            code(ask(&mut store, id, MessageKind::WRITE, "/node\0x")),
            refused(write),
            "{entries}"
        );
        assert_eq!(
            code(ask(&mut store, id, MessageKind::MKDIR, "/node/x\0")),
            refused(write),
            "{entries}"
        );
        assert_eq!(
            code(ask(&mut store, id, MessageKind::SET_PERMS, "/node\0n5\0")),
            refused(own),
            "{entries}"
        );
        assert_eq!(
            code(ask(&mut store, id, MessageKind::RM, "/node\0")),
            refused(write || own),
            "{entries}"
        );
        let host = store.connect(0);
        assert_eq!(
            code(ask(&mut store, host, MessageKind::WRITE, "/node\0x")),
            None
        );
    }
}

#[test]
fn enoent_requires_access_to_the_parent() {
    let (mut store, _, guest) = guest(Toolstack::Libxl);
    let read = format!("{HOME}/control/shutdown/none");
    for (kind, payload, expected) in [
        (MessageKind::READ, "none\0", "ENOENT"),
        (MessageKind::READ, "none/below\0", "ENOENT"),
        (MessageKind::READ, "unique-domain-id\0", "ENOENT"),
        (MessageKind::READ, "/tool/xenstored\0", "EACCES"),
        (MessageKind::READ, "/none\0", "EACCES"),
        (MessageKind::READ, "/local/domain/6/data\0", "EACCES"),
        (MessageKind::WRITE, "none\0x", "EACCES"),
        (MessageKind::WRITE, "control/none\0x", "EACCES"),
        (MessageKind::MKDIR, "none\0", "EACCES"),
        (MessageKind::RM, "none\0", "EACCES"),
        (MessageKind::RM, "memory\0", "EACCES"),
        (MessageKind::RM, "data/none/below\0", "ENOENT"),
        (MessageKind::SET_PERMS, "data/none\0n5\0", "ENOENT"),
        (MessageKind::SET_PERMS, "none\0n5\0", "EACCES"),
        (MessageKind::GET_PERMS, "@none\0", "EACCES"),
        (MessageKind::UNWATCH, "data\0token\0", "ENOENT"),
        (MessageKind::READ, &format!("{read}\0"), "ENOENT"),
    ] {
        assert_eq!(
            ask(&mut store, guest, kind, payload),
            error(expected),
            "{kind} {payload:?}"
        );
    }
}

#[test]
fn missing_parents_are_created() {
    let (mut store, host, guest) = guest(Toolstack::Libxl);
    store
        .set_permissions(format!("{HOME}/data"), &permissions("r5 b6 n7"))
        .unwrap();
    assert_eq!(
        ask(
            &mut store,
            guest,
            MessageKind::WRITE,
            "data/a/b\0value\0with NUL\0"
        ),
        ok()
    );
    assert_eq!(
        store.read(format!("{HOME}/data/a/b")),
        Some(b"value\0with NUL\0".as_slice())
    );
    assert_eq!(store.read(format!("{HOME}/data/a")), Some(b"".as_slice()));
    assert_eq!(
        ask(&mut store, guest, MessageKind::GET_PERMS, "data/a/b\0"),
        Ok(b"r5\0b6\0n7\0".to_vec())
    );

    // The creator owns a new node, and the other permissions are the parent's.
    let other = store.connect(6);
    assert_eq!(
        ask(
            &mut store,
            other,
            MessageKind::MKDIR,
            format!("{HOME}/data/c/d\0")
        ),
        ok()
    );
    for made in ["data/c", "data/c/d"] {
        assert_eq!(
            store.permissions(format!("{HOME}/{made}")).unwrap(),
            permissions("r6 b6 n7")
        );
    }
    // A node that domain 0 creates has the parent's owner.
    assert_eq!(
        ask(
            &mut store,
            host,
            MessageKind::WRITE,
            format!("{HOME}/data/e\0")
        ),
        ok()
    );
    assert_eq!(
        store.permissions(format!("{HOME}/data/e")).unwrap(),
        permissions("r5 b6 n7")
    );

    // MKDIR does not change an existing node.
    assert_eq!(
        ask(&mut store, guest, MessageKind::MKDIR, "data/a/b\0"),
        ok()
    );
    assert_eq!(
        ask(&mut store, guest, MessageKind::READ, "data/a/b\0"),
        Ok(b"value\0with NUL\0".to_vec())
    );
    assert_eq!(
        ask(&mut store, guest, MessageKind::DIRECTORY, "data\0"),
        Ok(b"a\0c\0e\0".to_vec())
    );
    assert_eq!(
        ask(&mut store, guest, MessageKind::DIRECTORY, "data/a/b\0"),
        Ok(Vec::new())
    );
}

#[test]
fn removal_of_nodes() {
    let (mut store, host, guest) = guest(Toolstack::Libxl);
    for path in ["data/a/b/c", "data/a-b", "data/d"] {
        assert_eq!(
            ask(&mut store, guest, MessageKind::WRITE, format!("{path}\0x")),
            ok()
        );
    }
    assert_eq!(ask(&mut store, guest, MessageKind::RM, "data/a\0"), ok());
    assert_eq!(
        ask(&mut store, guest, MessageKind::READ, "data/a/b/c\0"),
        error("ENOENT")
    );
    assert_eq!(
        ask(&mut store, guest, MessageKind::DIRECTORY, "data\0"),
        Ok(b"a-b\0d\0".to_vec())
    );
    assert_eq!(ask(&mut store, guest, MessageKind::RM, "data/a\0"), ok());
    assert_eq!(
        ask(&mut store, guest, MessageKind::RM, "data/a/b\0"),
        error("ENOENT")
    );
    assert_eq!(
        ask(&mut store, host, MessageKind::RM, "/\0"),
        error("EINVAL")
    );
    assert_eq!(
        ask(&mut store, host, MessageKind::RM, "@releaseDomain\0"),
        error("EINVAL")
    );
    // A guest may remove its own node even if it may not create it again.
    assert_eq!(ask(&mut store, guest, MessageKind::RM, "data\0"), ok());
    assert_eq!(
        ask(&mut store, guest, MessageKind::MKDIR, "data\0"),
        error("EACCES")
    );
}

#[test]
fn only_owners_set_permissions() {
    let (mut store, host, guest) = guest(Toolstack::Libxl);
    for (id, payload, expected) in [
        (guest, "data\0r5\0w6\0", ok()),
        (guest, "data\0n6\0", error("EPERM")),
        (guest, "data\0n5\0r1\0r2\0r3\0r4\0", ok()),
        (guest, "data\0n5\0r1\0r2\0r3\0r4\0r6\0", error("ENOSPC")),
        (guest, "memory\0n5\0", error("EACCES")),
        (host, "/local/domain/5/data\0n6\0r1\0r2\0r3\0r4\0r5\0", ok()),
        (guest, "data\0n5\0", error("EACCES")),
        (guest, "@releaseDomain\0n5\0", error("EACCES")),
        (host, "@releaseDomain\0n0\0r5\0", ok()),
        (host, "/none\0n0\0", error("ENOENT")),
    ] {
        assert_eq!(
            ask(&mut store, id, MessageKind::SET_PERMS, payload),
            expected,
            "{payload:?}"
        );
    }
    assert_eq!(
        store.permissions("@releaseDomain").unwrap(),
        permissions("n0 r5")
    );
    assert_eq!(store.node_count(6), 1);
}

#[test]
fn set_target_grants_the_targets_rights() {
    let (mut store, host, guest) = guest(Toolstack::Libxl);
    let model = store.connect(6);
    let write = format!("{HOME}/data/x\0");
    assert_eq!(
        ask(&mut store, model, MessageKind::WRITE, &write),
        error("EACCES")
    );
    assert_eq!(
        ask(&mut store, host, MessageKind::SET_TARGET, "6\x005\0"),
        ok()
    );
    assert_eq!(ask(&mut store, model, MessageKind::WRITE, &write), ok());
    assert_eq!(
        ask(
            &mut store,
            model,
            MessageKind::READ,
            format!("{HOME}/name\0")
        ),
        Ok(b"guest-5".to_vec())
    );
    assert_eq!(
        ask(&mut store, guest, MessageKind::READ, "data/x\0"),
        error("EACCES")
    );
    assert_eq!(
        ask(&mut store, host, MessageKind::SET_TARGET, "6\x009\0"),
        error("ENOENT")
    );
    store.release(5);
    assert_eq!(
        ask(
            &mut store,
            model,
            MessageKind::READ,
            format!("{HOME}/name\0")
        ),
        error("EACCES")
    );
}

#[test]
fn directory_part_returns_long_lists() {
    let (mut store, host, _) = guest(Toolstack::Libxl);
    let names: Vec<_> = (0..1000).map(|index| format!("child-{index}")).collect();
    for name in &names {
        store.write(format!("/list/{name}"), "").unwrap();
    }
    assert!(store.list("/list").unwrap().eq(&names));
    assert_eq!(
        ask(&mut store, host, MessageKind::DIRECTORY, "/list\0"),
        error("E2BIG")
    );
    let whole: Vec<u8> = names
        .iter()
        .flat_map(|name| format!("{name}\0").into_bytes())
        .collect();
    let (mut list, mut generation) = (Vec::new(), None);
    loop {
        let part = ask(
            &mut store,
            host,
            MessageKind::DIRECTORY_PART,
            format!("/list\0{}\0", list.len()),
        )
        .unwrap();
        assert!(part.len() <= 4096);
        let end = part.iter().position(|byte| *byte == 0).unwrap();
        let (number, rest) = part.split_at(end + 1);
        assert_eq!(generation.get_or_insert(number.to_vec()), number);
        assert!(!rest.is_empty());
        if let Some(last) = rest.strip_suffix(b"\0\0") {
            list.extend_from_slice(last);
            list.push(0);
            break;
        }
        assert!(rest.ends_with(b"\0"));
        list.extend_from_slice(rest);
    }
    assert_eq!(list, whole);

    let generation = generation.unwrap();
    let parts = |store: &mut Store, offset: &str| {
        ask(
            store,
            host,
            MessageKind::DIRECTORY_PART,
            format!("/list\0{offset}\0"),
        )
        .unwrap()[generation.len()..]
            .to_vec()
    };
    assert_eq!(parts(&mut store, "99999"), b"\0");
    assert_eq!(parts(&mut store, "-1"), b"\0");
    assert_eq!(parts(&mut store, &(whole.len() - 3).to_string()), b"99\0\0");
    assert!(parts(&mut store, "3x").starts_with(b"ld-0\0"));
    store.write("/list/another", "").unwrap();
    let changed = ask(
        &mut store,
        host,
        MessageKind::DIRECTORY_PART,
        "/list\x000\0",
    )
    .unwrap();
    assert!(!changed.starts_with(&generation));
}

#[test]
fn calls_as_domain_0_without_a_connection() {
    let mut store = Store::new();
    let guest = store.connect(5);
    store.write("/a/b", "x").unwrap();
    store.set_permissions("/a", &permissions("r0")).unwrap();
    assert_eq!(ask(&mut store, guest, MessageKind::WATCH, "/a\0w\0"), ok());
    events(&mut store, guest);
    store.write("/a/b", "y").unwrap();
    store.remove("/a/b").unwrap();
    store.remove("/a/b").unwrap();
    store.write("/a/c", "z").unwrap();
    assert_eq!(events(&mut store, guest), ["/a/b w", "/a/c w"]);
    store.write("relative", "x").unwrap();
    assert_eq!(
        store.read("relative"),
        store.read("/local/domain/0/relative")
    );
    assert_eq!(
        (store.read("/none"), store.permissions("/none")),
        (None, None)
    );
    assert!(store.list("/none").is_none());
    for (result, code) in [
        (store.write("/a b", ""), ErrorCode::EINVAL),
        (store.write("@releaseDomain", ""), ErrorCode::EINVAL),
        (store.remove("/"), ErrorCode::EINVAL),
        (store.remove("/none/below"), ErrorCode::ENOENT),
        (
            store.set_permissions("/none", &permissions("n0")),
            ErrorCode::ENOENT,
        ),
    ] {
        assert_eq!(result.unwrap_err().code(), Some(&code));
    }
    // This way a value can exceed the maximum reply, and reading it fails like in xenstored.
    store.write("/a/long", "x".repeat(4097)).unwrap();
    assert_eq!(
        ask(&mut store, guest, MessageKind::READ, "/a/long\0"),
        error("E2BIG")
    );
}
