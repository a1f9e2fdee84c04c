//! Static binaries from pinned tools.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Architecture, Build, output, run};

/// Settings of the cargo-auditable of `.ci/fetch-cargo-auditable`: `cargo metadata` must respect
/// `Cargo.lock`.
const AUDITABLE_ARGUMENTS: &str = r#"{"offline":false,"locked":true,"frozen":false,"config":[]}"#;

/// Builds the binaries of all programs for `architecture` and returns their directory.
pub(super) fn build(build: &Build, architecture: &Architecture) -> Result<PathBuf, String> {
    let compiler = fetch(&build.root, "fetch-rust-source")?;
    let zig = fetch(&build.root, "fetch-zig")?;
    let auditable = fetch(&build.root, "fetch-cargo-auditable")?;
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
        .env(
            "PATH",
            path(&[&compiler.join("usr/bin"), &zig.join("bin"), &auditable]),
        )
        .env("CARGO_TARGET_DIR", &target_dir)
        .env("CARGO_ZIGBUILD_ZIG_PATH", zig.join("ziglang/zig"))
        .env("CARGO_ZIGBUILD_CACHE_DIR", build.work.join("zigbuild"))
        .env("ZIG_LOCAL_CACHE_DIR", build.work.join("zig"))
        .env("ZIG_GLOBAL_CACHE_DIR", build.work.join("zig"))
        // `cargo auditable` would give Cargo the wrapper's path, which changes the names of
        // symbols.
        .env("RUSTC_WORKSPACE_WRAPPER", "cargo-auditable")
        .env("CARGO_AUDITABLE_ORIG_ARGS", AUDITABLE_ARGUMENTS)
        // -Zbuild-std is unstable.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(build, &compiler)?))?;
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
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTFLAGS")
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

/// Returns the compiler's flags, which replace the directories of this machine in the binaries.
fn flags(build: &Build, compiler: &Path) -> Result<String, String> {
    let registry =
        output(Command::new("sh").args(["-c", r#"echo "${CARGO_HOME:-$HOME/.cargo}""#]))?;
    let library = compiler.join("usr/lib/rustlib/src/rust");
    let flags = [
        "-Clink-self-contained=no".to_owned(),
        format!("--remap-path-prefix={}=/build", build.root.display()),
        format!("--remap-path-prefix={}=/cargo", registry.trim()),
        format!("--remap-path-prefix={}=/rust", library.display()),
    ];
    // Cargo splits its variable at this character, so that paths may contain spaces.
    Ok(flags.join("\x1f"))
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
