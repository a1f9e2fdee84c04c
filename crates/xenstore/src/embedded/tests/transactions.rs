//! Transactions and quotas.

use super::*;

#[test]
#[allow(clippy::too_many_lines, reason = "it is one sequence of requests")]
fn quotas_match_c_xenstored() {
    let (mut store, host, guest) = guest(Toolstack::Libxl);
    let free = 1000 - store.node_count(5);
    for node in 0..free {
        let path = format!("data/{}/{}\0", node / 100, node % 100);
        let made_parent = usize::from(node % 100 == 0);
        if store.node_count(5) + 1 + made_parent > 1000 {
            break;
        }
        assert_eq!(ask(&mut store, guest, MessageKind::WRITE, path), ok());
    }
    assert_eq!(store.node_count(5), 1000);
    assert_eq!(
        ask(&mut store, guest, MessageKind::MKDIR, "attr/one\0"),
        error("ENOSPC")
    );
    assert_eq!(
        ask(&mut store, guest, MessageKind::WRITE, "data/0/0\0value"),
        ok()
    );
    assert_eq!(
        ask(
            &mut store,
            host,
            MessageKind::WRITE,
            format!("{HOME}/attr/one\0")
        ),
        ok()
    );
    assert_eq!(store.node_count(5), 1001);
    assert_eq!(ask(&mut store, guest, MessageKind::RM, "data/0\0"), ok());
    assert_eq!(store.node_count(5), 900);
    store.quotas.nodes = 0;
    assert_eq!(
        ask(&mut store, guest, MessageKind::WRITE, "attr/one\0"),
        ok()
    );

    for (len, expected) in [(2015, ok()), (2016, error("ENOSPC"))] {
        let payload = format!("attr/long\0{}", "x".repeat(len));
        assert_eq!(
            ask(&mut store, guest, MessageKind::WRITE, &payload),
            expected,
            "{len}"
        );
        assert_eq!(
            ask(
                &mut store,
                host,
                MessageKind::WRITE,
                format!("{HOME}/{payload}")
            ),
            ok()
        );
    }
    // Names of children and permissions count too.
    assert_eq!(
        ask(
            &mut store,
            guest,
            MessageKind::SET_PERMS,
            "attr/long\0n5\0r6\0"
        ),
        error("ENOSPC")
    );
    assert_eq!(
        ask(
            &mut store,
            guest,
            MessageKind::WRITE,
            format!("attr/full\0{}", "x".repeat(2000))
        ),
        ok()
    );
    assert_eq!(
        ask(
            &mut store,
            guest,
            MessageKind::WRITE,
            "attr/full/fifteen-letters\0"
        ),
        error("ENOSPC")
    );
    assert_eq!(
        ask(
            &mut store,
            guest,
            MessageKind::WRITE,
            "attr/full/fourteen-chars\0"
        ),
        ok()
    );

    for transaction in 1..=11 {
        assert_eq!(start(&mut store, guest), transaction);
    }
    let second = store.connect(5);
    for id in [guest, second] {
        assert_eq!(
            ask(&mut store, id, MessageKind::TRANSACTION_START, "\0"),
            error("ENOSPC")
        );
    }
    for watch in 0..129 {
        assert_eq!(
            ask(
                &mut store,
                guest,
                MessageKind::WATCH,
                format!("data\0{watch}\0")
            ),
            ok()
        );
    }
    for id in [guest, second] {
        assert_eq!(
            ask(&mut store, id, MessageKind::WATCH, "data\0one more\0"),
            error("E2BIG")
        );
    }
    assert_eq!(
        ask(&mut store, host, MessageKind::WATCH, "data\0other\0"),
        ok()
    );
    store.disconnect(guest);
    assert_eq!((store.watch_count(5), store.transaction_count(5)), (0, 0));
}

#[test]
fn node_quota_is_checked_at_the_commit() {
    let (mut store, _, guest) = guest(Toolstack::Libxl);
    store.quotas.nodes = store.node_count(5) + 3;
    let transaction = start(&mut store, guest);
    for path in ["data/a/b/c/d/e\0", "data/f\0"] {
        assert_eq!(
            ask_in(&mut store, guest, transaction, MessageKind::WRITE, path),
            ok()
        );
    }
    assert_eq!(
        ask_in(
            &mut store,
            guest,
            transaction,
            MessageKind::TRANSACTION_END,
            "T\0"
        ),
        error("ENOSPC")
    );
    assert_eq!(
        ask(&mut store, guest, MessageKind::DIRECTORY, "data\0"),
        Ok(Vec::new())
    );

    // A node that is too large makes the commit fail.
    let transaction = start(&mut store, guest);
    let large = format!("data/a\0{}", "x".repeat(2016));
    assert_eq!(
        ask_in(&mut store, guest, transaction, MessageKind::WRITE, large),
        error("ENOSPC")
    );
    assert_eq!(
        ask_in(
            &mut store,
            guest,
            transaction,
            MessageKind::TRANSACTION_END,
            "T\0"
        ),
        error("ENOMEM")
    );

    store.quotas.transaction_nodes = 2;
    let transaction = start(&mut store, guest);
    assert_eq!(
        ask_in(&mut store, guest, transaction, MessageKind::READ, "data\0"),
        Ok(Vec::new())
    );
    assert_eq!(
        ask_in(&mut store, guest, transaction, MessageKind::READ, "attr\0"),
        Ok(Vec::new())
    );
    assert_eq!(
        ask_in(&mut store, guest, transaction, MessageKind::READ, "name\0"),
        error("ENOSPC")
    );
    assert_eq!(
        ask_in(
            &mut store,
            guest,
            transaction,
            MessageKind::TRANSACTION_END,
            "T\0"
        ),
        error("ENOMEM")
    );
}

#[test]
fn changes_are_visible_after_the_commit() {
    let (mut store, _, guest) = guest(Toolstack::Libxl);
    assert_eq!(
        ask(&mut store, guest, MessageKind::WATCH, "data\0w\0"),
        ok()
    );
    events(&mut store, guest);
    let transaction = start(&mut store, guest);
    for (kind, payload, expected) in [
        (MessageKind::WRITE, "data/a\x001", ok()),
        (MessageKind::WRITE, "data/b\x002", ok()),
        (MessageKind::WRITE, "data/a\x003", ok()),
        (MessageKind::READ, "data/a\0", Ok(b"3".to_vec())),
        (MessageKind::DIRECTORY, "data\0", Ok(b"a\0b\0".to_vec())),
        (MessageKind::RM, "data/b\0", ok()),
        (MessageKind::DIRECTORY, "data\0", Ok(b"a\0".to_vec())),
        (MessageKind::SET_PERMS, "data/a\0r5\0", ok()),
        (MessageKind::TRANSACTION_START, "\0", error("EBUSY")),
        (MessageKind::TRANSACTION_END, "X\0", error("EINVAL")),
    ] {
        assert_eq!(
            ask_in(&mut store, guest, transaction, kind, payload),
            expected,
            "{kind} {payload:?}"
        );
    }
    assert_eq!(
        ask(&mut store, guest, MessageKind::DIRECTORY, "data\0"),
        Ok(Vec::new())
    );
    assert_eq!(events(&mut store, guest), Vec::<String>::new());
    assert_eq!(
        ask_in(
            &mut store,
            guest,
            transaction,
            MessageKind::TRANSACTION_END,
            "T\0"
        ),
        ok()
    );
    // A node that was created and removed inside the transaction fires no event.
    assert_eq!(events(&mut store, guest), ["data/a w"]);
    assert_eq!(store.read(format!("{HOME}/data/a")), Some(b"3".as_slice()));
    assert_eq!(
        store.permissions(format!("{HOME}/data/a")).unwrap(),
        permissions("r5")
    );

    let transaction = start(&mut store, guest);
    assert_eq!(
        ask_in(
            &mut store,
            guest,
            transaction,
            MessageKind::WRITE,
            "data/a\x004"
        ),
        ok()
    );
    assert_eq!(
        ask_in(
            &mut store,
            guest,
            transaction,
            MessageKind::TRANSACTION_END,
            "F\0"
        ),
        ok()
    );
    assert_eq!(
        ask(&mut store, guest, MessageKind::READ, "data/a\0"),
        Ok(b"3".to_vec())
    );
    for (kind, payload) in [
        (MessageKind::READ, "data\0"),
        (MessageKind::TRANSACTION_END, "T\0"),
        (MessageKind::TRANSACTION_START, "\0"),
    ] {
        assert_eq!(
            ask_in(&mut store, guest, transaction, kind, payload),
            error("ENOENT"),
            "{kind}"
        );
    }
    assert_eq!(
        ask(&mut store, guest, MessageKind::TRANSACTION_END, "T\0"),
        error("ENOENT")
    );
    // A watch request ignores its transaction number.
    assert_eq!(
        ask_in(
            &mut store,
            guest,
            transaction,
            MessageKind::WATCH,
            "attr\0w\0"
        ),
        ok()
    );
}

#[test]
fn conflict_if_an_accessed_node_changed() {
    use MessageKind as K;
    // Each case: requests in the transaction; requests of domain 0 meanwhile; whether they
    // conflict.
    for (inside, outside, conflict) in [
        (vec![(K::READ, "data/a\0")], (K::WRITE, "data/a\0x"), true),
        (vec![(K::READ, "data/a\0")], (K::WRITE, "data/b\0x"), false),
        (vec![(K::WRITE, "data/a\0y")], (K::WRITE, "data/a\0x"), true),
        (
            vec![(K::WRITE, "data/a\0y")],
            (K::WRITE, "data/b\0x"),
            false,
        ),
        (
            vec![(K::READ, "data/a\0"), (K::WRITE, "attr/q\0")],
            (K::RM, "data/a\0"),
            true,
        ),
        (
            vec![(K::READ, "data/none\0")],
            (K::WRITE, "data/none\0"),
            true,
        ),
        (
            vec![(K::DIRECTORY, "data\0")],
            (K::WRITE, "data/new\0"),
            true,
        ),
        (
            vec![(K::DIRECTORY, "data\0")],
            (K::WRITE, "data/a/new\0"),
            false,
        ),
        (
            vec![(K::WRITE, "data/new1\0")],
            (K::WRITE, "data/new2\0"),
            true,
        ),
        (
            vec![(K::READ, "data/a\0")],
            (K::SET_PERMS, "data/a\0n5\0"),
            true,
        ),
        (
            vec![(K::RM, "data/a\0")],
            (K::WRITE, "data/a/below\0"),
            true,
        ),
        (vec![(K::READ, "data/a\0")], (K::READ, "data/a\0"), false),
        (
            vec![(K::GET_PERMS, "data/a\0")],
            (K::WRITE, "data/a\0x"),
            true,
        ),
        (vec![], (K::RM, "data\0"), false),
    ] {
        let (mut store, host, guest) = guest(Toolstack::Libxl);
        for path in ["data/a", "data/b"] {
            assert_eq!(
                ask(&mut store, guest, K::WRITE, format!("{path}\x000")),
                ok()
            );
        }
        let transaction = start(&mut store, guest);
        for (kind, payload) in &inside {
            ask_in(&mut store, guest, transaction, *kind, payload).ok();
        }
        ask(&mut store, host, outside.0, format!("{HOME}/{}", outside.1)).unwrap();
        let before: BTreeMap<String, Vec<u8>> = store
            .walk("/")
            .map(|(path, value)| (path.to_owned(), value.to_vec()))
            .collect();
        let expected = if conflict { error("EAGAIN") } else { ok() };
        let reply = ask_in(&mut store, guest, transaction, K::TRANSACTION_END, "T\0");
        assert_eq!(reply, expected, "{inside:?} {outside:?}");
        if conflict {
            assert!(
                store
                    .walk("/")
                    .map(|(path, value)| (path.to_owned(), value.to_vec()))
                    .eq(before)
            );
        }
        assert_eq!(
            ask_in(&mut store, guest, transaction, K::READ, "data\0"),
            error("ENOENT")
        );
    }
}
