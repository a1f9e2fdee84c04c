//! The `xenstore` command compared with Xen's own tools: the same store and arguments must give the
//! same results.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

mod command_lines;
mod ls;
mod round_trip;
mod terminal;
mod waiting;
mod watch;

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use command_lines::{
    command_lines_have_identical_results, command_lines_in_a_guest_have_identical_results,
    socket_lookup_is_identical,
};
use ls::{ls_output_is_identical, ls_output_on_a_terminal_is_identical};
use round_trip::{
    removal_and_chmod_are_seen_by_the_other_tool, written_values_are_read_by_the_other_tool,
};
use system_tests::{Profile, build, on_both_daemons};
use tempfile::TempDir;
use waiting::{
    control_prints_replies_of_the_server, domains_are_followed,
    permissions_of_all_domains_are_accepted_without_the_feature, values_are_watched_and_waited_for,
};
use watch::watch_output_is_identical;
use xenstore::{Client, Transport};

on_both_daemons! {
    ls_output_is_identical
    ls_output_on_a_terminal_is_identical
    written_values_are_read_by_the_other_tool
    removal_and_chmod_are_seen_by_the_other_tool
    watch_output_is_identical
    command_lines_have_identical_results
    command_lines_in_a_guest_have_identical_results
    socket_lookup_is_identical
    domains_are_followed
    values_are_watched_and_waited_for
    control_prints_replies_of_the_server
    permissions_of_all_domains_are_accepted_without_the_feature
}

/// The tools under test, and those for comparison.
#[derive(Clone, Copy, Debug)]
enum Tools {
    Ours,
    Xens,
}

impl Tools {
    const BOTH: [(Tools, Tools); 2] = [(Tools::Ours, Tools::Xens), (Tools::Xens, Tools::Ours)];

    /// Returns the path of a program. `name` is `xenstore` or one of its links.
    fn program(self, name: &str) -> PathBuf {
        match self {
            Tools::Ours => links().join(name),
            Tools::Xens => Path::new("/usr/bin").join(name),
        }
    }

    fn command(self, socket: &Path, name: &str) -> Command {
        let program = self.program(name);
        assert!(
            program.exists(),
            "{} is missing: install xenstore-utils",
            program.display()
        );
        let mut command = Command::new(program);
        command.env("XENSTORED_PATH", socket);
        command
    }

    fn run(self, socket: &Path, name: &str, arguments: &[impl AsRef<OsStr>]) -> Output {
        self.command(socket, name)
            .args(arguments)
            .output()
            .expect("run the tool")
    }

    /// Runs the tool, requires success and returns its output.
    #[track_caller]
    fn prints(self, socket: &Path, name: &str, arguments: &[impl AsRef<OsStr>]) -> Vec<u8> {
        let output = self.run(socket, name, arguments);
        assert!(output.status.success(), "{self:?} {name}: {output:?}");
        output.stdout
    }
}

/// Returns a directory with our command and all of its links.
fn links() -> &'static Path {
    static LINKS: OnceLock<TempDir> = OnceLock::new();
    let links = LINKS.get_or_init(|| {
        let program = build("xenstore-cli", Profile::Debug);
        let directory = tempfile::tempdir().unwrap();
        symlink(&program, directory.path().join("xenstore")).unwrap();
        for name in [
            "read", "write", "rm", "list", "ls", "exists", "chmod", "watch", "control",
        ] {
            symlink(&program, directory.path().join(format!("xenstore-{name}"))).unwrap();
        }
        directory
    });
    links.path()
}

fn connect(socket: &Path) -> Client {
    Client::new(Transport::open_socket_at(socket).unwrap())
}

/// Pseudo-random numbers.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: u64) -> usize {
        // The constants are those of Knuth's MMIX. The upper bits are the most random ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % end).unwrap()
    }

    /// Returns a value with escape characters, invalid UTF-8 or an unusual length.
    fn value(&mut self) -> Vec<u8> {
        let len = [0, 1, self.below(30), self.below(100), self.below(1500)][self.below(5)];
        let kind = self.below(4);
        (0..len)
            .map(|_| match kind {
                0 => u8::try_from(self.below(256)).unwrap(),
                1 => b"\\\"\n\r\t\0\x01\x07\x08\x1b \x7f\xff%01x"[self.below(16)],
                2 => b"abc XYZ=,/\"'"[self.below(12)],
                _ => "\u{e4}\u{20ac}".as_bytes()[self.below(5)],
            })
            .collect()
    }
}
