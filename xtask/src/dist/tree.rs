//! The files of a package, as they will stand on the installed system.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Build, Program, archive, copy, create_dir, failed, files, make_empty, run, write};

/// Files of `dist/` that packages contain, by their directory.
const INSTALLED: [&str; 7] = [
    "etc/xen-guest-agent",
    "usr/lib/systemd",
    "usr/lib/sysusers.d",
    "usr/lib/udev",
    "usr/share/bash-completion",
    "usr/share/fish",
    "usr/share/man",
];

/// Directory in `dist/` of completions for zsh, and in `dist/` as in RPM packages.
const ZSH: &str = "usr/share/zsh/site-functions";

/// Creates a tree with the files that all kinds of packages of `program` have in common.
///
/// Debian has its own directory of `zsh` completions.
pub(super) fn create(
    build: &Build,
    program: &Program,
    binary: &Path,
    zsh: &str,
    tree: &Path,
) -> Result<(), String> {
    make_empty(tree)?;
    let dist = build.root.join("dist");

    for directory in INSTALLED {
        copy_directory(program, &dist.join(directory), &tree.join(directory))?;
    }
    copy_directory(program, &dist.join(ZSH), &tree.join(zsh))?;

    let installed = tree.join(program.installed);
    copy(binary, &installed)?;
    if program.binary == "xenstore" {
        link_commands(&dist, &installed)?;
    } else {
        create_dir(&tree.join("etc/xen-guest-agent/conf.d"))?;
        create_dir(&tree.join("etc/xen-guest-agent/services.d"))?;
    }

    for section in ["man1", "man5", "man8"] {
        let pages = tree.join("usr/share/man").join(section);
        if pages.exists() {
            compress(&files(&pages)?)?;
        }
    }
    Ok(())
}

/// Adds the licences of `program` to `directory`, a directory of licences of packages.
///
/// `third_party` is the text with the licences of everything from elsewhere.
pub(super) fn add_licences(
    build: &Build,
    program: &Program,
    third_party: &str,
    directory: &Path,
) -> Result<(), String> {
    let licences = directory.join(program.package);
    for file in ["LICENSE-MIT", "LICENSE-APACHE"] {
        copy(&build.root.join(file), &licences.join(file))?;
    }
    write(&licences.join("third-party-licenses.txt"), third_party)
}

/// Sets the permissions of all files in `tree`, whatever the umask of this process is.
pub(super) fn set_permissions(tree: &Path, executable: &[&str]) -> Result<(), String> {
    run(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(tree))?;
    for path in executable {
        let path = tree.join(path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(failed("set permissions of", &path))?;
    }
    Ok(())
}

/// Compresses files with gzip, without name and date.
pub(super) fn compress(files: &[PathBuf]) -> Result<(), String> {
    if files.is_empty() {
        return Ok(());
    }
    run(archive::gzip().args(files))
}

/// Copies the files of a directory that belong to `program`.
fn copy_directory(program: &Program, from: &Path, to: &Path) -> Result<(), String> {
    for path in files(from)? {
        let Some(name) = path.file_name() else {
            continue;
        };
        let copied = to.join(name);

        if path.is_dir() {
            copy_directory(program, &path, &copied)?;
        } else if is_of(program, &name.to_string_lossy()) {
            copy(&path, &copied)?;
        }
    }
    Ok(())
}

/// Whether a file of `dist/` belongs to `program`. The command's files begin with its name.
fn is_of(program: &Program, name: &str) -> bool {
    let is_command = name.trim_start_matches('_').starts_with("xenstore");
    is_command == (program.binary == "xenstore")
}

/// Creates a link to the command for each of its other names, which are those of its manual pages.
pub(super) fn link_commands(dist: &Path, installed: &Path) -> Result<(), String> {
    for page in files(&dist.join("usr/share/man/man1"))? {
        let Some(name) = page.file_stem().filter(|name| *name != "xenstore") else {
            continue;
        };
        let link = installed.with_file_name(name);
        symlink("xenstore", &link).map_err(failed("create", &link))?;
    }
    Ok(())
}
