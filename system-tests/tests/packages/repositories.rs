//! The signed repositories in a booted Debian system.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use system_tests::{output, repository_root};

use crate::system::System;

/// Directory of the repositories in the system.
const INSIDE: &str = "/srv/repository";

/// Date of the repositories in seconds since 1970.
const DATE: &str = "1700000000";

/// Directories with the repositories of the same packages, each signed with a key of its own.
static REPOSITORIES: LazyLock<[PathBuf; 2]> =
    LazyLock::new(|| ["repository", "foreign-repository"].map(make));

/// Makes a key, lets `cargo xtask repository` sign with it, and returns the directory of a copy.
fn make(name: &str) -> PathBuf {
    let keys = tempfile::tempdir().unwrap();
    let with_keys = |program: &str| {
        let mut command = Command::new(program);
        command
            .env("GNUPGHOME", keys.path())
            .env("SOURCE_DATE_EPOCH", DATE);
        command
    };
    let key = "test@example.org";
    output(
        with_keys("gpg")
            .args(["--batch", "--quiet", "--passphrase", ""])
            .args(["--quick-generate-key", key, "rsa3072", "sign"]),
    );
    let url = format!("file://{INSIDE}");
    output(with_keys(env!("CARGO")).args(["xtask", "repository", key, &url]));
    output(with_keys("gpgconf").args(["--kill", "gpg-agent"]));

    let made = repository_root().join("target/repository");
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    output(Command::new("rm").arg("-rf").arg(&copy));
    output(Command::new("cp").arg("--archive").args([&made, &copy]));
    copy
}

/// Copies the repositories into the system, in place of an earlier copy.
pub(crate) fn provide(system: &System) {
    copy_into(system, &REPOSITORIES[0]);
}

/// Copies repositories into the system that somebody else has signed.
pub(crate) fn provide_foreign(system: &System) {
    copy_into(system, &REPOSITORIES[1]);
}

fn copy_into(system: &System, repositories: &Path) {
    system.booted.run(&format!("rm -rf {INSIDE}"));
    output(
        Command::new("cp")
            .arg("--archive")
            .arg(repositories)
            .arg(system.booted.path(INSIDE.trim_start_matches('/'))),
    );
}

/// Inverts one bit of the byte in the middle of each file that the shell pattern below the
/// repositories matches.
pub(crate) fn damage(system: &System, pattern: &str) {
    system.booted.run(&format!(
        r#"for file in {INSIDE}/{pattern}; do
            middle=$(($(stat --format=%s "$file") / 2))
            byte=$(od -An -tu1 -j$middle -N1 "$file")
            printf "\\$(printf %o $((byte ^ 1)))" | dd of="$file" bs=1 seek=$middle conv=notrunc status=none
        done"#
    ));
}

#[test]
#[ignore = "needs packages and their tools"]
fn same_packages_give_the_same_repository_but_for_signatures() {
    let list = r#"
        find apt *.sources *.repo -type f ! -name InRelease ! -name Release.gpg -print0 |
            sort --zero-terminated | xargs --null sha256sum
        gunzip --stdout dnf/repodata/*-primary.xml.gz | grep '<time ' | sort
        grep --no-filename -e "^Date: " -e "<revision>" -e "<timestamp>" apt/dists/stable/Release dnf/repodata/repomd.xml"#;
    let [one, other] = REPOSITORIES.each_ref().map(|directory| {
        output(
            Command::new("sh")
                .args(["-ec", list])
                .current_dir(directory),
        )
    });
    assert_eq!(one, other);
    assert!(
        one.contains("Date: Tue, 14 Nov 2023 22:13:20 +0000\n"),
        "{one}"
    );
    assert!(
        one.contains(&format!("<revision>{DATE}</revision>")),
        "{one}"
    );
    assert!(one.contains(&format!("<time file=\"{DATE}\"")), "{one}");
}
