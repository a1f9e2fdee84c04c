//! Software bills of materials (SBOMs): lists of the crates that a program contains.
//!
//! `cargo tree` gives the crates that Cargo links for one package. Tools that read `cargo metadata` list more, because it
//! unites the features of the whole workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::command::{output, source_date_epoch};

mod cyclonedx;
mod spdx;

/// Packages with a program, each of which gets its own SBOMs.
const PACKAGES: [&str; 2] = ["xen-guest-agent", "xenstore-cli"];

/// The crates are the same for all Linux targets, which a test compares.
const TARGET: &str = "x86_64-unknown-linux-musl";

/// Crate that is linked into a program.
#[derive(Debug)]
struct Crate {
    name: String,
    version: String,
    /// Licence as an SPDX expression.
    licence: String,
    /// SHA-256 of the archive on crates.io. The crates of this project have none.
    checksum: Option<String>,
    /// Indices of the crates that this one uses.
    uses: BTreeSet<usize>,
}

impl Crate {
    /// Returns the package URL, which identifies the crate in both formats.
    fn url(&self) -> String {
        format!(
            "pkg:cargo/{}@{}",
            self.name,
            self.version.replace('+', "%2B")
        )
    }
}

/// Crates of one program. The first one has the program.
#[derive(Debug)]
struct Bill {
    crates: Vec<Crate>,
    /// Date of the release, in RFC 3339.
    date: String,
}

/// Writes an SBOM in each format for each program to `directory`, as `NAME-VERSION.cdx.json` and `NAME-VERSION.spdx.json`.
///
/// The date is that of `SOURCE_DATE_EPOCH` or of the last commit, so that the files are reproducible.
pub(crate) fn write(directory: &Path) -> Result<(), String> {
    fs::create_dir_all(directory)
        .map_err(|error| format!("create {}: {error}", directory.display()))?;
    let date = date(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;

    for package in PACKAGES {
        let bill = bill(package, TARGET, &date)?;
        let Some(program) = bill.crates.first() else {
            return Err(format!("cargo tree lists no crates of {package}"));
        };

        let formats = [
            ("cdx", cyclonedx::document(&bill, program)),
            ("spdx", spdx::document(&bill, program)),
        ];
        for (format, document) in formats {
            let path = directory.join(format!("{package}-{}.{format}.json", program.version));
            write_json(&path, &document)?;
        }
    }
    Ok(())
}

fn write_json(path: &Path, document: &Value) -> Result<(), String> {
    fs::write(path, format!("{document:#}\n"))
        .map_err(|error| format!("write {}: {error}", path.display()))
}

fn date(root: &Path) -> Result<String, String> {
    let epoch = source_date_epoch(root)?;
    let seconds: i64 = epoch
        .parse()
        .map_err(|error| format!("date {epoch}: {error}"))?;
    let date =
        jiff::Timestamp::from_second(seconds).map_err(|error| format!("date {epoch}: {error}"))?;
    Ok(date.to_string())
}

fn bill(package: &str, target: &str, date: &str) -> Result<Bill, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let tree = output(Command::new("cargo").current_dir(&root).args([
        "tree",
        "--locked",
        "--edges=normal,no-proc-macro",
        "--no-dedupe",
        "--prefix=depth",
        "--format= {p}|{l}",
        "--package",
        package,
        "--target",
        target,
    ]))?;

    let lock = root.join("Cargo.lock");
    let lock =
        fs::read_to_string(&lock).map_err(|error| format!("read {}: {error}", lock.display()))?;
    let crates = crates(&tree, &checksums(&lock))?;
    Ok(Bill {
        crates,
        date: date.to_owned(),
    })
}

/// Returns the checksums in `Cargo.lock` by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut checksums = BTreeMap::new();
    for package in lock.split("[[package]]") {
        let field = |name: &str| {
            let lines = package.lines().filter_map(|line| line.split_once(" = "));
            let value = lines
                .filter(|(key, _)| *key == name)
                .map(|(_, value)| value)
                .next()?;
            Some(value.trim_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(checksum)) =
            (field("name"), field("version"), field("checksum"))
        {
            checksums.insert((name, version), checksum);
        }
    }
    checksums
}

/// Reads lines such as `2 log v0.4.35|MIT OR Apache-2.0`, each of which begins with the depth in the tree.
fn crates(
    tree: &str,
    checksums: &BTreeMap<(String, String), String>,
) -> Result<Vec<Crate>, String> {
    let mut crates: Vec<Crate> = Vec::new();
    let mut ancestors: Vec<usize> = Vec::new();

    for line in tree.lines() {
        let invalid = || format!("cargo tree: unexpected line {line:?}");
        let (depth, rest) = line.split_once(' ').ok_or_else(invalid)?;
        let depth: usize = depth.parse().map_err(|_| invalid())?;
        let (package, licence) = rest.split_once('|').ok_or_else(invalid)?;
        let (name, rest) = package.split_once(" v").ok_or_else(invalid)?;
        let version = rest.split(' ').next().unwrap_or(rest);

        let found = crates
            .iter()
            .position(|one| one.name == name && one.version == version);
        let index = found.unwrap_or(crates.len());
        if found.is_none() {
            let checksum = checksums
                .get(&(name.to_owned(), version.to_owned()))
                .cloned();
            crates.push(Crate {
                name: name.to_owned(),
                version: version.to_owned(),
                // Old manifests separate alternatives by a slash, which is no SPDX expression.
                licence: licence.replace('/', " OR "),
                checksum,
                uses: BTreeSet::new(),
            });
        }

        ancestors.truncate(depth);
        if let Some(parent) = ancestors.last().and_then(|parent| crates.get_mut(*parent)) {
            parent.uses.insert(index);
        }
        ancestors.push(index);
    }
    Ok(crates)
}

#[cfg(test)]
mod tests;
