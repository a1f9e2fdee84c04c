//! Static binaries, the same on every machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Architecture, Build, output, run};

/// Builds the binaries of all programs for `architecture` and returns their directory.
pub(super) fn build(build: &Build, architecture: &Architecture) -> Result<PathBuf, String> {
    let compiler = fetch(&build.root, "fetch-rust")?;
    let zig = fetch(&build.root, "fetch-zig")?;
    let library = library(build)?;
    let target_dir = build.work.join("build");

    run(cargo(build, &compiler)?
        .args([
            "zigbuild",
            "--release",
            "--locked",
            "-Zbuild-std=std,panic_abort",
        ])
        .args(["-p", "xen-guest-agent", "-p", "xenstore-cli"])
        .args(["--target", architecture.target])
        .env("PATH", path(&[&compiler.join("usr/bin"), &zig.join("bin")]))
        .env("CARGO_TARGET_DIR", &target_dir)
        .env("CARGO_ZIGBUILD_ZIG_PATH", zig.join("ziglang/zig"))
        .env("CARGO_ZIGBUILD_CACHE_DIR", build.work.join("zigbuild"))
        // -Zbuild-std is unstable, and so is the variable that names the source.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", &library)
        .env("RUSTFLAGS", flags(build)?))?;
    Ok(target_dir.join(architecture.target).join("release"))
}

/// Returns a command for the pinned Cargo, without the influence of the Cargo that runs this task.
pub(super) fn cargo(build: &Build, compiler: &Path) -> Result<Command, String> {
    let cargo = compiler.join("usr/bin/cargo");
    let libraries = output(
        Command::new("sh")
            .args([
                "-c",
                r#"printf '%s:' "$1"/usr/lib/*-linux-gnu "$1"/lib/*-linux-gnu"#,
                "sh",
            ])
            .arg(compiler),
    )?;

    let mut command = Command::new(&cargo);
    command
        .env("CARGO", &cargo)
        .env("LD_LIBRARY_PATH", libraries.trim_end_matches(':'))
        .env("SOURCE_DATE_EPOCH", &build.epoch)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTUP_TOOLCHAIN")
        .current_dir(&build.root);
    Ok(command)
}

/// Runs a script of `.ci` that fetches a tool, and returns the tool's directory.
pub(super) fn fetch(root: &Path, script: &str) -> Result<PathBuf, String> {
    let script = root.join(".ci").join(script);
    let directory = output(Command::new("bash").arg(script).current_dir(root))?;
    Ok(PathBuf::from(directory.trim()))
}

/// Returns the source of the standard library, in a directory of this workspace.
///
/// Cargo hashes paths inside the workspace relative to it. Any other path would change the names of symbols.
fn library(build: &Build) -> Result<PathBuf, String> {
    let source = fetch(&build.root, "fetch-rust-source")?;
    let library = build.work.join("library");
    if !library.exists() {
        super::create_dir(&build.work)?;
        run(Command::new("cp").arg("-r").args([&source, &library]))?;
    }
    Ok(library)
}

/// Returns the compiler's flags, which replace the directories of this machine in the binaries.
fn flags(build: &Build) -> Result<String, String> {
    let registry =
        output(Command::new("sh").args(["-c", r#"echo "${CARGO_HOME:-$HOME/.cargo}""#]))?;
    let flags = [
        "-C link-self-contained=no".to_owned(),
        format!("--remap-path-prefix={}=/build", build.root.display()),
        format!("--remap-path-prefix={}=/cargo", registry.trim()),
    ];
    Ok(flags.join(" "))
}

/// Returns the search path for programs, with `first` in front.
fn path(first: &[&Path]) -> String {
    let mut directories: Vec<String> = first
        .iter()
        .map(|directory| directory.display().to_string())
        .collect();
    directories.extend(std::env::var("PATH"));
    directories.join(":")
}
