//! The README names tests that exist, and the right command for each.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

use std::fs;
use std::path::Path;

/// Returns the cells of all table rows below a heading, up to the next heading.
fn rows<'a>(readme: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let (_, section) = readme.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .skip(2)
        .collect()
}

/// Whether the test program `target` contains the file.
fn belongs_to(file: &str, target: &str) -> bool {
    match target {
        "simulated" => file.starts_with("crates/xen-guest-agent/tests/simulated/"),
        "unit" => file.starts_with("crates/xen-guest-agent/src/"),
        "xen" => file.starts_with("tests/xen/"),
        // The virtual machine runs these with another kernel.
        "kernel" => file == "tests/network.rs" || file.starts_with("tests/agent"),
        _ => file == format!("tests/{target}.rs") || file.starts_with(&format!("tests/{target}/")),
    }
}

#[test]
fn every_behaviour_in_the_readme_names_an_existing_test() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(package.join("README.md")).unwrap();
    let targets: Vec<_> = rows(&readme, "How to run them")
        .into_iter()
        .map(|row| row[0])
        .collect();

    let mut count = 0;
    for row in rows(&readme, "Where a behaviour is tested") {
        let [behaviour, test, target] = row[..] else {
            panic!("a row needs three cells: {row:?}")
        };
        if test.is_empty() && target.is_empty() {
            continue;
        }
        assert!(!behaviour.is_empty(), "{test}: no behaviour");
        assert!(targets.contains(&target), "{test}: no command {target}");

        let test = test.trim_matches('`');
        let (file, name) = test
            .split_once("::")
            .map_or((test, None), |(file, name)| (file, Some(name)));
        assert!(belongs_to(file, target), "{test} is not run by {target}");

        let path = if file.starts_with("crates/") {
            package.join("..").join(file)
        } else {
            package.join(file)
        };
        let source = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{behaviour}: {}: {error}", path.display()));
        if let Some(name) = name {
            assert!(
                source.contains(&format!("fn {name}(")),
                "{behaviour}: {file} has no test {name}"
            );
        }
        count += 1;
    }
    assert!(count > 60, "only {count} behaviours found");
}
