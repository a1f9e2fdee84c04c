//! Repository for apt: one suite with one component.

use std::process::Command;

use super::{ARCHITECTURES, NAME, Repository, archive, date, output, run_on, write};

/// Writes the repository, and the settings of apt.
pub(super) fn create(repository: &Repository<'_>) -> Result<(), String> {
    let root = repository.directory.join("apt");
    let packages = repository.copy_packages(".deb", &root.join("pool/main"))?;

    let mut architectures = Vec::new();
    for architecture in ARCHITECTURES.map(|known| known.debian) {
        let suffix = format!("_{architecture}.deb");
        if !packages
            .iter()
            .any(|path| path.to_string_lossy().ends_with(&suffix))
        {
            continue;
        }
        architectures.push(architecture);

        let index = root.join(format!("dists/stable/main/binary-{architecture}/Packages"));
        let list = output(
            Command::new("apt-ftparchive")
                .args(["--arch", architecture, "packages", "pool"])
                .current_dir(&root),
        );
        let list = list.map_err(|error| format!("{}: {error}", root.display()))?;
        write(&index, &list)?;
        run_on(archive::gzip().arg("--keep").arg(&index), &index)?;
        run_on(
            Command::new("xz")
                .args(["--threads=1", "--keep"])
                .arg(&index)
                .env_remove("XZ_DEFAULTS")
                .env_remove("XZ_OPT"),
            &index,
        )?;
    }

    write_release(repository, &architectures)?;
    repository.write(
        &format!("{NAME}.sources"),
        &format!(
            "Types: deb\nURIs: {}/apt\nSuites: stable\nComponents: main\n\
             Signed-By: /etc/apt/keyrings/{NAME}.asc\n",
            repository.url
        ),
    )
}

/// Writes the list of indices with their checksums, and signs it.
fn write_release(repository: &Repository<'_>, architectures: &[&str]) -> Result<(), String> {
    let suite = repository.directory.join("apt/dists/stable");
    let fields = [
        ("Origin", NAME.to_owned()),
        ("Label", NAME.to_owned()),
        ("Suite", "stable".to_owned()),
        ("Codename", "stable".to_owned()),
        ("Architectures", architectures.join(" ")),
        ("Components", "main".to_owned()),
        (
            "Date",
            date(&repository.build, "+%a, %d %b %Y %H:%M:%S +0000")?,
        ),
        // An upload that takes a while then harms no concurrent `apt update`.
        ("Acquire-By-Hash", "yes".to_owned()),
    ];

    let mut command = Command::new("apt-ftparchive");
    command.args([
        "-o",
        "APT::FTPArchive::DoByHash=true",
        "--no-md5",
        "--no-sha1",
    ]);
    for (name, value) in fields {
        command.args(["-o", &format!("APT::FTPArchive::Release::{name}={value}")]);
    }
    let text = output(command.arg("release").arg(&suite))
        .map_err(|error| format!("{}: {error}", suite.display()))?;

    let release = suite.join("Release");
    write(&release, &text)?;
    repository.sign(&release, "--clear-sign", "InRelease")?;
    repository.sign(&release, "--detach-sign", "Release.gpg")
}
