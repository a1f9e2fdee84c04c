//! Requests about domains and the server itself.

use crate::testbed::{GUEST, Testbed, event_paths, events, refusal};
use xenstore::{Nodes, Request};

pub(crate) fn domain_requests_are_only_for_domain_0(testbed: &Testbed) {
    let mut client = testbed.client();
    if testbed.is_guest() {
        assert_eq!(
            refusal(client.call(Request::is_introduced(GUEST))),
            "EACCES"
        );
        assert_eq!(refusal(client.call(Request::release(7))), "EACCES");
        assert_eq!(
            refusal(client.call(Request::set_target(GUEST, 7))),
            "EACCES"
        );
        assert_eq!(refusal(client.call(Request::resume(7))), "EACCES");
        assert_eq!(refusal(client.call(Request::introduce(7, 1, 1))), "EACCES");
    } else {
        assert!(client.call(Request::is_introduced(GUEST)).unwrap());
        assert!(!client.call(Request::is_introduced(77)).unwrap());
    }
}

pub(crate) fn features_and_quotas(testbed: &Testbed) {
    let mut client = testbed.client();
    match client.call(Request::quota_names()) {
        Ok(names) => {
            for name in &names {
                client.call(Request::quota(None, name).unwrap()).unwrap();
            }
            let name = names.first().unwrap();
            client
                .call(Request::set_quota(Some(GUEST.into()), name, 42).unwrap())
                .unwrap();
            assert_eq!(
                client
                    .call(Request::quota(Some(GUEST.into()), name).unwrap())
                    .unwrap(),
                42
            );
            client.call(Request::features(None)).unwrap();
            client.call(Request::features(Some(GUEST.into()))).unwrap();
            assert_eq!(
                refusal(client.call(Request::set_features(GUEST, 0))),
                "EBUSY"
            );
            assert!(
                !client
                    .call(Request::control("help", &[]).unwrap())
                    .unwrap()
                    .is_empty()
            );
        }
        // Guests lack the permission, and the servers of 4.17 lack the requests. The connection
        // must survive.
        Err(error) => assert!(error.code().is_some(), "{error}"),
    }
    client.write("data/x", "as before").unwrap();
}

pub(crate) fn reset_watches_ends_all_watches(testbed: &Testbed) {
    let mut client = testbed.client();
    client.watch("data/x", "token").unwrap();
    event_paths(&mut client);
    client.reset_watches().unwrap();
    client.write("data/x", "").unwrap();
    assert_eq!(events(&mut client), []);
}
