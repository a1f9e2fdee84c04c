//! Repository for dnf, with signed packages.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use super::{NAME, Repository, failed, run_on};

/// Writes the repository, and the settings of dnf.
pub(super) fn create(repository: &Repository<'_>) -> Result<(), String> {
    let root = repository.directory.join("dnf");
    for package in repository.copy_packages(".rpm", &root)? {
        sign_package(repository, &package)?;
    }

    let epoch = &repository.build.epoch;
    run_on(
        Command::new("createrepo_c")
            .args(["--quiet", "--no-database", "--set-timestamp-to-revision"])
            .args(["--revision", epoch])
            .arg(&root),
        &root,
    )?;
    repository.sign(
        &root.join("repodata/repomd.xml"),
        "--detach-sign",
        "repomd.xml.asc",
    )?;

    let url = repository.url;
    repository.write(
        &format!("{NAME}.repo"),
        &format!(
            "[{NAME}]\nname={NAME}\nbaseurl={url}/dnf\ngpgkey={url}/{NAME}.asc\n\
             gpgcheck=1\nrepo_gpgcheck=1\n"
        ),
    )
}

fn sign_package(repository: &Repository<'_>, package: &Path) -> Result<(), String> {
    let mut rpmsign = Command::new("rpmsign");
    rpmsign.args(["--define", &format!("_gpg_name {}", repository.key)]);
    // Debian's rpmsign looks for a program "gpg2", which Debian no longer has.
    rpmsign.args(["--define", "__gpg /usr/bin/gpg"]);
    run_on(rpmsign.arg("--addsign").arg(package), package)?;

    // createrepo_c records the date of the file.
    let seconds = repository.build.epoch.parse().map_err(|error| {
        let epoch = &repository.build.epoch;
        format!("invalid SOURCE_DATE_EPOCH {epoch}: {error}")
    })?;
    let file = File::options().write(true).open(package);
    file.and_then(|file| file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)))
        .map_err(failed("set date of", package))
}
