//! Runs other programs.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// File of the source archive with the date of its artefacts.
pub(crate) const EPOCH_FILE: &str = ".source-date-epoch";

/// Runs a program, whose output appears in the terminal.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let status = command
        .status()
        .map_err(|error| format!("cannot run {}: {error}", name(command)))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("{}: {status}", name(command)))
}

/// Runs a program and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run {}: {error}", name(command)))?;
    if !output.status.success() {
        return Err(format!("{}: {}", name(command), output.status));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{}: {error}", name(command)))
}

/// Returns the date of all artefacts in seconds since 1970: `SOURCE_DATE_EPOCH`, that of the source
/// archive, or the date of the last commit in `root`.
pub(crate) fn source_date_epoch(root: &Path) -> Result<String, String> {
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch);
    }
    if let Ok(epoch) = fs::read_to_string(root.join(EPOCH_FILE)) {
        return Ok(epoch.trim().to_owned());
    }
    let commit = output(
        Command::new("git")
            .args(["log", "-1", "--format=%ct"])
            .current_dir(root),
    );
    let epoch = commit.map_err(|error| format!("{error}; set SOURCE_DATE_EPOCH"))?;
    Ok(epoch.trim().to_owned())
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
