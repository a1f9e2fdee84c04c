//! Property tests with arbitrary sequences of requests.

use proptest::prelude::*;

use super::*;

/// Request of a guest below `data`, where the guest has full access.
#[derive(Clone, Debug)]
enum Step {
    Write(String, Vec<u8>),
    Mkdir(String),
    Remove(String),
}

fn step() -> impl Strategy<Value = Step> {
    let path = prop::collection::vec("[ab]-?", 1..4).prop_map(|parts| parts.join("/"));
    prop_oneof![
        (path.clone(), prop::collection::vec(any::<u8>(), 0..4))
            .prop_map(|(path, value)| Step::Write(path, value)),
        path.clone().prop_map(Step::Mkdir),
        path.prop_map(Step::Remove),
    ]
}

/// Paths below `data` and their values, including all parents.
type Model = BTreeMap<String, Vec<u8>>;

/// Performs a step in the model, and returns whether it succeeds.
fn step_in_model(model: &mut Model, step: &Step) -> bool {
    let parents = |path: &str| {
        path.match_indices('/')
            .map(|(end, _)| path[..end].to_owned())
            .collect::<Vec<_>>()
    };
    match step {
        Step::Write(path, _) | Step::Mkdir(path) => {
            for path in parents(path).into_iter().chain([path.clone()]) {
                model.entry(path).or_default();
            }
            if let Step::Write(path, value) = step {
                model.insert(path.clone(), value.clone());
            }
            true
        }
        Step::Remove(path) => {
            let has_parent = parents(path)
                .last()
                .is_none_or(|parent| model.contains_key(parent));
            let below = format!("{path}/");
            model.retain(|other, _| other != path && !other.starts_with(&below));
            has_parent
        }
    }
}

fn step_in_store(store: &mut Store, id: ConnectionId, transaction: u32, step: &Step) -> bool {
    let (kind, payload) = match step {
        Step::Write(path, value) => (
            MessageKind::WRITE,
            [format!("data/{path}\0").as_bytes(), value].concat(),
        ),
        Step::Mkdir(path) => (MessageKind::MKDIR, format!("data/{path}\0").into_bytes()),
        Step::Remove(path) => (MessageKind::RM, format!("data/{path}\0").into_bytes()),
    };
    ask_in(store, id, transaction, kind, payload).is_ok()
}

fn data_of(store: &Store) -> Model {
    let top = format!("{HOME}/data");
    store
        .walk(&top)
        .filter_map(|(path, value)| {
            Some((
                path.strip_prefix(&top)?.strip_prefix('/')?.to_owned(),
                value.to_vec(),
            ))
        })
        .collect()
}

/// Checks that the children of each node exist, and that the owned nodes are counted correctly.
fn assert_is_sound(store: &Store) {
    let mut owned: BTreeMap<DomId, usize> = BTreeMap::new();
    let mut named = 1;
    let specials = ["@introduceDomain", "@releaseDomain"];
    for path in store.walk("/").map(|(path, _)| path).chain(specials) {
        *owned
            .entry(store.permissions(path).unwrap().owner)
            .or_default() += 1;
        for name in store.list(path).unwrap() {
            assert!(
                store.read(tree::child(path, name)).is_some(),
                "{path} {name}"
            );
            named += 1;
        }
    }
    assert_eq!(store.walk("/").count(), named);
    for (domain, count) in owned {
        assert_eq!(store.node_count(domain), count, "{domain}");
    }
}

proptest! {
    #[test]
    fn requests_have_the_effect_of_the_model(steps in prop::collection::vec((step(), 0..8u32), 0..60)) {
        let (mut store, _, guest) = guest(Toolstack::Libxl);
        let mut model = Model::new();
        // Number of the open transaction, and the model after its commit.
        let mut open: Option<(u32, Model)> = None;
        for (step, choice) in &steps {
            match (open.take(), choice) {
                (None, 0) => open = Some((start(&mut store, guest), model.clone())),
                (None, _) => {
                    let expected = step_in_model(&mut model, step);
                    prop_assert_eq!(step_in_store(&mut store, guest, 0, step), expected, "{:?}", step);
                }
                (Some((transaction, inside)), 1) => {
                    let ended = ask_in(&mut store, guest, transaction, MessageKind::TRANSACTION_END, "T\0");
                    prop_assert_eq!(ended, ok());
                    model = inside;
                }
                (Some((transaction, _)), 2) => {
                    let ended = ask_in(&mut store, guest, transaction, MessageKind::TRANSACTION_END, "F\0");
                    prop_assert_eq!(ended, ok());
                }
                (Some((transaction, mut inside)), _) => {
                    let expected = step_in_model(&mut inside, step);
                    prop_assert_eq!(step_in_store(&mut store, guest, transaction, step), expected, "{:?}", step);
                    open = Some((transaction, inside));
                }
            }
            prop_assert_eq!(&data_of(&store), &model);
        }
        assert_is_sound(&store);
    }

    #[test]
    fn arbitrary_requests_keep_the_store_consistent(
        requests in prop::collection::vec((0..3usize, 0..28u32, 0..4u32, payload()), 0..80),
    ) {
        let (mut store, host, guest) = guest(Toolstack::Xapi);
        let mut ids = [host, guest, store.connect(6)];
        for (id, kind, transaction, payload) in requests {
            let message = Message { kind: MessageKind(kind), request_id: 3, transaction_id: transaction, payload };
            store.handle(ids[id], &message);
            let output = store.take_output(ids[id]);
            let replies = output.iter().filter(|message| message.kind != MessageKind::WATCH_EVENT).count();
            prop_assert_eq!(replies, usize::from(store.is_connected(ids[id])), "{:?}", message);
            for (id, domain) in ids.iter_mut().zip([0, 5, 6]) {
                prop_assert!(output.iter().all(|message| message.payload.len() <= 4096));
                if !store.is_connected(*id) {
                    *id = store.connect(domain);
                }
            }
        }
        assert_is_sound(&store);
    }
}

/// Generates payloads, some of which are meaningful.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("data"),
        Just("data/a"),
        Just("attr"),
        Just("/"),
        Just("/local/domain/6"),
        Just("@releaseDomain"),
        Just("T"),
        Just("n5"),
        Just("b6"),
        Just("r0"),
        Just("5"),
        Just("6"),
        Just("0"),
        Just(""),
        Just("nodes"),
        Just("99999999999"),
    ];
    let words = prop::collection::vec(word, 1..5)
        .prop_map(|words| format!("{}\0", words.join("\0")).into_bytes());
    prop_oneof![4 => words, 1 => prop::collection::vec(any::<u8>(), 0..40)]
}
