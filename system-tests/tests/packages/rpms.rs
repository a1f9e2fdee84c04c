//! RPM packages that the packages under test meet.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use system_tests::{artefact, output, repository_root};
use tempfile::TempDir;

use crate::debs::VERSION;

/// Returns the path of a package that `cargo xtask dist` has made.
pub(crate) fn dist(package: &str) -> PathBuf {
    let architecture = std::env::consts::ARCH;
    artefact(&format!("{package}-{VERSION}-1.{architecture}.rpm"))
}

/// A package made by a test, from a tree of files and a spec.
pub(crate) struct Rpm {
    directory: TempDir,
}

impl Rpm {
    /// Makes a package that contains the files, with their contents. All of them are executable.
    ///
    /// `metadata` are lines of the spec about the package: its relations and scriptlets.
    pub(crate) fn new(
        package: &str,
        version: &str,
        metadata: &str,
        files: &[(&str, &str)],
    ) -> Self {
        let rpm = Rpm {
            directory: tempfile::tempdir().unwrap(),
        };
        let mut list = String::new();
        for (file, content) in files {
            let path = rpm.tree().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            list.extend(["%attr(755, root, root) /", file, "\n"]);
        }
        let spec = rpm.directory.path().join("package.spec");
        let text = format!(
            "Name: {package}\nVersion: {version}\nRelease: 1\nSummary: package of a test\nLicense: MIT\n\
             BuildArch: noarch\nAutoReqProv: no\n{metadata}\n%description\nPackage of a test.\n\
             %install\nmkdir -p %{{buildroot}} %{{tree}}\ncp -a %{{tree}}/. %{{buildroot}}\n%files\n{list}"
        );
        fs::write(&spec, text).unwrap();
        rpm.build(&spec, &[]);
        rpm
    }

    /// Makes the package under test with another version, from the files of the one in
    /// `target/dist`.
    pub(crate) fn of_version(package: &str, version: &str) -> Self {
        let rpm = Rpm {
            directory: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(rpm.tree()).unwrap();
        output(
            Command::new("sh")
                .args([
                    "-ec",
                    "rpm2cpio \"$1\" | cpio --extract --quiet --make-directories",
                ])
                .arg("sh")
                .arg(dist(package))
                .current_dir(rpm.tree()),
        );
        let spec = repository_root().join(format!("packaging/rpm/{package}.spec"));
        let definitions = [
            format!("version_of_release {version}"),
            "date_of_release Thu Jan 01 2026".to_owned(),
            "maintainer Test <test@example.org>".to_owned(),
        ];
        rpm.build(&spec, &definitions);
        rpm
    }

    fn tree(&self) -> PathBuf {
        self.directory.path().join("tree")
    }

    fn build(&self, spec: &Path, definitions: &[String]) {
        let directory = self.directory.path().display();
        let mut rpmbuild = Command::new("rpmbuild");
        rpmbuild.args(["-bb", "--quiet"]);
        for definition in [
            format!("_topdir {directory}"),
            format!("tree {directory}/tree"),
        ]
        .iter()
        .chain(definitions)
        {
            rpmbuild.args(["--define", definition]);
        }
        output(rpmbuild.arg(spec));
    }

    /// Returns the path of the package, which exists as long as `self`.
    pub(crate) fn path(&self) -> PathBuf {
        let packages = self.directory.path().join("RPMS");
        let found = output(Command::new("find").arg(packages).args(["-name", "*.rpm"]));
        PathBuf::from(found.trim_end())
    }
}
