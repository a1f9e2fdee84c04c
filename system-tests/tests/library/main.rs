//! The library's examples on real servers, and the cost of its calls.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

mod examples;
mod system_calls;
