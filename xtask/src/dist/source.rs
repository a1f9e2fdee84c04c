//! An archive of the sources with all crates that they need, which builds without a network and
//! without git.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{
    Build, VERSION, archive, binaries, create_dir, files, make_empty, output, read, run, write,
};
use crate::command::EPOCH_FILE;

/// Targets whose crates the archive contains. Distributions build for more than the targets of
/// releases; `powerpc` stands for those without atomic integers of 64 bits.
const TARGETS: [&str; 9] = [
    "x86_64-unknown-linux-gnu",
    "x86_64-unknown-linux-musl",
    "aarch64-unknown-linux-gnu",
    "aarch64-unknown-linux-musl",
    "armv7-unknown-linux-gnueabihf",
    "i686-unknown-linux-gnu",
    "powerpc-unknown-linux-gnu",
    "riscv64gc-unknown-linux-gnu",
    "x86_64-unknown-freebsd",
];

/// Directory of crates in the archive.
const CRATES: &str = "vendor";

/// Makes Cargo read the crates in the archive instead of those of crates.io.
const CONFIGURATION: &str = r#"
[source.crates-io]
replace-with = "archive"

[source.archive]
directory = "vendor"
"#;

/// Builds the archive from the last commit.
pub(super) fn build(build: &Build) -> Result<(), String> {
    let name = format!("xen-guest-agent-{VERSION}");
    let parent = build.work.join("source");
    make_empty(&parent)?;
    let top = parent.join(&name);
    unpack_commit(build, &top)?;

    let cargo = binaries::fetch(&build.root, "fetch-rust")?;
    run(binaries::cargo(build, &cargo)?
        .args(["vendor", "--quiet", "--locked", "--versioned-dirs", CRATES])
        // Cargo prints its configuration.
        .stdout(Stdio::null())
        .current_dir(&top))?;
    let configuration = top.join(".cargo/config.toml");
    let text = read(&configuration)? + CONFIGURATION;
    write(&configuration, &text)?;

    let needed = needed_crates(build, &cargo, &top)?;
    for directory in files(&top.join(CRATES))? {
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        if !needed.contains(&*name) {
            empty_crate(&directory)?;
        }
    }

    write(&top.join(EPOCH_FILE), &format!("{}\n", build.epoch))?;
    archive::pack(build, &parent, &name, &format!("{name}-source"))
}

/// Unpacks the files of the last commit. Other files of the working tree may be anything.
fn unpack_commit(build: &Build, top: &Path) -> Result<(), String> {
    let git = || {
        let mut git = Command::new("git");
        git.current_dir(&build.root);
        git
    };
    let changes = output(git().args(["status", "--porcelain", "--untracked-files=no"]))?;
    if !changes.is_empty() {
        let _ = writeln!(
            io::stderr(),
            "the source archive will lack these uncommitted changes:\n{changes}"
        );
    }

    create_dir(top)?;
    let archive = build.work.join("commit.tar");
    run(git()
        .args(["archive", "--output"])
        .arg(&archive)
        .arg("HEAD"))?;
    run(Command::new("tar")
        .arg("--extract")
        .arg("--file")
        .arg(&archive)
        .arg("--directory")
        .arg(top)
        .env_remove("TAR_OPTIONS"))
}

/// Returns `NAME-VERSION` of each crate that is compiled on any of the targets.
fn needed_crates(build: &Build, cargo: &Path, top: &Path) -> Result<BTreeSet<String>, String> {
    let mut tree = binaries::cargo(build, cargo)?;
    tree.args([
        "tree",
        "--workspace",
        "--all-features",
        "--locked",
        "--offline",
    ])
    .args(["--edges=all", "--prefix=none", "--format={p}"])
    .current_dir(top);
    for target in TARGETS {
        tree.args(["--target", target]);
    }

    let lines = output(&mut tree)?;
    let crates = lines.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let name = words.next()?;
        let version = words.next()?.strip_prefix('v')?;
        Some(format!("{name}-{version}"))
    });
    Ok(crates.collect())
}

/// Removes all files of a crate but its manifest, which Cargo reads even if it does not compile the
/// crate.
///
/// Crates for Windows and WebAssembly are big, and have libraries that were compiled elsewhere.
fn empty_crate(directory: &Path) -> Result<(), String> {
    let checksums = directory.join(".cargo-checksum.json");
    let value: Value = serde_json::from_str(&read(&checksums)?)
        .map_err(|error| format!("{}: {error}", checksums.display()))?;
    // Cargo compares the package's checksum with Cargo.lock.
    let value = json!({ "files": {}, "package": value.get("package") });
    let manifest = directory.join("Cargo.toml");
    let text = read(&manifest)?;

    make_empty(directory)?;
    write(&manifest, &text)?;
    write(&directory.join("src/lib.rs"), "")?;
    write(&checksums, &value.to_string())
}
