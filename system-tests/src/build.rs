//! Binaries of this workspace.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// How a binary is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// As `cargo build` does.
    Debug,
    /// As `cargo build --release` does: what users run, for figures of speed and size.
    Release,
}

impl Profile {
    /// Of Cargo's target directory.
    fn directory(self) -> &'static str {
        match self {
            Profile::Debug => "debug",
            Profile::Release => "release",
        }
    }
}

/// Names, where it is set, a target directory in which all binaries are built already: in a virtual machine Cargo would
/// take longer than the tests.
pub(crate) const PREBUILT: &str = "SYSTEM_TESTS_PREBUILT";

/// Builds `package` of this workspace, once in this test program, and returns the path of its binary.
///
/// Cargo gives the path of a binary only to tests of the package that it belongs to.
pub fn build(package: &'static str, profile: Profile) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<(&str, Profile), PathBuf>>> = Mutex::new(None);
    if let Some(target) = std::env::var_os(PREBUILT) {
        return Path::new(&target).join(profile.directory()).join(package);
    }
    // Held while Cargo works, so that tests which want the same binary wait for it. A build that failed fails each of them.
    let mut built = BUILT.lock().unwrap_or_else(|poisoned| {
        BUILT.clear_poison();
        poisoned.into_inner()
    });
    let release: &[&str] = if profile == Profile::Release {
        &["--release"]
    } else {
        &[]
    };
    let path = || cargo(&[&["build", "--package", package], release].concat());
    built
        .get_or_insert_default()
        .entry((package, profile))
        .or_insert_with(path)
        .clone()
}

/// As [`build`], for users, and with the C library in it: for a system that has none.
pub(crate) fn build_static(package: &str) -> PathBuf {
    // With a target named, the flags are not for build scripts and macros too.
    let target = "x86_64-unknown-linux-gnu";
    let flags = format!(r#"target.{target}.rustflags=["-C","target-feature=+crt-static"]"#);
    cargo(&[
        "build",
        "--release",
        "--package",
        package,
        "--target",
        target,
        "--config",
        &flags,
    ])
}

/// Builds the test program `name` of this package, and returns its path.
pub(crate) fn build_test(name: &str) -> PathBuf {
    cargo(&[
        "test",
        "--no-run",
        "--package",
        env!("CARGO_PKG_NAME"),
        "--test",
        name,
    ])
}

/// Runs Cargo and returns the path of the last program that it has built.
fn cargo(arguments: &[&str]) -> PathBuf {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(arguments)
        .arg("--message-format=json-render-diagnostics");
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit());
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", env!("CARGO")));
    assert!(
        output.status.success(),
        "cargo {} failed: see above",
        arguments.join(" ")
    );
    // The one field that is wanted of Cargo's messages does not make a JSON parser a dependency.
    let messages = String::from_utf8(output.stdout).expect("Cargo's messages are text");
    let field = "\"executable\":\"";
    let (_, rest) = messages
        .rsplit_once(field)
        .unwrap_or_else(|| panic!("cargo {}: no binary", arguments.join(" ")));
    PathBuf::from(rest.split('"').next().unwrap_or_default())
}
