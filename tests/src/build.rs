//! Binaries of this workspace.

use std::collections::HashMap;
use std::path::PathBuf;
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

/// Builds `package` of this workspace, once in this test program, and returns the path of its binary.
///
/// Cargo gives the path of a binary only to tests of the package that it belongs to.
pub fn build(package: &'static str, profile: Profile) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<(&str, Profile), PathBuf>>> = Mutex::new(None);
    // Held while Cargo works, so that tests which want the same binary wait for it. A build that failed fails each of them.
    let mut built = BUILT.lock().unwrap_or_else(|poisoned| {
        BUILT.clear_poison();
        poisoned.into_inner()
    });
    built.get_or_insert_default().entry((package, profile)).or_insert_with(|| cargo(package, profile)).clone()
}

fn cargo(package: &str, profile: Profile) -> PathBuf {
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--message-format=json-render-diagnostics", "--package", package]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit());
    let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", env!("CARGO")));
    assert!(output.status.success(), "cargo build --package {package} failed: see above");
    // The one field that is wanted of Cargo's messages does not make a JSON parser a dependency.
    let messages = String::from_utf8(output.stdout).expect("Cargo's messages are text");
    let field = "\"executable\":\"";
    let (_, rest) = messages.rsplit_once(field).unwrap_or_else(|| panic!("package {package} has no binary"));
    PathBuf::from(rest.split('"').next().unwrap_or_default())
}
