//! Licences of the crates in a binary.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Architecture, Build, Program, binaries, failed, output};

/// Returns a text with the licences of all crates that `program` contains.
pub(super) fn licences(
    build: &Build,
    program: &Program,
    architecture: &Architecture,
) -> Result<String, String> {
    let directories = crate_directories(build)?;
    let mut text = format!(
        "{} contains the following third-party crates.\n",
        program.binary
    );

    for linked in linked_crates(build, program, architecture)? {
        let Some((directory, licence)) = directories.get(&linked) else {
            return Err(format!("cargo metadata does not list {linked}"));
        };
        let _ = write!(text, "\n{}\n{linked}: {licence}\n", "=".repeat(72));

        for file in licence_files(directory)? {
            let contents = fs::read(&file).map_err(failed("read", &file))?;
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let contents = String::from_utf8_lossy(&contents);
            let _ = write!(text, "\n--- {name}\n\n{}\n", contents.trim_end());
        }
    }
    Ok(text)
}

/// Returns name and version of each crate that is linked into `program` and comes from elsewhere.
fn linked_crates(
    build: &Build,
    program: &Program,
    architecture: &Architecture,
) -> Result<BTreeSet<String>, String> {
    let compiler = binaries::fetch(&build.root, "fetch-rust")?;
    let tree = output(
        binaries::cargo(build, &compiler)?
            .args([
                "tree",
                "--locked",
                "--edges=normal,no-proc-macro",
                "--prefix=none",
            ])
            .args([
                "--package",
                program.package,
                "--target",
                architecture.target,
            ])
            .args(["--format", "{p}"]),
    )?;

    // A crate of this workspace has its directory in parentheses.
    let linked = tree.lines().filter(|line| !line.contains('('));
    Ok(linked.map(|line| line.replacen(" v", " ", 1)).collect())
}

/// Returns directory and licence of each crate in `Cargo.lock`, by name and version.
fn crate_directories(build: &Build) -> Result<BTreeMap<String, (PathBuf, String)>, String> {
    let compiler = binaries::fetch(&build.root, "fetch-rust")?;
    let metadata = output(binaries::cargo(build, &compiler)?.args([
        "metadata",
        "--locked",
        "--format-version=1",
    ]))?;
    let metadata: Value =
        serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata: {error}"))?;

    let mut directories = BTreeMap::new();
    let packages = metadata.get("packages").and_then(Value::as_array);
    for package in packages.into_iter().flatten() {
        let text = |key: &str| package.get(key).and_then(Value::as_str).unwrap_or_default();
        let Some(directory) = Path::new(text("manifest_path")).parent() else {
            continue;
        };
        let name = format!("{} {}", text("name"), text("version"));
        directories.insert(name, (directory.to_owned(), text("license").to_owned()));
    }
    Ok(directories)
}

/// Returns the licence files of a crate. A crate without any has its licence's name alone.
fn licence_files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed("read", directory))? {
        let path = entry.map_err(failed("read", directory))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.to_uppercase();

        let is_licence = [
            "LICENSE",
            "LICENCE",
            "COPYING",
            "COPYRIGHT",
            "NOTICE",
            "UNLICENSE",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix));
        if is_licence && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
