//! Binaries of this workspace.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Cargo profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `cargo build`.
    Debug,
    /// `cargo build --release`: for measurements, because users run this build.
    Release,
}

impl Profile {
    /// Name of the subdirectory of Cargo's target directory.
    fn directory(self) -> &'static str {
        match self {
            Profile::Debug => "debug",
            Profile::Release => "release",
        }
    }
}

/// Environment variable with a target directory in which all binaries are already built. In a
/// virtual machine Cargo would take longer than the tests.
pub(crate) const PREBUILT: &str = "SYSTEM_TESTS_PREBUILT";

/// Whether the test runs in a [`Machine`](crate::Machine).
pub(crate) fn is_emulated() -> bool {
    std::env::var_os(PREBUILT).is_some()
}

/// Builds `package` of this workspace, once per test program, and returns the path of its binary.
///
/// Needed because Cargo passes the path of a binary only to tests of the same package.
pub fn build(package: &'static str, profile: Profile) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<(&str, Profile), PathBuf>>> = Mutex::new(None);
    if let Some(target) = std::env::var_os(PREBUILT) {
        return Path::new(&target).join(profile.directory()).join(package);
    }

    // The lock is held while Cargo works, so that other tests wait for the binary. After a failed
    // build each of them tries again.
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

/// Builds an example of this package, and returns the path of its binary.
pub fn build_example(name: &str) -> PathBuf {
    cargo(&[
        "build",
        "--package",
        env!("CARGO_PKG_NAME"),
        "--example",
        name,
    ])
}

/// Builds all examples of the library, and returns the directory of their binaries.
pub fn build_library_examples() -> PathBuf {
    let mut program = cargo(&[
        "build",
        "--package",
        "xenstore-client",
        "--examples",
        "--all-features",
    ]);
    program.pop();
    program
}

/// Builds a statically linked release binary, for a system without a C library.
pub(crate) fn build_static(package: &str) -> PathBuf {
    // The explicit target keeps the flags away from build scripts and macros.
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

/// Returns the path of a static binary of the agent that `cargo xtask dist` has made.
pub fn static_agent(architecture: &str) -> PathBuf {
    artefact(&format!("xen-guest-agent-linux-{architecture}"))
}

/// Returns the path of a static binary of the `xenstore` command that `cargo xtask dist` has made.
pub fn static_command(architecture: &str) -> PathBuf {
    artefact(&format!("xenstore-linux-{architecture}"))
}

/// Returns the path of a file that `cargo xtask dist` has made.
///
/// Panics if the file is missing.
pub fn artefact(name: &str) -> PathBuf {
    let path = repository_root().join("target/dist").join(name);
    assert!(
        path.exists(),
        "{} is missing: run cargo xtask dist",
        path.display()
    );
    path
}

/// Returns the absolute path of this repository, without symbolic links.
pub fn repository_root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize()
        .unwrap_or_else(|error| panic!("{}: {error}", root.display()))
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

    // Extracting one field by hand avoids parsing all of Cargo's JSON messages.
    let messages = String::from_utf8(output.stdout).expect("Cargo's messages are text");
    let field = "\"executable\":\"";
    let (_, rest) = messages
        .rsplit_once(field)
        .unwrap_or_else(|| panic!("cargo {}: no binary", arguments.join(" ")));
    PathBuf::from(rest.split('"').next().unwrap_or_default())
}
