//! The files of a package, as they will stand on the installed system.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Build, Program, copy, create_dir, failed, make_empty, run};

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
        let pages = files(&tree.join("usr/share/man").join(section))?;
        compress(&pages)?;
    }
    Ok(())
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
    run(Command::new("gzip").arg("-9n").args(files))
}

/// Returns the files of a directory in the order of their names; none if the directory does not exist.
fn files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed("read", directory))? {
        files.push(entry.map_err(failed("read", directory))?.path());
    }
    files.sort();
    Ok(files)
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
