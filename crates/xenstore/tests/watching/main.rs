//! Watches of a depth and of domains, on a store in memory that imitates each server.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "this is test code")]

mod depth;
mod domains;

use std::sync::{Arc, Mutex};

use xenstore::DomId;
use xenstore::embedded::{Model, Store, Toolstack};

const GUEST: DomId = DomId::new(5);

const MODELS: [Model; 3] = [
    Model::CXenstored4_17,
    Model::CXenstored4_22,
    Model::Oxenstored4_17,
];

fn store(model: Model) -> Arc<Mutex<Store>> {
    let mut store = Store::with_model(model);
    store.introduce_guest(GUEST, Toolstack::Xapi);
    Arc::new(Mutex::new(store))
}
