use std::fs;
use std::path::Path;
use std::process::Command;

use system_tests::{
    Daemon, Toolstack, Xenstored, build_library_examples, on_both_daemons, repository_root,
};

on_both_daemons! {
    every_example_runs_in_domain_0_and_in_a_guest
}

fn every_example_runs_in_domain_0_and_in_a_guest(daemon: Daemon) {
    let programs = build_library_examples();
    let store = Xenstored::start(daemon);
    let guest = store.guest(5, Toolstack::Xapi);

    let sources = fs::read_dir(repository_root().join("crates/xenstore/examples")).unwrap();
    let mut names: Vec<_> = sources
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().unwrap().to_owned())
        .collect();
    names.sort();
    assert!(names.len() >= 4, "{names:?}");
    for name in names {
        for socket in [store.socket(), guest.socket()] {
            assert_runs(&programs.join(&name), socket);
        }
    }
}

#[track_caller]
fn assert_runs(program: &Path, socket: &Path) {
    let mut command = Command::new("timeout");
    let output = command.arg("60").arg(program).arg(socket).output().unwrap();
    assert!(
        output.status.success() && !output.stdout.is_empty(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
