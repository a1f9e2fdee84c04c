//! Testbed of the system tests.
//!
//! - [`Xenstored`]: Debian's unmodified xenstored or oxenstored, on a machine without Xen.
//! - [`Guest`]: an unprivileged domain with a tree as a toolstack builds it. Clients of its socket
//!   act as the domain.
//! - [`Network`]: a network namespace for one test.
//! - [`FakeRoot`]: the files that a program with `--root` reads.
//! - [`Testbed`]: all of these for an [`Agent`], which runs as a separate process.
//! - [`Booted`]: a booted Debian system whose Xenstore and network are those of a [`Testbed`].
//! - [`Machine`]: a virtual machine with another kernel, or with Xen, that runs a test program.
//! - [`Terminal`]: a pseudo-terminal for a program.
//! - [`build`]: the binary of a package of this workspace.
//!
//! If the machine lacks something, the test fails with a message that says what to install.
//! Everything here belongs to one test and is removed when dropped, so tests can run in parallel.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "test support panics on errors, as tests do"
)]

mod agent;
mod booted;
mod bridge;
mod build;
mod cache;
mod command;
mod confined_actions;
mod expected;
mod fake_root;
mod guest;
mod machine;
mod network;
mod observe;
mod terminal;
mod testbed;
mod toolstack;
mod xenstored;

pub use agent::{Agent, TIMEOUT, time_limit, without_start_lines};
pub use booted::{Booted, DOWNLOADS, Debian};
pub use bridge::Requests;
pub use build::{
    Profile, artefact, build, build_example, build_library_examples, repository_root, static_agent,
    static_command,
};
pub use cache::cached;
pub use command::output;
pub use confined_actions::{ALLOWED_ACTIONS, DENIED_ACTIONS};
pub use fake_root::FakeRoot;
pub use guest::Guest;
pub use machine::{
    AARCH64_BOOKWORM, EmulatedGuest, EmulatedMachine, GUEST_FILES, Machine, X86_64_BULLSEYE,
    static_busybox,
};
pub use network::Network;
pub use observe::{Outcome, eventually, is_published, is_published_with_link_local, receive, tree};
pub use terminal::Terminal;
pub use testbed::{Collector, SETTLE_TIME, Testbed};
pub use toolstack::Toolstack;
pub use xenstored::{Daemon, Xenstored};

/// Generates two tests from each function that takes a [`Daemon`], in the modules `c_xenstored` and
/// `oxenstored`.
#[macro_export]
macro_rules! on_both_daemons {
    ($($name:ident)*) => {
        mod c_xenstored {
            $(#[test]
            #[ignore = "needs root and xenstored"]
            fn $name() {
                super::$name($crate::Daemon::C);
            })*
        }

        mod oxenstored {
            $(#[test]
            #[ignore = "needs root and oxenstored"]
            fn $name() {
                super::$name($crate::Daemon::OCaml);
            })*
        }
    };
}

/// Generates two tests from each function that takes a [`Collector`], in the modules `netlink` and
/// `poll`.
#[macro_export]
macro_rules! with_both_collectors {
    ($($name:ident)*) => {
        mod netlink {
            $(#[test]
            #[ignore = "needs root and xenstored"]
            fn $name() {
                super::$name($crate::Collector::Netlink);
            })*
        }

        mod poll {
            $(#[test]
            #[ignore = "needs root and xenstored"]
            fn $name() {
                super::$name($crate::Collector::Poll);
            })*
        }
    };
}
