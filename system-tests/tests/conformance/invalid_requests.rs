//! Requests that the client itself rejects, because a server would disconnect or misinterpret them.

use xenstore::wire::PAYLOAD_MAX;
use xenstore::{Error, Nodes, Request};

use crate::client::Client;
use crate::testbed::{Testbed, events, refusal};

#[track_caller]
fn is_as_before(client: &mut Client) {
    client.write("data/after", "fine").unwrap();
    assert_eq!(client.read("data/after").unwrap(), b"fine");
}

pub(crate) fn invalid_paths_are_not_sent(testbed: &Testbed) {
    let mut client = testbed.client();
    let long = "x".repeat(2049);
    for path in [
        "",
        "data//x",
        "data/x/",
        "data/x y",
        "data/x.y",
        "data/\u{e4}",
        "data/x\0y",
        &long,
    ] {
        let results = [
            client.read(path).map(drop),
            client.write(path, "value"),
            client.mkdir(path),
            client.remove(path),
            client.list(path).map(drop),
            client.permissions(path).map(drop),
            client.watch(path, "token"),
            client.unwatch(path, "token"),
        ];
        for result in results {
            assert!(
                matches!(result, Err(Error::InvalidPath(_))),
                "{path:?}: {result:?}"
            );
        }
    }
    assert_eq!(events(&mut client), []);
    is_as_before(&mut client);
}

pub(crate) fn oversized_payload_is_not_sent(testbed: &Testbed) {
    let mut client = testbed.client();

    // The path and its NUL count as payload.
    let fits = PAYLOAD_MAX - "data/x\0".len();
    let too_long = client.write("data/x", vec![b'v'; fits + 1]);
    assert!(
        matches!(too_long, Err(Error::InvalidRequest { .. })),
        "{too_long:?}"
    );
    assert_eq!(events(&mut client), []);

    // Most servers refuse even the longest payload that the protocol allows.
    let longest = client.write("data/x", vec![b'v'; fits]);
    if testbed.is_guest() || testbed.is_oxenstored() {
        assert_eq!(refusal(longest), testbed.either("ENOSPC", "E2BIG"));
    } else {
        longest.unwrap();
    }
    is_as_before(&mut client);
}

pub(crate) fn pipeline_with_an_oversized_payload_is_not_sent(testbed: &Testbed) {
    let mut client = testbed.client();
    client.write("data/x", "before").unwrap();
    let requests = [
        Request::write("data/x", "after").unwrap(),
        Request::write("data/y", vec![b'v'; PAYLOAD_MAX]).unwrap(),
    ];
    let result = client.pipeline(requests);
    assert!(
        matches!(result, Err(Error::InvalidRequest { .. })),
        "{result:?}"
    );
    assert_eq!(client.read("data/x").unwrap(), b"before");
    is_as_before(&mut client);
}

pub(crate) fn tokens_with_nul_are_not_sent(testbed: &Testbed) {
    let mut client = testbed.client();
    let result = client.watch("data/x", "to\0ken");
    assert!(
        matches!(result, Err(Error::InvalidRequest { .. })),
        "{result:?}"
    );
    assert_eq!(events(&mut client), []);
    is_as_before(&mut client);
}

pub(crate) fn oversized_token_is_not_sent(testbed: &Testbed) {
    let mut client = testbed.client();
    let too_long = client.watch("data/x", &"t".repeat(PAYLOAD_MAX));
    assert!(
        matches!(too_long, Err(Error::InvalidRequest { .. })),
        "{too_long:?}"
    );
    assert_eq!(events(&mut client), []);
    is_as_before(&mut client);
}
