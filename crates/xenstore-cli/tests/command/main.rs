//! Tests of the command as a process, with an embedded server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "all of this is test code"
)]

mod invocation;
mod output;
mod sub_commands;
mod testbed;
mod waiting;
