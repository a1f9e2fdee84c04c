//! The agent against the embedded store, in one thread and in simulated time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "all of this is test code"
)]

mod announcements;
mod conflicts;
mod cost;
mod documented_messages;
mod documented_nodes;
mod faults;
mod harness;
mod hostile_server;
mod log;
mod main_address;
mod publication;
mod quota_and_denials;
mod rate_limits;
mod reconnect;
mod restart;
mod sample_guests;
mod server_faults;
mod services;
mod snapshots;
mod stale_nodes;
mod status;
mod unreadable_sources;
mod virtual_functions;
mod withdrawal;
mod xapi_reader;
