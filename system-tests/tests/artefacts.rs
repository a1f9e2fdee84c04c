//! The files that `cargo xtask dist` makes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use system_tests::{artefact, output, repository_root};

/// Packages of this workspace that have a binary, with its name.
const PROGRAMS: [(&str, &str); 2] = [
    ("xen-guest-agent", "xen-guest-agent"),
    ("xenstore-cli", "xenstore"),
];

/// Returns the paths of the binary for each architecture in `target/dist`, with Rust's target.
fn binaries(binary: &str) -> Vec<(PathBuf, &'static str)> {
    let targets = [
        ("x86_64", "x86_64-unknown-linux-musl"),
        ("aarch64", "aarch64-unknown-linux-musl"),
    ];
    let paths = targets.map(|(architecture, target)| {
        let path = format!("target/dist/{binary}-linux-{architecture}");
        (repository_root().join(path), target)
    });
    let existing: Vec<_> = paths
        .into_iter()
        .filter(|(path, _)| path.exists())
        .collect();
    assert!(!existing.is_empty(), "run cargo xtask dist");
    existing
}

/// Returns the list that cargo-auditable has added to a binary.
fn audit_data(binary: &Path) -> Value {
    let limits = auditable_info::Limits::default();
    let json = auditable_info::json_from_file(binary, limits)
        .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
    serde_json::from_str(&json).unwrap()
}

/// Returns name and version of each crate in the audit data.
fn crates(audit_data: &Value) -> BTreeSet<String> {
    let packages = audit_data["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let text = |key: &str| package[key].as_str().unwrap();
            format!("{} {}", text("name"), text("version"))
        })
        .collect()
}

/// Returns name and version of each crate in `Cargo.lock`.
fn locked() -> BTreeSet<String> {
    let lock = fs::read_to_string(repository_root().join("Cargo.lock")).unwrap();
    let value = |line: &str| line.split('"').nth(1).unwrap().to_owned();
    let mut lines = lock.lines();
    let mut locked = BTreeSet::new();
    while let Some(line) = lines.next() {
        if line.starts_with("name = ") {
            let version = lines.next().unwrap();
            locked.insert(format!("{} {}", value(line), value(version)));
        }
    }
    locked
}

/// Returns the crates that Cargo builds a package from, except procedural macros and crates of
/// build scripts.
fn dependencies(package: &str, target: &str) -> BTreeSet<String> {
    let tree = output(
        Command::new("cargo")
            .args(["tree", "--locked", "--edges=normal,no-proc-macro"])
            .args(["--prefix=none", "--format={p}"])
            .args(["--package", package, "--target", target])
            .current_dir(repository_root()),
    );
    tree.lines()
        .map(|line| {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            let version = words.next().unwrap().trim_start_matches('v');
            format!("{name} {version}")
        })
        .collect()
}

#[test]
#[ignore = "needs cargo xtask dist"]
fn binaries_list_the_crates_of_cargo_lock() {
    let locked = locked();
    for (package, binary) in PROGRAMS {
        for (path, target) in binaries(binary) {
            let audit_data = audit_data(&path);
            let listed = crates(&audit_data);
            let unknown: Vec<_> = listed.difference(&locked).collect();
            assert!(unknown.is_empty(), "{}: {unknown:?}", path.display());

            let dependencies = dependencies(package, target);
            let missing: Vec<_> = dependencies.difference(&listed).collect();
            assert!(missing.is_empty(), "{}: {missing:?}", path.display());

            let packages = audit_data["packages"].as_array().unwrap();
            let programs: Vec<_> = packages
                .iter()
                .filter(|known| known["root"] == true)
                .collect();
            assert_eq!(programs.len(), 1, "{}", path.display());
            assert_eq!(programs[0]["name"], package, "{}", path.display());
        }
    }
}

#[test]
#[ignore = "needs cargo xtask dist"]
fn binaries_contain_no_path_of_the_build_machine() {
    let root = repository_root();
    let directories = [
        root.to_str().unwrap().to_owned(),
        std::env::var("HOME").unwrap(),
    ];
    for (_, binary) in PROGRAMS {
        for (path, _) in binaries(binary) {
            let content = fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&content);
            assert!(
                text.contains("/rust/library/core/src/"),
                "{}",
                path.display()
            );
            for directory in &directories {
                let prefix = format!("{directory}/");
                assert!(!text.contains(&prefix), "{}: {prefix}", path.display());
            }
        }
    }
}

#[test]
#[ignore = "needs cargo xtask dist"]
fn package_has_the_licence_of_each_crate_and_library_in_its_binary() {
    let architecture = output(Command::new("dpkg").arg("--print-architecture"));
    for (package, binary) in PROGRAMS {
        let deb = format!(
            "{package}_{}_{}.deb",
            env!("CARGO_PKG_VERSION"),
            architecture.trim()
        );
        let file = format!("./usr/share/doc/{package}/third-party-licenses.txt.gz");
        let text = output(
            Command::new("sh")
                .args([
                    "-c",
                    r#"dpkg-deb --fsys-tarfile "$1" | tar -xO "$2" | gunzip"#,
                    "sh",
                ])
                .arg(artefact(&deb))
                .arg(file),
        );

        let (_, target) = binaries(binary)[0];
        let of_others = dependencies(package, target);
        for name in of_others.iter().filter(|name| !name.starts_with("xen")) {
            assert!(text.contains(&format!("\n{name}: ")), "{package}: {name}");
        }
        for heading in [
            "standard library of Rust: MIT OR Apache-2.0",
            "hashbrown 0.15.2: MIT OR Apache-2.0 (part of the standard library)",
            "musl: MIT",
            "libunwind of LLVM: Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(
                text.contains(&format!("\n{heading}\n")),
                "{package}: {heading}"
            );
        }
        for sentence in [
            "musl as a whole is licensed under the following standard MIT license",
            "Copyright (c) Zig contributors",
            "Copyright (c) 2016 Amanieu d'Antras",
        ] {
            assert!(text.contains(sentence), "{package}: {sentence}");
        }
    }
}
