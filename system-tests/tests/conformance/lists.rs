//! Lists of children.

use std::collections::BTreeSet;

use xenstore::{Error, Nodes, Request};

use crate::testbed::{Testbed, refusal};

pub(crate) fn list_returns_children(testbed: &Testbed) {
    let mut client = testbed.client();
    for path in ["data/x/b", "data/x/a", "data/x/c/below", "data/xy"] {
        client.write(path, "").unwrap();
    }
    let mut names = client.list("data/x").unwrap();

    // No server guarantees an order.
    names.sort();
    assert_eq!(names, ["a", "b", "c"]);
}

pub(crate) fn list_of_a_leaf_is_empty(testbed: &Testbed) {
    let mut client = testbed.client();
    client.write("data/x", "value").unwrap();
    assert!(client.list("data/x").unwrap().is_empty());
    client.write("data/x/y", "").unwrap();
    client.remove("data/x/y").unwrap();
    assert!(client.list("data/x").unwrap().is_empty());
}

pub(crate) fn list_longer_than_one_message(testbed: &Testbed) {
    // Domain 0 creates these nodes, because C xenstored limits the size of a guest's list.
    let mut dom0 = testbed.client_of(0);
    let name = |n: usize| format!("a-name-of-28-bytes-length-{n:03}");
    let path = |n: usize| format!("{}/data/many/{}", testbed.home(), name(n));
    dom0.pipeline((0..300).map(|n| Request::write(path(n), "").unwrap()))
        .unwrap();
    let mut client = testbed.client();
    let listed = client.list("data/many");
    match (testbed.is_oxenstored(), testbed.is_guest()) {
        (false, _) => {
            let listed = listed.unwrap();
            assert_eq!(listed.len(), 300);
            assert_eq!(BTreeSet::from_iter(listed), (0..300).map(name).collect());
        }
        // oxenstored does not implement DIRECTORY_PART.
        (true, true) => assert_eq!(refusal(listed), "E2BIG"),
        // On its socket, oxenstored sends a reply longer than the protocol allows. libxenstore
        // fails, too.
        (true, false) => assert!(matches!(listed, Err(Error::Protocol { .. })), "{listed:?}"),
    }
}
