//! Has the stack unwinder, which Rust's standard library needs for the trace of a panic, linked into the binary. It comes from
//! `libgcc_s` otherwise: one more library to load, and private memory for it, for something that is not to happen.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let is_static = features.split(',').any(|feature| feature == "crt-static");
    // A static binary has it anyway, and musl's targets bring their own.
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && !is_static {
        println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
    }
}
