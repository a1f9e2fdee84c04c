//! Completions and manual pages.

use std::io::{self, Write};
use std::path::Path;

use clap::{Arg, ArgAction, Command, CommandFactory};
use clap_complete::{Generator, Shell};

use crate::cli::Cli;
use crate::failure::Failure;

/// Prints the completions of the command, or writes them and those of all links to `directory`, in files by the names
/// under which the shell finds them.
pub(crate) fn completions(
    shell: Shell,
    directory: Option<&Path>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let command = Cli::command();
    let Some(directory) = directory else {
        return Ok(out.write_all(&script(shell, command, "xenstore"))?);
    };
    // Built, links have the options of all. The generator panics at a `help` that was built before.
    let mut built = command.clone().disable_help_subcommand(true);
    built.build();
    let links = built
        .get_subcommands()
        .map(|link| (format!("xenstore-{}", link.get_name()), link.clone()));
    let commands = [("xenstore".to_owned(), command)].into_iter().chain(links);
    for (name, command) in commands {
        let file = directory.join(shell.file_name(&name));
        std::fs::write(&file, script(shell, command, &name))
            .map_err(|error| not_written(&file, &error))?;
    }
    Ok(())
}

/// The generator panics where it cannot write, so it writes to memory.
fn script(shell: Shell, command: Command, name: &str) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command.name(name.to_owned()), name, &mut script);
    script
}

/// Writes `xenstore.1`, `xenstore-read.1` and so on to `directory`, or the first of them to the output.
pub(crate) fn man(directory: Option<&Path>, out: &mut dyn Write) -> Result<(), Failure> {
    // The generator does not say of what there may be several.
    let command = Cli::command().mut_subcommands(|command| command.mut_args(with_dots));
    match directory {
        None => Ok(clap_mangen::Man::new(command).render(out)?),
        Some(directory) => clap_mangen::generate_to(command, directory)
            .map_err(|error| not_written(directory, &error)),
    }
}

fn with_dots(argument: Arg) -> Arg {
    match argument.get_value_names() {
        Some(names) if matches!(argument.get_action(), ArgAction::Append) => {
            let name = format!("{}...", names.join(" "));
            argument.value_name(name)
        }
        _ => argument,
    }
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    Failure::Message(format!("write to {}: {error}", path.display()))
}
