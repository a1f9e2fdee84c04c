//! Signed repositories of the packages in `target/dist/`, for apt and dnf.
//!
//! The same packages at the same date give the same files, except signatures, signed RPM packages
//! and the metadata with their checksums.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{
    ARCHITECTURES, Build, archive, copy, date, failed, files, make_empty, output, run, write,
};

mod apt;
mod dnf;

/// Name of the project in repositories and in the names of files.
const NAME: &str = "xen-guest-agent";

/// Both repositories, in one directory.
struct Repository<'a> {
    build: Build,
    directory: PathBuf,
    /// Fingerprint of the key, or another name that gpg accepts.
    key: &'a str,
    /// Future address of the directory, without a slash at its end.
    url: &'a str,
}

/// Writes repositories, public key and settings of apt and dnf to `target/repository/`.
///
/// `key` names a key of gpg, and `url` is the future address of the directory. Fails if there are
/// no packages, if a tool is missing, or if gpg does not have the secret key.
pub(crate) fn create(key: &str, url: &str) -> Result<(), String> {
    let build = Build::existing()?;
    let repository = Repository {
        directory: build.root.join("target/repository"),
        key,
        url: url.trim_end_matches('/'),
        build,
    };
    make_empty(&repository.directory)?;

    apt::create(&repository)?;
    dnf::create(&repository)?;
    repository.export_key()
}

impl Repository<'_> {
    /// Copies the packages whose names end with `extension`, and returns the paths of the copies.
    fn copy_packages(&self, extension: &str, to: &Path) -> Result<Vec<PathBuf>, String> {
        let from = &self.build.artefacts;
        let mut copies = Vec::new();
        for path in files(from)? {
            let name = path.file_name().unwrap_or_default();
            if name.to_string_lossy().ends_with(extension) {
                let target = to.join(name);
                copy(&path, &target)?;
                copies.push(target);
            }
        }

        if copies.is_empty() {
            let from = from.display();
            return Err(format!(
                "no *{extension} in {from}; run `cargo xtask dist` first"
            ));
        }
        Ok(copies)
    }

    /// Writes a signature of `file` to the file `signature` beside it. `kind` is gpg's option for
    /// the kind of signature.
    fn sign(&self, file: &Path, kind: &str, signature: &str) -> Result<(), String> {
        let mut gpg = self.gpg();
        gpg.arg("--output").arg(file.with_file_name(signature));
        run_on(gpg.arg(kind).arg(file), file)
    }

    fn export_key(&self) -> Result<(), String> {
        let mut gpg = self.gpg();
        gpg.args(["--export-options", "export-minimal", "--export", self.key]);
        self.write(&format!("{NAME}.asc"), &output(&mut gpg)?)
    }

    fn gpg(&self) -> Command {
        let mut gpg = Command::new("gpg");
        gpg.args(["--batch", "--quiet", "--armor", "--local-user", self.key]);
        gpg
    }

    fn write(&self, file: &str, contents: &str) -> Result<(), String> {
        write(&self.directory.join(file), contents)
    }
}

/// Runs a program that works on `path`.
fn run_on(command: &mut Command, path: &Path) -> Result<(), String> {
    run(command).map_err(|error| format!("{}: {error}", path.display()))
}
