//! The packages under test, and other packages that they meet.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use system_tests::{artefact, output};
use tempfile::TempDir;

/// Version of the packages under test.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Returns the path of a package that `cargo xtask dist` has made.
pub(crate) fn dist(package: &str) -> PathBuf {
    let architecture = output(Command::new("dpkg").arg("--print-architecture"));
    artefact(&format!("{package}_{VERSION}_{}.deb", architecture.trim()))
}

/// A package made by a test.
pub(crate) struct Deb {
    directory: TempDir,
}

impl Deb {
    /// Makes an empty package of this version, for all architectures.
    pub(crate) fn new(package: &str, version: &str) -> Self {
        let deb = Deb {
            directory: tempfile::tempdir().unwrap(),
        };
        let control = format!(
            "Package: {package}\nVersion: {version}\nArchitecture: all\n\
             Maintainer: Test <test@example.org>\nDescription: package of a test\n"
        );
        deb.with_file("DEBIAN/control", 0o644, &control)
    }

    /// Takes an existing package apart, so that it can be changed.
    pub(crate) fn unpack(path: &Path) -> Self {
        let deb = Deb {
            directory: tempfile::tempdir().unwrap(),
        };
        output(
            Command::new("dpkg-deb")
                .arg("--raw-extract")
                .arg(path)
                .arg(deb.root()),
        );
        deb
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// Adds or replaces a file.
    pub(crate) fn with_file(self, file: &str, mode: u32, content: &str) -> Self {
        let path = self.root().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    /// Changes a text file, which must exist.
    pub(crate) fn edit(self, file: &str, change: impl FnOnce(&str) -> String) -> Self {
        let path = self.root().join(file);
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{file} is not in the package: {error}"));
        fs::write(path, change(&text)).unwrap();
        self
    }

    /// Builds the package and returns its path. The file exists as long as `self`.
    pub(crate) fn build(&self) -> PathBuf {
        let path = self.directory.path().join("package.deb");
        output(
            Command::new("dpkg-deb")
                .args(["--root-owner-group", "-Znone", "--build"])
                .arg(self.root())
                .arg(&path),
        );
        path
    }
}
