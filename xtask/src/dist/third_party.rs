//! Licences of the crates and libraries in a binary.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Architecture, Build, Program, binaries, failed, files, output};

/// Licences of libraries that come with Zig, by the file below its directory.
const ZIG_LIBRARIES: [(&str, &str); 3] = [
    ("musl: MIT", "lib/libc/musl/COPYRIGHT"),
    ("compiler-rt of Zig: MIT", "LICENSE"),
    (
        "libunwind of LLVM: Apache-2.0 WITH LLVM-exception",
        "lib/libunwind/LICENSE.TXT",
    ),
];

/// Returns a text with the licences of everything from elsewhere that `program` contains.
pub(super) fn licences(
    build: &Build,
    program: &Program,
    architecture: &Architecture,
) -> Result<String, String> {
    let compiler = binaries::fetch(&build.root, "fetch-rust-source")?;
    let library = compiler.join("usr/lib/rustlib/src/rust/library/std/Cargo.toml");
    let zig = binaries::fetch(&build.root, "fetch-zig")?;
    let workspace = build.root.join("Cargo.toml");
    let cargo = Cargo {
        build,
        compiler: &compiler,
        target: architecture.target,
    };

    let mut text = format!(
        "{} contains the following crates and libraries of others.\n",
        program.binary
    );
    for (name, directory) in cargo.linked_crates(&workspace, program.package, "")? {
        add(&mut text, &name, &licence_files(&directory)?)?;
    }

    let heading = "standard library of Rust: MIT OR Apache-2.0";
    // The source of the library contains no text of the licence, which is the same for all.
    add(&mut text, heading, &[build.root.join("LICENSE-APACHE")])?;
    // Cargo builds the library with this feature.
    for (name, directory) in cargo.linked_crates(&library, "std", "backtrace")? {
        let name = format!("{name} (part of the standard library)");
        add(&mut text, &name, &licence_files(&directory)?)?;
    }

    for (name, file) in ZIG_LIBRARIES {
        add(&mut text, name, &[zig.join("ziglang").join(file)])?;
    }
    Ok(text)
}

/// Adds a heading and the contents of files to `text`.
fn add(text: &mut String, heading: &str, files: &[PathBuf]) -> Result<(), String> {
    let _ = write!(text, "\n{}\n{heading}\n", "=".repeat(72));
    for file in files {
        let contents = fs::read(file).map_err(failed("read", file))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let contents = String::from_utf8_lossy(&contents);
        let _ = write!(text, "\n--- {name}\n\n{}\n", contents.trim_end());
    }
    Ok(())
}

/// The pinned Cargo, asked about one target.
struct Cargo<'a> {
    build: &'a Build,
    compiler: &'a Path,
    target: &'a str,
}

impl Cargo<'_> {
    /// Returns the crates from elsewhere that are linked into a package: name, version and licence,
    /// and the directory of the source.
    fn linked_crates(
        &self,
        manifest: &Path,
        package: &str,
        features: &str,
    ) -> Result<BTreeMap<String, PathBuf>, String> {
        let directories = self.crate_directories(manifest, features)?;
        let tree = output(
            binaries::cargo(self.build, self.compiler)?
                .args([
                    "tree",
                    "--locked",
                    "--edges=normal,no-proc-macro",
                    "--prefix=none",
                ])
                .args(["--format", "{p}", "--target", self.target])
                .args(["--package", package, "--features", features])
                .arg("--manifest-path")
                .arg(manifest)
                // The standard library has features that are unstable.
                .env("RUSTC_BOOTSTRAP", "1"),
        )?;

        // A crate of the workspace has its directory in parentheses. A repeated crate has an
        // asterisk.
        let names: BTreeSet<&str> = tree
            .lines()
            .map(|line| line.trim_end_matches(" (*)"))
            .filter(|line| !line.contains('('))
            .collect();
        let mut linked = BTreeMap::new();
        for name in names {
            let name = name.replacen(" v", " ", 1);
            let Some((directory, licence)) = directories.get(&name) else {
                return Err(format!("cargo metadata does not list {name}"));
            };
            linked.insert(format!("{name}: {licence}"), directory.clone());
        }
        Ok(linked)
    }

    /// Returns directory and licence of each crate in `Cargo.lock`, by name and version.
    fn crate_directories(
        &self,
        manifest: &Path,
        features: &str,
    ) -> Result<BTreeMap<String, (PathBuf, String)>, String> {
        let metadata = output(
            binaries::cargo(self.build, self.compiler)?
                .args(["metadata", "--locked", "--format-version=1"])
                .args(["--filter-platform", self.target, "--features", features])
                .arg("--manifest-path")
                .arg(manifest)
                .env("RUSTC_BOOTSTRAP", "1"),
        )?;
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
}

/// Returns the licence files of a crate. A crate without any has its licence's name alone.
fn licence_files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for path in files(directory)? {
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
    Ok(found)
}
