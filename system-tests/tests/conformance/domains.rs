//! Requests about domains and the server itself.

use xenstore::embedded::Model;
use xenstore::{Depth, DomId, DomainEvent, Features, Nodes, Request};

use crate::client::Client;
use crate::testbed::{GUEST, Testbed, event_paths, events, refusal};

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
    match (testbed.model(), testbed.is_guest()) {
        (Model::CXenstored4_22, false) => {
            let names = client.call(Request::quota_names()).unwrap();
            for name in &names {
                client.call(Request::quota(name).unwrap()).unwrap();
            }
            let name = names.first().unwrap();
            let set_quota = Request::set_quota_of(GUEST, name, 42).unwrap();
            client.call(set_quota).unwrap();
            let quota = Request::quota_of(GUEST, name).unwrap();
            assert_eq!(client.call(quota).unwrap(), 42);

            let features = Features::from_bits(14);
            assert_eq!(client.call(Request::features()).unwrap(), features);
            assert_eq!(client.features().unwrap(), features);
            let of_guest = client.call(Request::features_of(GUEST)).unwrap();
            assert_eq!(of_guest, features);
            let set_features = Request::set_features(GUEST, Features::default());
            assert_eq!(refusal(client.call(set_features)), "EBUSY");
        }
        (Model::CXenstored4_22, true) => {
            let features = Features::from_bits(14);
            assert_eq!(client.call(Request::features()).unwrap(), features);
            assert_eq!(client.features().unwrap(), features);
            assert_all_refused(&mut client, "EACCES");
        }
        _ => {
            assert_eq!(refusal(client.call(Request::features())), "ENOSYS");
            assert_eq!(client.features().unwrap(), Features::default());
            assert_all_refused(&mut client, "ENOSYS");
        }
    }
    client.write("data/x", "as before").unwrap();
}

/// Checks the requests that only domain 0 may send.
#[track_caller]
fn assert_all_refused(client: &mut Client, code: &str) {
    let refused = [
        refusal(client.call(Request::features_of(GUEST))),
        refusal(client.call(Request::set_features(GUEST, Features::default()))),
        refusal(client.call(Request::quota_names())),
        refusal(client.call(Request::quota("nodes").unwrap())),
        refusal(client.call(Request::quota_of(GUEST, "nodes").unwrap())),
        refusal(client.call(Request::set_quota("nodes", 42).unwrap())),
    ];
    assert_eq!(refused, [code; 6]);
}

pub(crate) fn control_of_each_server(testbed: &Testbed) {
    let mut client = testbed.client();
    let help = client.call(Request::control("help", &[]).unwrap());
    let unknown = client.call(Request::control("nonsense", &[]).unwrap());
    match (testbed.is_oxenstored(), testbed.is_guest()) {
        // This server ignores the request.
        (true, _) => assert_eq!(
            (help.unwrap(), unknown.unwrap()),
            ("OK".into(), "OK".into())
        ),
        (false, true) => assert_eq!([refusal(help), refusal(unknown)], ["EACCES"; 2]),
        (false, false) => {
            assert!(help.unwrap().contains("check"));
            assert_eq!(refusal(unknown), "EINVAL");
        }
    }
}

pub(crate) fn watch_of_a_depth(testbed: &Testbed) {
    let mut client = testbed.client();
    let watch = Request::watch_to("data/x", "token", Depth::CHILDREN).unwrap();
    let set = client.call(watch);
    if testbed.model() != Model::CXenstored4_22 {
        assert_eq!(refusal(set), "EINVAL");
        return;
    }
    set.unwrap();
    event_paths(&mut client);
    for path in ["data/x", "data/x/y", "data/x/y/z"] {
        client.write(path, "").unwrap();
    }
    assert_eq!(event_paths(&mut client), ["data/x", "data/x/y"]);
}

pub(crate) fn watch_of_a_released_domain(testbed: &Testbed) {
    let mut client = testbed.client();
    client.watch("@releaseDomain/9", "9").unwrap();
    client.watch("@releaseDomain/8", "8").unwrap();
    events(&mut client);
    testbed.pass_by(9);
    let expected: &[(String, String)] = if testbed.model() == Model::CXenstored4_22 {
        &[("@releaseDomain/9".into(), "9".into())]
    } else {
        &[]
    };
    assert_eq!(events(&mut client), expected);
}

pub(crate) fn start_and_end_of_domains(testbed: &Testbed) {
    let mut client = testbed.client();
    let mut domains = client.watch_domains().unwrap();
    if testbed.is_guest() {
        let denied = domains.next_event(&mut client).unwrap_err();
        assert!(denied.is_denied(), "{denied}");
        client
            .write("data/x", "the connection still works")
            .unwrap();
        return;
    }

    let mut next = || {
        let event = domains.next_event(&mut client).unwrap();
        // Only some of the servers have a home of domain 0.
        if event == DomainEvent::Introduced(DomId::DOM0) {
            return domains.next_event(&mut client).unwrap();
        }
        event
    };
    assert_eq!(next(), DomainEvent::Introduced(GUEST.into()));
    // The second domain shows that no event follows the end of the first one.
    for domain in [9, 10] {
        testbed.with_domain(domain, || {
            assert_eq!(next(), DomainEvent::Introduced(domain.into()));
        });
        assert_eq!(next(), DomainEvent::Released(domain.into()));
    }
}

pub(crate) fn reset_watches_ends_all_watches(testbed: &Testbed) {
    let mut client = testbed.client();
    client.watch("data/x", "token").unwrap();
    event_paths(&mut client);
    client.reset_watches().unwrap();
    client.write("data/x", "").unwrap();
    assert_eq!(events(&mut client), []);
}
