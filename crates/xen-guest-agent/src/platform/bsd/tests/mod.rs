//! Tests with data of real kernels: `tests/data/bsd/README.md`.
//!
//! The data is that of little-endian kernels.
#![cfg(target_endian = "little")]

mod addresses;
mod capture;
mod histories;
mod lists;
mod properties;
mod records;
mod replay;
mod stacking;
mod sysctl;
