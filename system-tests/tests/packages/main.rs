//! The installed service in booted Debian systems.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

/// Generates two tests from each function that takes a [`system_tests::Debian`], in the modules
/// `bookworm` and `trixie`.
macro_rules! on_both_releases {
    ($($name:ident)*) => {
        mod bookworm {
            $(#[test]
            #[ignore = "needs root, xenstored, mmdebstrap, systemd-container and packages"]
            fn $name() {
                super::$name(system_tests::Debian::Bookworm);
            })*
        }

        mod trixie {
            $(#[test]
            #[ignore = "needs root, xenstored, mmdebstrap, systemd-container and packages"]
            fn $name() {
                super::$name(system_tests::Debian::Trixie);
            })*
        }
    };
}

mod acceptance;
mod apt;
mod archive;
mod debs;
mod dnf;
mod install;
mod removal;
mod repositories;
mod rpms;
mod system;
mod unit;
