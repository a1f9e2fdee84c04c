//! Links the stack unwinder statically. Rust's standard library needs it for the trace of a panic.
//! The shared library `libgcc_s` would cost private memory in each process.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let is_static = features.split(',').any(|feature| feature == "crt-static");

    // A static binary contains the unwinder anyway, and musl targets have their own.
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && !is_static {
        println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
    }
}
