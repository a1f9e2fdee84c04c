//! The `xenstore` command. The library exists for `main.rs` and for the generator of man pages and
//! completions, which needs the definition of the command line.

mod cli;
mod escape;
mod failure;
mod ls;
mod nodes;
mod permissions;
mod run;
mod store;
mod values;
mod watch;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use cli::Cli;
use failure::Failure;

/// Returns the definition of the command line.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command and returns its exit status.
pub fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let program = program(&arguments);
    let cli = match Cli::try_parse_from(cli::expand_link(&program, arguments)) {
        Ok(cli) => cli,
        Err(error) => return Failure::Usage(error).end(&program),
    };

    let mut out = BufWriter::new(io::stdout().lock());
    let result = run::run(cli, &mut out);
    // Like Xen's tools, the command prints what it found before a failure.
    let printed = out.flush().map_err(Failure::from);
    match result.and(printed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.end(&program),
    }
}

/// Returns the name of the program or link that was called.
fn program(arguments: &[OsString]) -> String {
    let name = arguments
        .first()
        .and_then(|path| Path::new(path).file_name());
    name.map_or_else(
        || "xenstore".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
