//! The testbed that whole-system tests lie in.
//!
//! - [`Xenstored`]: Debian's unmodified xenstored or oxenstored, on a machine without Xen.
//! - [`Guest`]: an unprivileged domain of it, with a tree as a toolstack makes it. Clients of its socket *are* the domain.
//! - [`Network`]: a network namespace of a test's own.
//! - [`FakeRoot`]: the files of a guest's system that a program with `--root` looks at.
//! - [`Testbed`]: all of these for an [`Agent`], which runs as a process of its own.
//! - [`Machine`]: a virtual machine with another kernel, or with Xen, in which a test program runs.
//! - [`Terminal`]: a pseudo-terminal for a program.
//! - [`build`]: the binary of a package of this workspace.
//!
//! What is missing on the machine makes a test fail with a message that says what to install. Everything here is private
//! to its owner and gone once dropped, so tests run side by side.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "test support ends a test by a panic, as tests do"
)]

mod agent;
mod bridge;
mod build;
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

pub use agent::{Agent, TIMEOUT};
pub use bridge::Requests;
pub use build::{Profile, build};
pub use fake_root::FakeRoot;
pub use guest::Guest;
pub use machine::{GUEST_FILES, Machine};
pub use network::Network;
pub use observe::{Outcome, eventually, tree};
pub use terminal::Terminal;
pub use testbed::{Collector, SETTLE_TIME, Testbed};
pub use toolstack::Toolstack;
pub use xenstored::{Daemon, Xenstored};

/// Makes of each function that takes a [`Daemon`] a test for each daemon, in modules named after them.
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

/// Makes of each function that takes a [`Collector`] a test for each, in modules named after them.
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
