//! Artefacts of a release: static binaries, packages and archives, in `target/dist/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

mod archive;
mod binaries;
mod deb;
mod oci;
pub(crate) mod repository;
mod rpm;
mod source;
mod talos;
mod tarball;
mod third_party;
mod tree;

use crate::command::{output, run, source_date_epoch};
use crate::sbom;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Maintainer of the packages. The project has no address for mail.
const MAINTAINER: &str = "xen-guest-agent developers <maintainers@xen-guest-agent.example>";

/// A processor architecture, by its names.
struct Architecture {
    /// In names of files and in RPM.
    name: &'static str,
    /// In Debian, and in container images.
    debian: &'static str,
    /// Rust's target.
    target: &'static str,
}

const ARCHITECTURES: [Architecture; 2] = [
    Architecture {
        name: "x86_64",
        debian: "amd64",
        target: "x86_64-unknown-linux-musl",
    },
    Architecture {
        name: "aarch64",
        debian: "arm64",
        target: "aarch64-unknown-linux-musl",
    },
];

/// A program that has a package of its own.
struct Program {
    package: &'static str,
    binary: &'static str,
    /// Path of the binary on the installed system.
    installed: &'static str,
}

const PROGRAMS: [Program; 2] = [
    Program {
        package: "xen-guest-agent",
        binary: "xen-guest-agent",
        installed: "usr/sbin/xen-guest-agent",
    },
    Program {
        package: "xenstore-cli",
        binary: "xenstore",
        installed: "usr/bin/xenstore",
    },
];

/// Directories of a build, and the date that all its files get.
struct Build {
    root: PathBuf,
    work: PathBuf,
    artefacts: PathBuf,
    /// Seconds since 1970.
    epoch: String,
}

/// Compiled programs for one architecture.
struct Compiled<'a> {
    architecture: &'a Architecture,
    /// Directory of the binaries.
    binaries: PathBuf,
    /// Text for each of `PROGRAMS` with the licences of everything from elsewhere in it.
    licences: [String; 2],
}

/// Builds the artefacts for `architecture`, or for all architectures.
pub(crate) fn build(architecture: Option<&str>) -> Result<(), String> {
    let build = Build::new()?;
    let known = ARCHITECTURES
        .iter()
        .filter(|known| architecture.is_none_or(|name| name == known.name));
    let architectures: Vec<&Architecture> = known.collect();
    if architectures.is_empty() {
        let names = ARCHITECTURES.map(|known| known.name).join(", ");
        return Err(format!("unknown architecture; choose from: {names}"));
    }

    let mut all_compiled = Vec::new();
    for architecture in architectures {
        let compiled = Compiled::new(&build, architecture)?;

        for (program, licences) in PROGRAMS.iter().zip(&compiled.licences) {
            let binary = compiled.binaries.join(program.binary);
            let name = format!("{}-linux-{}", program.binary, architecture.name);
            copy(&binary, &build.artefacts.join(name))?;

            deb::build(&build, program, architecture, &binary, licences)?;
            rpm::build(&build, program, architecture, &binary, licences)?;
        }
        tarball::build(&build, &compiled)?;
        all_compiled.push(compiled);
    }
    oci::build(&build, &all_compiled)?;
    source::build(&build)?;
    sbom::write(&build.artefacts)?;
    talos::build(&build, &all_compiled)?;
    build.write_checksums()
}

/// Builds only the archive of the sources, in `target/source/`.
pub(crate) fn build_source() -> Result<(), String> {
    let mut build = Build::existing()?;
    build.artefacts = build.root.join("target/source");
    make_empty(&build.artefacts)?;
    source::build(&build)
}

impl<'a> Compiled<'a> {
    fn new(build: &Build, architecture: &'a Architecture) -> Result<Self, String> {
        let binaries = binaries::build(build, architecture)?;
        let [agent, command] = &PROGRAMS;
        let licences = [
            third_party::licences(build, agent, architecture)?,
            third_party::licences(build, command, architecture)?,
        ];
        Ok(Self {
            architecture,
            binaries,
            licences,
        })
    }
}

impl Build {
    /// Returns the directories of a new build, without artefacts of an earlier one.
    fn new() -> Result<Self, String> {
        let build = Self::existing()?;
        make_empty(&build.artefacts)?;
        Ok(build)
    }

    /// Returns the directories with what they contain.
    fn existing() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let root = root.canonicalize().map_err(failed("find", &root))?;
        Ok(Self {
            work: root.join("target/dist-work"),
            artefacts: root.join("target/dist"),
            epoch: source_date_epoch(&root)?,
            root,
        })
    }

    fn write_checksums(&self) -> Result<(), String> {
        let artefacts = files(&self.artefacts)?;
        let sums = output(
            Command::new("sha256sum")
                .args(artefacts.iter().filter_map(|path| path.file_name()))
                .current_dir(&self.artefacts),
        )?;
        write(&self.artefacts.join("SHA256SUMS"), &sums)
    }
}

/// Returns the date of the build in UTC, in a format of date(1).
fn date(build: &Build, format: &str) -> Result<String, String> {
    let seconds = format!("@{}", build.epoch);
    let date = output(
        Command::new("date")
            .args(["--utc", "-d", &seconds, format])
            .env("LC_ALL", "C"),
    )?;
    Ok(date.trim().to_owned())
}

/// Returns the paths of files and directories in a directory, in the order of their names.
fn files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed("read", directory))? {
        files.push(entry.map_err(failed("read", directory))?.path());
    }
    files.sort();
    Ok(files)
}

fn make_empty(directory: &Path) -> Result<(), String> {
    if directory.exists() {
        fs::remove_dir_all(directory).map_err(failed("remove", directory))?;
    }
    create_dir(directory)
}

fn create_dir(directory: &Path) -> Result<(), String> {
    fs::create_dir_all(directory).map_err(failed("create", directory))
}

/// Copies a file, and creates the directories that lead to it.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    if let Some(directory) = to.parent() {
        create_dir(directory)?;
    }
    fs::copy(from, to).map_err(failed("copy", from))?;
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(failed("read", path))
}

/// Writes a file, and creates the directories that lead to it.
fn write(path: &Path, contents: &str) -> Result<(), String> {
    if let Some(directory) = path.parent() {
        create_dir(directory)?;
    }
    fs::write(path, contents).map_err(failed("write", path))
}

fn failed<'a>(action: &'a str, path: &'a Path) -> impl FnOnce(std::io::Error) -> String + 'a {
    move |error| format!("cannot {action} {}: {error}", path.display())
}
