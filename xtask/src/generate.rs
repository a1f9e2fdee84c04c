//! Generated files in `dist/`: man pages, shell completions and the configuration file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::Files;
use crate::{completions, config, man};

/// Directories in `dist/` that contain only generated files.
const DIRECTORIES: [&str; 4] = [
    "usr/share/man",
    "usr/share/bash-completion",
    "usr/share/zsh",
    "usr/share/fish",
];

/// Writes all generated files to `dist` and removes those that are no longer generated.
pub(crate) fn write(dist: &Path) -> Result<(), String> {
    let files = files();
    for path in unexpected(dist, &files)? {
        let path = dist.join(path);
        fs::remove_file(&path).map_err(failed("remove", &path))?;
    }

    for (path, contents) in &files {
        let path = dist.join(path);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed("create", directory))?;
        }
        fs::write(&path, contents).map_err(failed("write", &path))?;
    }
    Ok(())
}

/// Compares the files in `dist` with those that [`write()`] would write.
pub(crate) fn check(dist: &Path) -> Result<(), String> {
    let files = files();
    let mut differences = Vec::new();

    for (path, contents) in &files {
        match fs::read(dist.join(path)) {
            Ok(found) if found == *contents => {}
            Ok(_) => differences.push(format!("outdated: dist/{}", path.display())),
            Err(error) => differences.push(failed("read", path)(error)),
        }
    }
    for path in unexpected(dist, &files)? {
        differences.push(format!("no longer generated: dist/{}", path.display()));
    }

    if differences.is_empty() {
        return Ok(());
    }
    differences.push("run: cargo xtask generate".to_owned());
    Err(differences.join("\n"))
}

fn files() -> Files {
    let mut files = man::pages();
    files.extend(completions::scripts());
    files.extend(config::file());
    files
}

/// Returns other files than `files` in the generated directories of `dist`.
fn unexpected(dist: &Path, files: &Files) -> Result<Vec<PathBuf>, String> {
    let mut unexpected = Vec::new();
    let mut directories: Vec<PathBuf> = DIRECTORIES.map(|path| dist.join(path)).into();

    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(failed("read", &directory))?,
        };
        for entry in entries {
            let path = entry.map_err(failed("read", &directory))?.path();
            if path.is_dir() {
                directories.push(path);
            } else if let Ok(relative) = path.strip_prefix(dist) {
                if !files.contains_key(relative) {
                    unexpected.push(relative.to_owned());
                }
            }
        }
    }

    Ok(unexpected)
}

fn failed(action: &str, path: &Path) -> impl Fn(io::Error) -> String {
    move |error| format!("cannot {action} {}: {error}", path.display())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use crate::files::dist;

    #[test]
    fn committed_files_are_up_to_date() {
        assert_eq!(check(&dist()), Ok(()));
    }

    #[test]
    fn check_names_outdated_missing_and_extra_files() {
        let dist = tempfile::tempdir().unwrap();
        write(dist.path()).unwrap();
        assert_eq!(check(dist.path()), Ok(()));

        let man = dist.path().join("usr/share/man");
        fs::write(man.join("man8/xen-guest-agent.8"), "old").unwrap();
        fs::remove_file(man.join("man1/xenstore.1")).unwrap();
        fs::write(man.join("man1/other.1"), "").unwrap();
        let expected = "cannot read usr/share/man/man1/xenstore.1: No such file or directory (os error 2)\n\
            outdated: dist/usr/share/man/man8/xen-guest-agent.8\n\
            no longer generated: dist/usr/share/man/man1/other.1\n\
            run: cargo xtask generate";
        assert_eq!(check(dist.path()), Err(expected.to_owned()));

        write(dist.path()).unwrap();
        assert_eq!(check(dist.path()), Ok(()));
    }
}
