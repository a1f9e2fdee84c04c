//! Watches and their events.

use std::time::{Duration, Instant};

use xenstore::{Depth, Nodes, Permissions, Request};

use crate::testbed::{GUEST, Testbed, event_paths, events, refusal};

pub(crate) fn watch_fires_once_when_registered(testbed: &Testbed) {
    let mut client = testbed.client();
    client.write("data/x", "").unwrap();
    client.watch("data/x", "token").unwrap();
    assert_eq!(events(&mut client), [("data/x".into(), "token".into())]);
    assert_eq!(events(&mut client), []);
}

pub(crate) fn watch_fires_at_and_below_its_path(testbed: &Testbed) {
    let mut client = testbed.client();
    client.watch("data/x", "").unwrap();
    event_paths(&mut client);
    client.write("data/x", "1").unwrap();
    client.write("data/x/a", "1").unwrap();
    client.write("data/x/a/b", "1").unwrap();
    client.mkdir("data/x/c").unwrap();
    assert_eq!(
        event_paths(&mut client),
        ["data/x", "data/x/a", "data/x/a/b", "data/x/c"]
    );
}

pub(crate) fn watch_does_not_fire_beside_its_path(testbed: &Testbed) {
    let mut client = testbed.client();
    client.watch("data/x", "").unwrap();
    event_paths(&mut client);
    for path in ["data", "data/xy", "data/y", "data/y/x"] {
        client.write(path, "1").unwrap();
    }
    assert!(event_paths(&mut client).is_empty());
}

pub(crate) fn watch_fires_on_removal(testbed: &Testbed) {
    let mut client = testbed.client();
    for path in ["data/a/b/c", "data/a/b/d"] {
        client.write(path, "").unwrap();
    }
    client.watch("data/a/b", "").unwrap();
    event_paths(&mut client);
    client.remove("data/a/b/c").unwrap();
    assert_eq!(event_paths(&mut client), ["data/a/b/c"]);

    // If a parent is removed, the event has the path of the watch itself.
    client.remove("data/a").unwrap();
    assert_eq!(event_paths(&mut client), ["data/a/b"]);
}

pub(crate) fn watch_on_a_missing_node(testbed: &Testbed) {
    let mut client = testbed.client();
    client.mkdir("data").unwrap();
    client.watch("data/a/b", "").unwrap();
    assert_eq!(event_paths(&mut client), ["data/a/b"]);
    client.write("data/a/b/c", "").unwrap();
    let made = event_paths(&mut client);
    assert_eq!(
        made.last().map(String::as_str),
        Some("data/a/b/c"),
        "{made:?}"
    );
}

pub(crate) fn watch_fires_on_permission_change(testbed: &Testbed) {
    let mut client = testbed.client();
    client.write("data/x", "").unwrap();
    client.watch("data", "").unwrap();
    event_paths(&mut client);
    client
        .set_permissions("data/x", &Permissions::readable_by_all(testbed.domain()))
        .unwrap();
    assert_eq!(event_paths(&mut client), ["data/x"]);
}

pub(crate) fn watch_fires_on_write_of_the_same_value(testbed: &Testbed) {
    let mut client = testbed.client();
    client.write("data/x", "same").unwrap();
    client.watch("data/x", "").unwrap();
    event_paths(&mut client);
    client.write("data/x", "same").unwrap();
    assert_eq!(event_paths(&mut client), ["data/x"]);
}

pub(crate) fn watch_does_not_fire_without_a_change(testbed: &Testbed) {
    let mut client = testbed.client();
    client.write("data/x", "value").unwrap();
    client.watch("data", "").unwrap();
    event_paths(&mut client);
    client.read("data/x").unwrap();
    client.list("data").unwrap();
    client.mkdir("data/x").unwrap();
    client.remove("data/nothing").unwrap();
    assert!(event_paths(&mut client).is_empty());
}

pub(crate) fn watch_fires_on_changes_by_other_clients(testbed: &Testbed) {
    let mut client = testbed.client();
    client.watch("data/x", "").unwrap();
    event_paths(&mut client);
    testbed.client().write("data/x", "same domain").unwrap();
    assert_eq!(event_paths(&mut client), ["data/x"]);
    testbed
        .client_of(0)
        .write(format!("{}/data/x/y", testbed.home()), "domain 0")
        .unwrap();
    assert_eq!(event_paths(&mut client), ["data/x/y"]);

    // A waiting client is woken.
    let mut other = testbed.client();
    let writer = std::thread::spawn(move || other.write("data/x", "later"));
    let event = client
        .next_watch_event(Some(Duration::from_secs(10)))
        .unwrap()
        .unwrap();
    assert_eq!(event.path.as_str(), "data/x");
    writer.join().unwrap().unwrap();
}

pub(crate) fn event_path_is_relative_or_absolute_like_the_watch(testbed: &Testbed) {
    let mut client = testbed.client();
    let absolute = format!("{}/data", testbed.home());
    client.watch("data", "relative").unwrap();
    client.watch(&absolute, "absolute").unwrap();
    events(&mut client);
    client.write("data/x", "").unwrap();
    let mut of_relative = events(&mut client);
    client.write(format!("{absolute}/x"), "").unwrap();
    let mut of_absolute = events(&mut client);
    let expected = [
        (format!("{absolute}/x"), "absolute".to_owned()),
        ("data/x".to_owned(), "relative".to_owned()),
    ];
    of_relative.sort();
    of_absolute.sort();
    assert_eq!(
        (of_relative.as_slice(), of_absolute.as_slice()),
        (expected.as_slice(), expected.as_slice())
    );
}

pub(crate) fn two_watches_on_one_node_both_fire(testbed: &Testbed) {
    let mut client = testbed.client();
    for (path, token) in [("data/x", "1"), ("data/x", "2"), ("data", "3")] {
        client.watch(path, token).unwrap();
    }
    events(&mut client);
    client.write("data/x", "").unwrap();
    let mut fired = events(&mut client);
    fired.sort();

    // The event has the path of the changed node, not of the watch.
    assert_eq!(
        fired,
        ["1", "2", "3"].map(|token| ("data/x".to_owned(), token.to_owned()))
    );
}

pub(crate) fn watch_to_omits_changes_below_its_depth(testbed: &Testbed) {
    let mut client = testbed.client();
    client.write("data/a/b/c", "").unwrap();
    client.watch_to("data/a", "", Depth::CHILDREN).unwrap();
    assert_eq!(event_paths(&mut client), ["data/a"]);
    for path in ["data/a/b/c", "data/a/b", "data/a", "data"] {
        client.write(path, "1").unwrap();
    }
    assert_eq!(event_paths(&mut client), ["data/a/b", "data/a"]);
    client.remove("data/a/b/c").unwrap();
    assert!(event_paths(&mut client).is_empty());

    // If a parent is removed, the event has the path of the watch itself.
    client.remove("data").unwrap();
    assert_eq!(event_paths(&mut client), ["data/a"]);
}

pub(crate) fn duplicate_events(testbed: &Testbed) {
    let mut client = testbed.client();
    client.watch("data/x", "same").unwrap();
    client.watch("data", "same").unwrap();
    events(&mut client);
    client.write("data/x", "").unwrap();

    // C xenstored queues no duplicate of a pending event.
    assert_eq!(
        event_paths(&mut client),
        vec!["data/x"; testbed.either(1, 2)]
    );
}

pub(crate) fn duplicate_watch_is_eexist(testbed: &Testbed) {
    let mut client = testbed.client();
    client.watch("data/x", "token").unwrap();
    assert_eq!(refusal(client.watch("data/x", "token")), "EEXIST");

    // Another client may set the same watch.
    testbed.client().watch("data/x", "token").unwrap();
    events(&mut client);
    client.write("data/x", "").unwrap();
    assert_eq!(events(&mut client).len(), 1);
}

pub(crate) fn unwatch_stops_events(testbed: &Testbed) {
    let mut client = testbed.client();
    client.watch("data/x", "one").unwrap();
    client.watch("data/x", "other").unwrap();
    client.unwatch("data/x", "one").unwrap();
    events(&mut client);
    client.write("data/x", "").unwrap();
    assert_eq!(events(&mut client), [("data/x".into(), "other".into())]);

    // The watch may be set again, and fires immediately.
    client.watch("data/x", "one").unwrap();
    assert_eq!(events(&mut client), [("data/x".into(), "one".into())]);
}

pub(crate) fn unwatch_without_watch_is_enoent(testbed: &Testbed) {
    let mut client = testbed.client();
    client.watch("data/x", "token").unwrap();
    assert_eq!(refusal(client.unwatch("data/x", "another")), "ENOENT");
    assert_eq!(refusal(client.unwatch("data/y", "token")), "ENOENT");
    client.unwatch("data/x", "token").unwrap();
    assert_eq!(refusal(client.unwatch("data/x", "token")), "ENOENT");
}

pub(crate) fn tokens_are_returned_unchanged(testbed: &Testbed) {
    let mut client = testbed.client();
    let long = "t".repeat(500);
    let tokens = [
        "",
        " ",
        "a b",
        "a/b",
        "1:2",
        ":",
        "\u{e4}\u{2192}",
        "\t\n\u{7f}",
        "%s%n",
        "/local/domain/0",
        &long,
    ];
    for token in tokens {
        client.watch("data/x", token).unwrap();
        assert_eq!(events(&mut client), [("data/x".into(), token.into())]);
        client.write("data/x", "").unwrap();
        assert_eq!(events(&mut client), [("data/x".into(), token.into())]);
        client.unwatch("data/x", token).unwrap();
    }
}

pub(crate) fn events_keep_their_order_behind_replies(testbed: &Testbed) {
    let mut client = testbed.client();
    client.watch("data", "").unwrap();
    event_paths(&mut client);
    let path = |n: usize| format!("data/{n}");

    // The events arrive while the client waits for replies.
    let requests = (0..50).flat_map(|n| {
        [
            Request::write(path(n), "").unwrap().untyped(),
            Request::read(path(n)).unwrap(),
        ]
    });
    for reply in client.pipeline(requests).unwrap() {
        reply.unwrap();
    }
    assert_eq!(
        event_paths(&mut client),
        (0..50).map(path).collect::<Vec<_>>()
    );
}

pub(crate) fn next_watch_event_times_out(testbed: &Testbed) {
    let mut client = testbed.client();
    let start = Instant::now();
    let timeout = Duration::from_millis(30);
    assert_eq!(client.next_watch_event(Some(timeout)).unwrap(), None);
    assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
    client
        .write("data/x", "the connection still works")
        .unwrap();
}

pub(crate) fn guest_gets_no_event_for_an_unreadable_node(testbed: &Testbed) {
    let mut dom0 = testbed.client_of(0);
    let hidden = format!("/local/domain/{GUEST}/data/hidden");
    let below = format!("{hidden}/below");
    dom0.write(&hidden, "").unwrap();
    dom0.set_permissions(&hidden, &Permissions::owner_only(0))
        .unwrap();
    dom0.write(&below, "").unwrap();
    let mut client = testbed.client();
    client
        .watch(format!("/local/domain/{GUEST}/data"), "")
        .unwrap();
    event_paths(&mut client);
    dom0.write(&below, "changed").unwrap();
    dom0.write(&hidden, "changed").unwrap();

    // The guest may list `data`, so it may know about `data/hidden` but not about its children.
    let expected = if testbed.is_guest() {
        vec![hidden]
    } else {
        vec![below, hidden]
    };
    assert_eq!(event_paths(&mut client), expected);
}

pub(crate) fn introduce_and_release_watches(testbed: &Testbed) {
    let mut client = testbed.client();
    client.watch("@introduceDomain", "in").unwrap();
    client.watch("@releaseDomain", "out").unwrap();
    events(&mut client);
    testbed.pass_by(9);
    let tokens: Vec<_> = events(&mut client)
        .into_iter()
        .map(|(_, token)| token)
        .collect();
    // A guest may set these watches, but gets only the events that the server grants it.
    let expected: &[&str] = if testbed.is_guest() {
        testbed.by_model(&[], &["out"], &[])
    } else {
        &["in", "out"]
    };
    assert_eq!(tokens, expected);
}

pub(crate) fn watch_quota(testbed: &Testbed) {
    let mut client = testbed.client();
    let mut set = 0;
    let refused = loop {
        match client.watch("data/x", &set.to_string()) {
            Ok(()) => set += 1,
            Err(error) => break error.code().map(|code| code.name().to_owned()),
        }
        if set == 300 {
            break None;
        }
    };

    // The quotas are 128, 128 and 100. The servers allow one more, or one less.
    let expected = if testbed.is_guest() {
        testbed.by_model(
            (129, Some("E2BIG")),
            (127, Some("ENOSPC")),
            (101, Some("EQUOTA")),
        )
    } else {
        (300, None)
    };
    assert_eq!((set, refused.as_deref()), expected);
    client.unwatch("data/x", "0").unwrap();
    client.watch("data/x", "another").unwrap();
}
