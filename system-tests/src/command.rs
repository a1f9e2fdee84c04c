//! Running the tools of Debian that tests need.

use std::process::Command;

/// Runs a command that must succeed, and returns its standard output.
#[track_caller]
pub fn output(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}: this needs Debian 12"));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {} (was there an `apt-get update`?):\n{stdout}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}
