//! The signed repositories in a booted Debian system.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use system_tests::output;

use crate::system::System;

/// Directory of the repositories in the system.
const INSIDE: &str = "/srv/repository";

/// Directory of the repositories that `cargo xtask repository` has made with a new key.
static REPOSITORIES: LazyLock<PathBuf> = LazyLock::new(|| {
    let keys = tempfile::tempdir().unwrap();
    let with_keys = |program: &str| {
        let mut command = Command::new(program);
        command.env("GNUPGHOME", keys.path());
        command
    };
    let name = "test@example.org";
    output(
        with_keys("gpg")
            .args(["--batch", "--quiet", "--passphrase", ""])
            .args(["--quick-generate-key", name, "rsa3072", "sign"]),
    );
    let url = format!("file://{INSIDE}");
    output(with_keys(env!("CARGO")).args(["xtask", "repository", name, &url]));
    output(with_keys("gpgconf").args(["--kill", "gpg-agent"]));

    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/repository")
});

/// Copies the repositories into the system, in place of an earlier copy.
pub(crate) fn provide(system: &System) {
    system.booted.run(&format!("rm -rf {INSIDE}"));
    output(
        Command::new("cp")
            .arg("--archive")
            .arg(&*REPOSITORIES)
            .arg(system.booted.path(INSIDE.trim_start_matches('/'))),
    );
}

/// Inverts one bit of the byte in the middle of each file that the shell pattern below the repositories
/// matches.
pub(crate) fn damage(system: &System, pattern: &str) {
    system.booted.run(&format!(
        r#"for file in {INSIDE}/{pattern}; do
            middle=$(($(stat --format=%s "$file") / 2))
            byte=$(od -An -tu1 -j$middle -N1 "$file")
            printf "\\$(printf %o $((byte ^ 1)))" | dd of="$file" bs=1 seek=$middle conv=notrunc status=none
        done"#
    ));
}

/// Runs a command that must fail with a message that contains `reason`.
#[track_caller]
pub(crate) fn require_refusal(system: &System, command: &str, reason: &str) {
    let output = system.booted.try_run(&format!("({command}) 2>&1"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{command} succeeded:\n{text}");
    assert!(text.contains(reason), "{command}: no \"{reason}\":\n{text}");
}
