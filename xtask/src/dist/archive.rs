//! Archives that depend on nothing but the files in them.

use std::path::Path;
use std::process::Command;

use super::{Build, run};

/// Packs the directory `name` below `parent` into the artefact `NAME.tar.gz`.
///
/// All files get the date of the build, the owner root and permissions that depend on no umask.
pub(super) fn pack(build: &Build, parent: &Path, name: &str, artefact: &str) -> Result<(), String> {
    run(Command::new("tar")
        .args(["--create", "--format=gnu", "--sort=name"])
        .args(["--owner=0", "--group=0", "--numeric-owner"])
        .arg("--mode=u=rwX,go=rX")
        .arg(format!("--mtime=@{}", build.epoch))
        // Without the date, which gzip otherwise adds.
        .arg("--use-compress-program=gzip -9n")
        .arg("--file")
        .arg(build.artefacts.join(format!("{artefact}.tar.gz")))
        .arg("--directory")
        .arg(parent)
        .arg(name)
        .env("LC_ALL", "C")
        .env_remove("GZIP")
        .env_remove("TAR_OPTIONS"))
}
