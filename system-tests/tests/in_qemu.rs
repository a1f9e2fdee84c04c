//! Runs test programs of this package that need another kernel, each in a virtual machine.

use system_tests::{Daemon, Machine};

#[test]
#[ignore = "needs Debian's packages, and runs QEMU"]
fn network_tests_on_debian_kernel() {
    Machine::debian().run_tests("network", &["stacked::"]);
}

/// Emulation is slow and adds system calls, so tests of speed and size are skipped. The test of
/// forbidden actions is skipped, too, because the machine has no Cargo to build its example.
#[test]
#[ignore = "needs Debian's packages, and runs QEMU"]
fn agent_tests_on_debian_kernel() {
    let skipped = [
        "private_memory_is_bounded",
        "idle_agent_makes_few_system_calls",
        "termination_signals_exit_with_0_and_keep_nodes",
        "constant_network_changes_do_not_delay_publication",
        "forbidden_actions_are_refused",
    ];
    Machine::debian().run_tests("agent", &skipped.map(|test| ["--skip", test]).concat());
}

/// Domain 0 has one processor, so the tests run one at a time. Their output contains the trees and
/// times.
const IN_DOM0: &[&str] = &["--test-threads=1", "--nocapture"];

#[test]
#[ignore = "needs Debian's packages, and runs QEMU"]
fn xen_guests_with_c_xenstored() {
    Machine::debian().run_tests_in_dom0(Daemon::C, "xen", IN_DOM0);
}

#[test]
#[ignore = "needs Debian's packages, and runs QEMU"]
fn xen_guests_with_oxenstored() {
    Machine::debian().run_tests_in_dom0(Daemon::OCaml, "xen", IN_DOM0);
}
