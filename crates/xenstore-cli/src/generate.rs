//! Completions and manual pages.

use std::io::Write;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;

pub(crate) fn completions(shell: Shell, out: &mut dyn Write) -> Result<(), Failure> {
    // The generator panics where it cannot write, so it does not write to the output.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "xenstore", &mut script);
    Ok(out.write_all(&script)?)
}

/// Writes `xenstore.1`, `xenstore-read.1` and so on to `directory`, or the first of them to the output.
pub(crate) fn man(directory: Option<&Path>, out: &mut dyn Write) -> Result<(), Failure> {
    match directory {
        None => Ok(clap_mangen::Man::new(Cli::command()).render(out)?),
        Some(directory) => clap_mangen::generate_to(Cli::command(), directory)
            .map_err(|error| Failure::Said(format!("write to {}: {error}", directory.display()))),
    }
}
