//! Test programs of this package that need another kernel, each in a virtual machine that has it.

use system_tests::{Daemon, Machine};

#[test]
#[ignore = "needs Debian's packages, and runs QEMU"]
fn the_network_on_debians_kernel() {
    Machine::debian().run_tests("links", &["stacked::"]);
}

/// Not those that measure the program's speed or size: emulation is slow, and adds system calls of its own.
#[test]
#[ignore = "needs Debian's packages, and runs QEMU"]
fn the_agent_on_debians_kernel() {
    let skipped = [
        "it_is_small",
        "it_sleeps",
        "signals_end_it",
        "a_network_that_never_rests",
    ];
    Machine::debian().run_tests("agent", &skipped.map(|test| ["--skip", test]).concat());
}

/// One at a time: there is one processor. Their output has the trees and times.
const IN_DOM0: &[&str] = &["--test-threads=1", "--nocapture"];

#[test]
#[ignore = "needs Debian's packages, and runs QEMU"]
fn guests_of_xen_with_c_xenstored() {
    Machine::debian().run_tests_in_dom0(Daemon::C, "xen", IN_DOM0);
}

#[test]
#[ignore = "needs Debian's packages, and runs QEMU"]
fn guests_of_xen_with_oxenstored() {
    Machine::debian().run_tests_in_dom0(Daemon::OCaml, "xen", IN_DOM0);
}
