//! The `xenstore` command. The library exists for `main.rs` and for the generator of man pages and
//! completions, which needs the definition of the command line.

mod cli;
mod control;
mod deadline;
mod domains;
mod escape;
mod failure;
mod invocation;
mod json;
mod ls;
mod nodes;
mod permissions;
mod run;
mod store;
mod values;
mod wait;
mod watch;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;

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
    let has_exit_codes = invocation::has_exit_codes(&arguments);
    let cli = match invocation::parse(&program, arguments) {
        Ok(cli) => cli,
        Err(error) => return Failure::Usage(error).end(&program, has_exit_codes),
    };

    let mut out = BufWriter::new(io::stdout().lock());
    let result = run::run(cli, &mut out);
    // Like Xen's tools, the command prints what it found before a failure.
    let printed = out.flush().map_err(Failure::from);
    match result.and(printed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.end(&program, has_exit_codes),
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
