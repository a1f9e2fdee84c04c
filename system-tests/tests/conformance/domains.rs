//! Requests about domains and the server itself.

use crate::testbed::{GUEST, Testbed, event_paths, events, refusal};

pub(crate) fn domain_requests_are_only_for_domain_0(testbed: &Testbed) {
    let mut client = testbed.client();
    if testbed.is_guest() {
        assert_eq!(refusal(client.is_introduced(GUEST)), "EACCES");
        assert_eq!(refusal(client.release(7)), "EACCES");
        assert_eq!(refusal(client.set_target(GUEST, 7)), "EACCES");
        assert_eq!(refusal(client.resume(7)), "EACCES");
        assert_eq!(refusal(client.introduce(7, 1, 1)), "EACCES");
    } else {
        assert!(client.is_introduced(GUEST).unwrap());
        assert!(!client.is_introduced(77).unwrap());
    }
}

pub(crate) fn features_and_quotas(testbed: &Testbed) {
    let mut client = testbed.client();
    match client.quota_names() {
        Ok(names) => {
            for name in &names {
                client.quota(None, name).unwrap();
            }
            let name = names.first().unwrap();
            client.set_quota(Some(GUEST), name, 42).unwrap();
            assert_eq!(client.quota(Some(GUEST), name).unwrap(), 42);
            client.features(None).unwrap();
            client.features(Some(GUEST)).unwrap();
            assert_eq!(refusal(client.set_features(GUEST, 0)), "EBUSY");
            assert!(!client.control("help", &[]).unwrap().is_empty());
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
