//! The files in `dist/` agree with the agent and with `docs/packaging.md`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use system_tests::{Profile, build, repository_root};

const UNIT: &str = "dist/usr/lib/systemd/system/xen-guest-agent.service";

fn read(path: &str) -> String {
    fs::read_to_string(repository_root().join(path)).unwrap()
}

#[test]
fn unit_restarts_the_agent_after_no_final_exit_status() {
    let help = Command::new(build("xen-guest-agent", Profile::Debug))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, statuses) = help.split_once("\nExit status:\n").unwrap();
    let statuses: Vec<&str> = statuses
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once("  ")?.1.split_once("  "))
        .map(|(status, _)| status)
        .collect();
    assert_eq!(
        statuses[..2],
        ["0", "1"],
        "a restart may resolve the second"
    );

    let line = format!("\nRestartPreventExitStatus={}\n", statuses[2..].join(" "));
    let unit = read(UNIT);
    assert!(unit.contains(&line), "no line {line:?} in {unit}");
}

#[test]
fn directives_that_hide_facts_are_documented_and_absent() {
    let unit = read(UNIT);
    let document = read("docs/packaging.md");
    let comments = unit.lines().filter_map(|line| line.strip_prefix("# - "));
    let listed: BTreeSet<&str> = comments.filter_map(|line| line.split('=').next()).collect();
    let cells = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('=')?.0.into());
    let documented: BTreeSet<&str> = cells.collect();
    assert_eq!(listed, documented);
    assert_eq!(listed.len(), 6);

    for directive in listed {
        let set = unit
            .lines()
            .filter(|line| line.starts_with(&format!("{directive}=")));
        let allowed = if directive == "ProtectHome" {
            vec!["ProtectHome=read-only"]
        } else {
            Vec::new()
        };
        assert_eq!(set.collect::<Vec<_>>(), allowed);
    }
}

#[test]
fn every_installed_file_is_documented() {
    let root = repository_root();
    let document = read("docs/packaging.md");
    let mut directories = vec![root.join("dist")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
            if path.is_file() {
                assert!(document.contains(&format!("`{name}`")), "{name}");
            } else if name != "dist/usr/share" {
                directories.push(path);
            }
        }
    }
}

#[test]
#[ignore = "needs systemd"]
fn systemd_knows_every_key_of_the_unit() {
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("xen-guest-agent.service");
    // The program need not be installed.
    fs::write(
        &unit,
        read(UNIT).replace("/usr/sbin/xen-guest-agent", "/bin/true"),
    )
    .unwrap();
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&unit)
        .output()
        .unwrap();
    // An unknown key is only a message.
    let messages = String::from_utf8(output.stderr).unwrap();
    assert_eq!((messages.as_str(), output.status.code()), ("", Some(0)));
}
