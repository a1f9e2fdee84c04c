//! Tests of a store through requests of its clients.

use std::collections::BTreeMap;

mod domains;
mod faults;
mod models;
mod nodes;
mod properties;
mod transactions;
mod watches;

use super::*;
use crate::domid::DomId;
use crate::error::ErrorCode;
use crate::permission::Permissions;
use crate::wire::{Message, MessageKind};

/// Payload of a reply, or the name of its error.
type Reply = Result<Vec<u8>, String>;

fn ask_in(
    store: &mut Store,
    id: ConnectionId,
    transaction: u32,
    kind: MessageKind,
    payload: impl AsRef<[u8]>,
) -> Reply {
    let payload = payload.as_ref().to_vec();
    store.handle(
        id,
        &Message {
            kind,
            request_id: 77,
            transaction_id: transaction,
            payload,
        },
    );
    let connection = store.connections.get_mut(&id).expect("an open connection");
    let mut reply = connection.take_reply();
    assert_eq!((reply.request_id, reply.transaction_id), (77, transaction));
    if reply.kind == MessageKind::ERROR {
        assert_eq!(reply.payload.pop(), Some(0));
        return Err(String::from_utf8(reply.payload).unwrap());
    }
    assert_eq!(reply.kind, kind);
    Ok(reply.payload)
}

fn ask(store: &mut Store, id: ConnectionId, kind: MessageKind, payload: impl AsRef<[u8]>) -> Reply {
    ask_in(store, id, 0, kind, payload)
}

fn error(code: &str) -> Reply {
    Err(code.into())
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "its type must match that of errors"
)]
fn ok() -> Reply {
    Ok(b"OK\0".to_vec())
}

fn events(store: &mut Store, id: ConnectionId) -> Vec<String> {
    let output = store.take_output(id).into_iter();
    output
        .map(|message| {
            assert_eq!(
                (message.kind, message.request_id, message.transaction_id),
                (MessageKind::WATCH_EVENT, 0, 0)
            );
            String::from_utf8(message.payload)
                .unwrap()
                .trim_end_matches('\0')
                .replace('\0', " ")
        })
        .collect()
}

fn start(store: &mut Store, id: ConnectionId) -> u32 {
    let number = ask(store, id, MessageKind::TRANSACTION_START, "\0").unwrap();
    String::from_utf8(number)
        .unwrap()
        .trim_end_matches('\0')
        .parse()
        .unwrap()
}

fn permissions(text: &str) -> Permissions {
    text.parse().unwrap()
}

/// Returns a store with a guest, and connections of domain 0 and of the guest.
fn guest(toolstack: Toolstack) -> (Store, ConnectionId, ConnectionId) {
    guest_of(Model::default(), toolstack)
}

fn guest_of(model: Model, toolstack: Toolstack) -> (Store, ConnectionId, ConnectionId) {
    let mut store = Store::with_model(model);
    store.introduce_guest(5, toolstack);
    let (host, guest) = (store.connect(0), store.connect(5));
    (store, host, guest)
}

const HOME: &str = "/local/domain/5";
