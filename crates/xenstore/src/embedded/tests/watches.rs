//! Watches and their events.

use super::*;

#[test]
#[allow(clippy::too_many_lines, reason = "it is one sequence of requests")]
fn watch_fires_for_changes_at_or_below_its_path() {
    let (mut store, host, guest) = guest(Toolstack::Libxl);
    for (path, first) in [
        ("data", "data 1"),
        (HOME, "/local/domain/5 1"),
        ("data/a/b", "data/a/b 1"),
        ("@x/y", "@x/y 1"),
    ] {
        assert_eq!(
            ask(
                &mut store,
                guest,
                MessageKind::WATCH,
                format!("{path}\x001\0")
            ),
            ok()
        );
        assert_eq!(events(&mut store, guest), [first]);
    }
    assert_eq!(
        ask(&mut store, guest, MessageKind::WATCH, "data\x001\0"),
        error("EEXIST")
    );
    assert_eq!(
        ask(
            &mut store,
            guest,
            MessageKind::WATCH,
            format!("{HOME}/data\x001\0")
        ),
        error("EEXIST")
    );
    assert_eq!(
        ask(&mut store, guest, MessageKind::WATCH, "data\x002\0"),
        ok()
    );
    assert_eq!(events(&mut store, guest), ["data 2"]);
    let below_home = |path: &str| format!("{HOME}/{path} 1");

    for (kind, payload, expected) in [
        (
            MessageKind::WRITE,
            "data\0x",
            vec!["data 1".into(), below_home("data"), "data 2".into()],
        ),
        (
            MessageKind::WRITE,
            "data/c/d\0x",
            vec![
                "data/c/d 1".into(),
                below_home("data/c/d"),
                "data/c/d 2".into(),
            ],
        ),
        (MessageKind::MKDIR, "data/c\0", vec![]),
        (MessageKind::MKDIR, "attr/m\0", vec![below_home("attr/m")]),
        (
            MessageKind::SET_PERMS,
            "attr/m\0n5\0",
            vec![below_home("attr/m")],
        ),
        (MessageKind::READ, "data\0", vec![]),
        (MessageKind::RM, "data/none\0", vec![]),
        (MessageKind::RM, "attr/m\0", vec![below_home("attr/m")]),
    ] {
        assert!(
            ask(&mut store, guest, kind, payload).is_ok(),
            "{kind} {payload:?}"
        );
        assert_eq!(events(&mut store, guest), expected, "{kind} {payload:?}");
    }

    assert_eq!(
        ask(
            &mut store,
            guest,
            MessageKind::UNWATCH,
            format!("{HOME}\x001\0")
        ),
        ok()
    );
    assert_eq!(
        ask(
            &mut store,
            guest,
            MessageKind::UNWATCH,
            format!("{HOME}/data\x002\0")
        ),
        ok()
    );
    store.write(format!("{HOME}/data/z"), "").unwrap();
    assert_eq!(events(&mut store, guest), ["data/z 1"]);
    assert_eq!(
        ask(&mut store, guest, MessageKind::RESET_WATCHES, "\0"),
        ok()
    );
    assert_eq!(
        ask(
            &mut store,
            host,
            MessageKind::WRITE,
            format!("{HOME}/data/z\0")
        ),
        ok()
    );
    assert_eq!(events(&mut store, guest), Vec::<String>::new());
    assert_eq!(store.watch_count(5), 0);
}

#[test]
fn events_precede_the_reply_except_the_first() {
    let (mut store, _, guest) = guest(Toolstack::Libxl);
    let mut kinds = |kind, payload: &str| {
        let payload = payload.as_bytes().to_vec();
        store.handle(
            guest,
            &Message {
                kind,
                request_id: 0,
                transaction_id: 0,
                payload,
            },
        );
        store
            .take_output(guest)
            .iter()
            .map(|message| message.kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        kinds(MessageKind::WATCH, "data\0t\0"),
        [MessageKind::WATCH, MessageKind::WATCH_EVENT]
    );
    assert_eq!(
        kinds(MessageKind::WRITE, "data/x\0"),
        [MessageKind::WATCH_EVENT, MessageKind::WRITE]
    );
}

#[test]
fn queued_event_is_not_duplicated() {
    let (mut store, host, _) = guest(Toolstack::Libxl);
    assert_eq!(ask(&mut store, host, MessageKind::WATCH, "/a\0t\0"), ok());
    assert_eq!(
        ask(
            &mut store,
            host,
            MessageKind::WATCH,
            "@introduceDomain\0t\0"
        ),
        ok()
    );
    events(&mut store, host);
    for domain in [10, 11] {
        store.write("/a/b", domain.to_string()).unwrap();
        store.write("/a/c", "").unwrap();
        store.introduce(domain);
    }
    assert_eq!(
        events(&mut store, host),
        [
            "/a/b t",
            "/a/c t",
            "@introduceDomain t",
            "@introduceDomain t"
        ]
    );
    store.write("/a/b", "").unwrap();
    assert_eq!(events(&mut store, host), ["/a/b t"]);
}

#[test]
fn order_of_events_of_a_removal() {
    let (mut store, _, guest) = guest(Toolstack::Libxl);
    for watched in ["data", "data/a/b", "data/a/b/c", "data/a/e"] {
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
    let fill = |store: &mut Store| {
        for path in ["data/a/b/c", "data/a/b/d", "data/a/e"] {
            assert_eq!(
                ask(store, guest, MessageKind::WRITE, format!("{path}\0")),
                ok()
            );
        }
        events(store, guest);
    };
    fill(&mut store);
    assert_eq!(ask(&mut store, guest, MessageKind::RM, "data/a\0"), ok());
    assert_eq!(
        events(&mut store, guest),
        ["data/a/b/c w", "data/a/b w", "data/a/e w", "data/a w"]
    );

    fill(&mut store);
    let transaction = start(&mut store, guest);
    assert_eq!(
        ask_in(&mut store, guest, transaction, MessageKind::RM, "data/a\0"),
        ok()
    );
    assert_eq!(
        ask_in(
            &mut store,
            guest,
            transaction,
            MessageKind::READ,
            "data/a/b\0"
        ),
        error("ENOENT")
    );
    assert_eq!(
        ask(&mut store, guest, MessageKind::READ, "data/a/b\0"),
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
    assert_eq!(
        events(&mut store, guest),
        ["data/a w", "data/a/b w", "data/a/b/c w", "data/a/e w"]
    );
}

#[test]
fn events_require_read_access() {
    let mut store = Store::new();
    let id = store.connect(5);
    for path in ["/a/hidden", "/a/seen/below"] {
        store.write(path, "").unwrap();
    }
    store
        .set_permissions("/a/seen", &permissions("n0 r5"))
        .unwrap();
    store
        .set_permissions("/a/seen/below", &permissions("n0"))
        .unwrap();
    assert_eq!(ask(&mut store, id, MessageKind::WATCH, "/\0t\0"), ok());
    assert_eq!(events(&mut store, id), ["/ t"]);

    store.write("/a/hidden", "x").unwrap();
    store.write("/a/hidden/new", "x").unwrap();
    assert_eq!(events(&mut store, id), Vec::<String>::new());
    // The guest may read the parent, so that it may know that the child exists.
    store.write("/a/seen/below", "x").unwrap();
    store.remove("/a/seen/below").unwrap();
    assert_eq!(events(&mut store, id), ["/a/seen/below t"]);
    // The change that takes away the access still fires an event.
    store
        .set_permissions("/a/seen", &permissions("n0"))
        .unwrap();
    store.write("/a/seen", "x").unwrap();
    assert_eq!(events(&mut store, id), ["/a/seen t"]);
    store
        .set_permissions("/a/seen", &permissions("r0"))
        .unwrap();
    store.remove("/a").unwrap();
    assert_eq!(events(&mut store, id), ["/a/seen t"]);
    // Events about domains require read access to the special nodes.
    assert_eq!(
        ask(&mut store, id, MessageKind::WATCH, "@introduceDomain\0t\0"),
        ok()
    );
    events(&mut store, id);
    store.introduce(10);
    assert_eq!(events(&mut store, id), Vec::<String>::new());
    store
        .set_permissions("@introduceDomain", &permissions("n0 r5"))
        .unwrap();
    events(&mut store, id);
    store.introduce(11);
    assert_eq!(events(&mut store, id), ["@introduceDomain t"]);
}
