//! Start and end of domains, with servers that name the domain of an event and that do not. The
//! conformance suite tests that with the async client and with real servers, too.

use std::sync::{Arc, Mutex};

use xenstore::embedded::{Fault, Model, Server, Store, StoreChannel, Toolstack};
use xenstore::wire::MessageKind;
use xenstore::{Client, DomId, DomainEvent, Domains, ErrorCode, Nodes, Result, SharedClient};

use crate::{GUEST, MODELS, store};

use DomainEvent::{Introduced, Released, Shutdown};

const NEW: DomId = DomId::new(9);

fn dom0(store: &Arc<Mutex<Store>>) -> Client<StoreChannel> {
    Client::with_channel(StoreChannel::new(store.clone(), 0))
}

/// Returns the changes that all received events report.
fn changes(client: &mut Client<StoreChannel>, domains: &mut Domains) -> Result<Vec<DomainEvent>> {
    let mut changes = Vec::new();
    while let Some(event) = client.next_watch_event(None)? {
        changes.extend(domains.on_event(client, &event)?);
    }
    Ok(changes)
}

#[test]
fn start_and_end_of_domains_are_reported() {
    for model in MODELS {
        let store = store(model);
        let mut client = dom0(&store);
        let mut domains = client.watch_domains().unwrap();
        client.watch("/local/domain/0").unwrap();
        let mut changes = || changes(&mut client, &mut domains).unwrap();
        assert_eq!(changes(), [Introduced(DomId::DOM0), Introduced(GUEST)]);

        store.lock().unwrap().introduce_guest(NEW, Toolstack::Libxl);
        assert_eq!(changes(), [Introduced(NEW)], "{model:?}");
        // Its home stays.
        store.lock().unwrap().release(NEW);
        assert_eq!(changes(), [Released(NEW)], "{model:?}");
        store.lock().unwrap().destroy_guest(GUEST);
        assert_eq!(changes(), [Released(GUEST)], "{model:?}");
        store
            .lock()
            .unwrap()
            .write("/local/domain/0/x", "")
            .unwrap();
        assert_eq!(changes(), [], "{model:?}");
        assert!(domains.iter().eq([DomId::DOM0]));

        for watch in domains.watches() {
            client.unwatch(*watch).unwrap();
        }
        assert_eq!(store.lock().unwrap().watch_count(0), 1);
    }
}

#[test]
fn several_changes_are_reported_in_order() {
    for model in MODELS {
        let store = store(model);
        let mut client = dom0(&store);
        let mut domains = client.watch_domains().unwrap();
        changes(&mut client, &mut domains).unwrap();
        let mut locked = store.lock().unwrap();
        locked.release(GUEST);
        for domain in [8, 7] {
            locked.introduce_guest(domain, Toolstack::Xapi);
        }
        // It ends before the client can ask.
        locked.introduce_guest(NEW, Toolstack::Xapi);
        locked.release(NEW);
        drop(locked);

        let mut reported = changes(&mut client, &mut domains).unwrap();
        assert_eq!(reported.remove(0), Released(GUEST), "{model:?}");
        reported.sort_by_key(|event| match event {
            Introduced(domain) => *domain,
            _ => DomId::DOM0,
        });
        assert_eq!(
            reported,
            [7, 8].map(|id| Introduced(id.into())),
            "{model:?}"
        );
    }
}

#[test]
fn domain_without_a_home_is_found_if_the_server_names_it() {
    for model in MODELS {
        let store = store(model);
        let mut client = dom0(&store);
        let mut domains = client.watch_domains().unwrap();
        changes(&mut client, &mut domains).unwrap();
        store.lock().unwrap().introduce(NEW);
        let mut reported = changes(&mut client, &mut domains).unwrap();
        assert_eq!(reported.is_empty(), model != Model::CXenstored4_22);

        client.write("/local/domain/9/name", "late").unwrap();
        reported.extend(domains.update(&mut client).unwrap());
        assert_eq!(reported, [Introduced(NEW)], "{model:?}");

        // The domain is known, even without its home.
        client.remove("/local/domain/9").unwrap();
        assert_eq!(domains.update(&mut client).unwrap(), []);
        store.lock().unwrap().release(NEW);
        let reported = changes(&mut client, &mut domains).unwrap();
        assert_eq!(reported, [Released(NEW)], "{model:?}");
    }
}

#[test]
fn domain_with_the_id_of_an_ended_one_is_reported() {
    let store = store(Model::CXenstored4_22);
    let mut client = dom0(&store);
    let mut domains = client.watch_domains().unwrap();
    // The domain of this event is listed before.
    store.lock().unwrap().introduce(NEW);
    let reported = changes(&mut client, &mut domains).unwrap();
    assert_eq!(reported, [DomId::DOM0, GUEST, NEW].map(Introduced));

    for domain in [NEW, GUEST] {
        store.lock().unwrap().release(domain);
        store.lock().unwrap().introduce(domain);
        let reported = changes(&mut client, &mut domains).unwrap();
        let expected = [Shutdown(domain), Released(domain), Introduced(domain)];
        assert_eq!(reported, expected);
    }
    store.lock().unwrap().release(NEW);
    assert_eq!(changes(&mut client, &mut domains).unwrap(), [Released(NEW)]);
}

#[test]
fn domains_are_listed_once_for_many_equal_events() {
    let store = store(Model::CXenstored4_17);
    let mut client = dom0(&store);
    let mut domains = client.watch_domains().unwrap();
    changes(&mut client, &mut domains).unwrap();
    let mut other = dom0(&store);
    other.watch("@introduceDomain").unwrap();
    let kind = MessageKind::DIRECTORY;
    let lists = || store.lock().unwrap().request_count_of_kind(0, kind);
    let before = lists();
    for domain in 10..30 {
        let mut store = store.lock().unwrap();
        store.introduce_guest(domain, Toolstack::Xapi);
        store.release(GUEST);
    }
    let reported = changes(&mut client, &mut domains).unwrap();
    assert_eq!(reported.len(), 21, "{reported:?}");
    assert_eq!(lists() - before, 2);

    // Without a depth, there is an event for each domain besides the first one.
    let mut events = 0;
    while other.next_watch_event(None).unwrap().is_some() {
        events += 1;
    }
    assert_eq!(events, 21);
}

#[test]
fn event_after_a_failure_makes_up_for_it() {
    for model in MODELS {
        let store = store(model);
        let mut client = dom0(&store);
        let mut domains = client.watch_domains().unwrap();
        changes(&mut client, &mut domains).unwrap();
        let fault = Fault::refuse(ErrorCode::EIO).of_kind(MessageKind::IS_DOMAIN_INTRODUCED);
        store.lock().unwrap().inject(fault.times(1));
        store.lock().unwrap().release(GUEST);
        let error = changes(&mut client, &mut domains).unwrap_err();
        assert_eq!(error.code(), Some(&ErrorCode::EIO), "{model:?}");

        store.lock().unwrap().introduce_guest(NEW, Toolstack::Xapi);
        let reported = changes(&mut client, &mut domains).unwrap();
        assert_eq!(reported, [Released(GUEST), Introduced(NEW)], "{model:?}");
    }
}

#[test]
fn named_domains_without_a_home_are_found_after_a_failure() {
    let store = store(Model::CXenstored4_22);
    let mut client = dom0(&store);
    let mut domains = client.watch_domains().unwrap();
    changes(&mut client, &mut domains).unwrap();
    let fault = Fault::refuse(ErrorCode::EIO).of_kind(MessageKind::IS_DOMAIN_INTRODUCED);
    store.lock().unwrap().inject(fault.times(1));
    for domain in [6, 7] {
        store.lock().unwrap().introduce(domain);
    }
    changes(&mut client, &mut domains).unwrap_err();
    let reported = changes(&mut client, &mut domains).unwrap();
    assert_eq!(reported, [6, 7].map(|id| Introduced(id.into())));
}

#[test]
fn guest_cannot_follow_domains() {
    for model in MODELS {
        let store = store(model);
        let mut client = Client::with_channel(StoreChannel::new(store.clone(), GUEST));
        let mut domains = client.watch_domains().unwrap();
        let error = changes(&mut client, &mut domains).unwrap_err();
        assert!(error.is_denied(), "{error}");
    }
}

#[test]
fn shared_client_follows_domains() {
    let mut store = Store::new();
    store.introduce_guest(GUEST, Toolstack::Xapi);
    let server = Server::new(store).spawn().unwrap();
    let client = Client::new(server.connect(0).unwrap().into());
    let client = SharedClient::new(client).unwrap();
    let mut domains = client.watch_domains().unwrap();
    let event = client.next_watch_event(None).unwrap().unwrap();
    let reported = domains.on_event(&mut &client, &event).unwrap();
    assert_eq!(reported, [Introduced(DomId::DOM0), Introduced(GUEST)]);
}
