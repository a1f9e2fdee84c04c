//! Archives that depend on nothing but the files in them.

use std::path::Path;
use std::process::Command;

use super::{Build, run};

/// Packs the directory `name` below `parent` into the artefact `NAME.tar.gz`.
pub(super) fn pack(build: &Build, parent: &Path, name: &str, artefact: &str) -> Result<(), String> {
    let archive = build.artefacts.join(format!("{artefact}.tar.gz"));
    run(tar(build, parent, &archive)
        // Without the date, which gzip otherwise adds.
        .arg("--use-compress-program=gzip -9n")
        .arg(name)
        .env_remove("GZIP"))
}

/// Returns a command that packs files of a directory, whose names the caller must add.
///
/// All files get the date of the build, the owner root and permissions that depend on no umask.
pub(super) fn tar(build: &Build, directory: &Path, archive: &Path) -> Command {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=gnu", "--sort=name"])
        .args(["--owner=0", "--group=0", "--numeric-owner"])
        .arg("--mode=u=rwX,go=rX")
        .arg(format!("--mtime=@{}", build.epoch))
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(directory)
        .env("LC_ALL", "C")
        .env_remove("TAR_OPTIONS");
    tar
}

/// Returns a command that compresses files without their names and dates.
pub(super) fn gzip() -> Command {
    let mut gzip = Command::new("gzip");
    gzip.arg("-9n").env_remove("GZIP");
    gzip
}

#[cfg(test)]
pub(super) mod tests {
    use std::env;
    use std::fs;
    use std::path::PathBuf;

    use super::super::{create_dir, write};
    use super::*;

    /// Environment variable with the directory of a test that runs in a process of its own.
    const DIRECTORY: &str = "XTASK_TEST_DIRECTORY";

    /// Builds a file in this process and in one with options for tar and gzip in its environment,
    /// and requires that both files are equal.
    ///
    /// `test` is the name of the calling test, which runs again in the other process because a
    /// process with threads cannot change its own environment safely.
    pub(in super::super) fn require_same_in_other_environment(
        test: &str,
        build: impl Fn(&Path) -> PathBuf,
    ) {
        if let Some(directory) = env::var_os(DIRECTORY) {
            build(Path::new(&directory));
            return;
        }

        let [expected, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let file = build(expected.path());
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", test])
            .env(DIRECTORY, other.path())
            .env("TAR_OPTIONS", "--transform=s/^/other-/")
            .env("GZIP", "--rsyncable")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let other_file = other
            .path()
            .join(file.strip_prefix(expected.path()).unwrap());
        assert!(fs::read(file).unwrap() == fs::read(other_file).unwrap());
    }

    #[test]
    fn archive_does_not_depend_on_the_environment() {
        require_same_in_other_environment(
            "dist::archive::tests::archive_does_not_depend_on_the_environment",
            |directory| {
                let build = Build {
                    root: directory.to_owned(),
                    work: directory.join("work"),
                    artefacts: directory.join("artefacts"),
                    epoch: "1700000000".to_owned(),
                };
                create_dir(&build.artefacts).unwrap();
                // The option of gzip changes only files that are not small.
                let numbers: Vec<String> = (0..40_000).map(|number| number.to_string()).collect();
                write(&build.work.join("top/numbers"), &numbers.join(" ")).unwrap();

                pack(&build, &build.work, "top", "top").unwrap();
                build.artefacts.join("top.tar.gz")
            },
        );
    }
}
