//! Tasks of the build host. Run them with `cargo xtask TASK`.

use std::io::{self, Write as _};
use std::process::ExitCode;

mod command;
mod completions;
mod config;
mod dist;
mod files;
mod generate;
mod man;
mod sbom;

const USAGE: &str = "\
Usage: cargo xtask TASK

Tasks:
  generate          write man pages, shell completions and config.toml to dist/
  generate --check  fail if files in dist/ differ from what `generate` would write
  dist [ARCH]       build static binaries, packages (.deb, .rpm), archives, container images
                    and SBOMs in target/dist/, for x86_64, aarch64 or, without ARCH, both
  repository KEY URL
                    make signed repositories for apt and dnf of the packages in target/dist/,
                    in target/repository/; gpg knows KEY, and URL will be their address
  source            only build the archive of the sources with all crates, in target/source/
  sbom              only list the crates of each program, in target/sbom/, as CycloneDX and SPDX";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["generate"] => generate::write(&files::dist()),
        ["generate", "--check"] => generate::check(&files::dist()),
        ["dist"] => dist::build(None),
        ["dist", architecture] => dist::build(Some(architecture)),
        ["repository", key, url] => dist::repository::create(key, url),
        ["source"] => dist::build_source(),
        ["sbom"] => sbom::write(&files::dist().join("../target/sbom")),
        ["help" | "-h" | "--help"] => {
            let printed = writeln!(io::stdout(), "{USAGE}");
            printed.map_err(|error| format!("cannot print: {error}"))
        }
        _ => Err(USAGE.to_owned()),
    };

    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // Standard error may be closed, which is no reason to panic.
            let _ = writeln!(io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}
