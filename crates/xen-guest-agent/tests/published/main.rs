//! What stands in Xenstore for guests of all kinds, as its readers see it: by the agent against the embedded store, in
//! simulated time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "all of this is test code"
)]

mod documented;
mod guests;
mod harness;
mod leftovers;
mod order;
mod readers;
mod trees;
