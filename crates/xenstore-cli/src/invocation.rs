//! Parsing of the arguments, for a call by the command's own name or by that of a link.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, Error, FromArgMatches};

use crate::cli::{Cli, Command};

/// Parses the command line. `program` is the name by which the command was called.
pub(crate) fn parse(program: &str, arguments: Vec<OsString>) -> Result<Cli, Error> {
    let mut command = definition(program);
    let matches = command.try_get_matches_from_mut(expand_link(program, arguments))?;
    let cli = Cli::from_arg_matches(&matches)?;

    if let Command::Write { pairs, .. } = &cli.command {
        if let ([.., key], 1) = (pairs.as_slice(), pairs.len() % 2) {
            let message = format!("no value for {}", key.to_string_lossy());
            let sub_command = command.find_subcommand_mut("write");
            return Err(match sub_command {
                Some(write) => write.error(ErrorKind::WrongNumberOfValues, message),
                None => command.error(ErrorKind::WrongNumberOfValues, message),
            });
        }
    }
    Ok(cli)
}

/// Whether the arguments contain `--exit-codes`, which also applies if they are invalid.
pub(crate) fn has_exit_codes(arguments: &[OsString]) -> bool {
    let options = arguments.iter().take_while(|argument| *argument != "--");
    options
        .filter_map(|argument| argument.to_str())
        .any(|argument| argument.len() > "--".len() && "--exit-codes".starts_with(argument))
}

/// Returns the definition of the command line. If `program` is a link, the usage of its sub-command
/// names the link.
fn definition(program: &str) -> clap::Command {
    let command = Cli::command();
    let Some(name) = linked_sub_command(program) else {
        return command;
    };
    command.mut_subcommand(name, |sub_command| {
        let mut link = sub_command.clone().bin_name(program);
        let usage = link.render_usage().to_string();
        sub_command
            .override_usage(usage.trim_start_matches("Usage: ").to_owned())
            .version(env!("CARGO_PKG_VERSION"))
    })
}

/// Returns the command line of the command itself if `program` is a link.
fn expand_link(program: &str, arguments: Vec<OsString>) -> Vec<OsString> {
    let Some(name) = linked_sub_command(program) else {
        return arguments;
    };
    ["xenstore".into(), name.into()]
        .into_iter()
        .chain(arguments.into_iter().skip(1))
        .collect()
}

/// Returns the name of the sub-command if `program` is a link that names one.
fn linked_sub_command(program: &str) -> Option<&str> {
    program
        .strip_prefix("xenstore-")
        .filter(|name| Cli::command().find_subcommand(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn links_are_expanded_to_sub_commands() {
        for (program, expanded) in [
            ("xenstore-read", &["xenstore", "read", "x"][..]),
            ("xenstore-ls", &["xenstore", "ls", "x"]),
            ("xenstore", &["xenstore", "x"]),
            ("xenstore-1", &["xenstore-1", "x"]),
            ("read", &["read", "x"]),
        ] {
            assert_eq!(
                expand_link(program, strings(&[program, "x"])),
                strings(expanded)
            );
        }
    }

    #[test]
    fn usage_errors_name_the_sub_command_as_it_was_called() {
        for (program, arguments, usage) in [
            (
                "xenstore",
                &["write", "a", "1", "b"][..],
                "Usage: xenstore write [OPTIONS] <KEY> <VALUE>...\n",
            ),
            (
                "xenstore-write",
                &["a", "1", "b"],
                "Usage: xenstore-write [OPTIONS] <KEY> <VALUE>...\n",
            ),
            ("xenstore", &["read"], "Usage: xenstore read <KEY>...\n"),
            (
                "xenstore-read",
                &["--bogus", "a"],
                "Usage: xenstore-read [OPTIONS] <KEY>...\n",
            ),
            (
                "xenstore-read",
                &["--help"],
                "Usage: xenstore-read [OPTIONS] <KEY>...\n",
            ),
        ] {
            let mut line = strings(&[program]);
            line.extend(strings(arguments));
            let text = parse(program, line).unwrap_err().to_string();
            assert!(text.contains(usage), "{program} {arguments:?}: {text}");
        }
    }

    #[test]
    fn link_has_a_version() {
        let error = parse("xenstore-read", strings(&["xenstore-read", "-V"])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DisplayVersion);
    }

    #[test]
    fn exit_codes_are_found_before_the_end_of_the_options() {
        for (arguments, expected) in [
            (&["read", "--exit-codes"][..], true),
            (&["--exit", "bogus"], true),
            (&["read", "--", "--exit-codes"], false),
            (&["read", "--", "x"], false),
            (&["read", "--exit-codesx"], false),
        ] {
            assert_eq!(
                has_exit_codes(&strings(arguments)),
                expected,
                "{arguments:?}"
            );
        }
    }
}
