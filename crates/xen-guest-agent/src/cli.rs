//! The command line: an option for each setting, and what to do.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::settings::{DIRECTORY, SETTINGS, Setting, Settings, Sources};
use crate::show::Format;

const CONFIG: &str = "config";
const FORMAT: &str = "format";
const ALL_INTERFACES: &str = "all-interfaces";

/// What stands below the help of the command itself.
const MORE: &str = "\
Lists take commas between their values, or the option more than once; they replace those of the files. Switches \
take their value behind an equals sign: --stderr=false.

SIGHUP has all settings read again; SIGTERM and SIGINT end the agent.

Exit status: 0 when it was asked to end, 1 when Xenstore or the system do not let it work, 2 when options or settings \
are wrong, 3 when this is not a Xen guest (in one, Xenstore is waited for), 4 when another agent is running.";

/// What stands below the help of `status`.
const STATUS: &str = "Exit status: 0 when all is published that the host allows, 1 when it is not, 3 when no agent is running.";

/// What the command line says.
#[derive(Debug)]
pub struct Cli {
    /// What to do.
    pub action: Action,
    /// Where settings are.
    pub sources: Sources,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Be the agent.
    Run,
    /// Show the settings.
    Config,
    /// Show what would be published.
    Show {
        /// How to print it.
        format: Format,
        /// Whether every interface but loopback counts as a VIF.
        all_interfaces: bool,
    },
    /// Show what the running agent says of itself.
    Status,
}

impl Cli {
    /// Reads the command line of this process; ends it where that is wrong, or asks for help.
    pub fn parse() -> Self {
        Cli::from_matches(&command().get_matches())
    }

    fn from_matches(matches: &ArgMatches) -> Self {
        // Options may stand before and behind the name of a sub-command, which may have not all of them.
        let (action, behind) = match matches.subcommand() {
            Some(("show", behind)) => {
                let is_json = behind
                    .get_one::<String>(FORMAT)
                    .is_some_and(|format| format == "json");
                let show = Action::Show {
                    format: if is_json { Format::Json } else { Format::Tree },
                    all_interfaces: behind.get_flag(ALL_INTERFACES),
                };
                (show, behind)
            }
            Some(("status", behind)) => (Action::Status, behind),
            Some((_, behind)) => (Action::Config, behind),
            None => (Action::Run, matches),
        };
        let words = |setting: &'static Setting| {
            let words = [behind, matches]
                .into_iter()
                .find_map(|matches| matches.try_get_many::<String>(setting.key).ok()?)?;
            Some((
                setting,
                words
                    .filter(|word| !setting.is_list() || !word.is_empty())
                    .cloned()
                    .collect(),
            ))
        };
        let file = [behind, matches]
            .into_iter()
            .find_map(|matches| matches.try_get_one::<PathBuf>(CONFIG).ok()?);
        Cli {
            action,
            sources: Sources {
                file: file.cloned(),
                command_line: SETTINGS.iter().filter_map(words).collect(),
            },
        }
    }
}

/// The definition of the command line.
pub fn command() -> Command {
    let command = Command::new(env!("CARGO_PKG_NAME"))
        .version(env!("CARGO_PKG_VERSION"))
        .about("Tells the Xen host about this guest: system, addresses, memory")
        .after_help(MORE);
    // The options of a sub-command are made only when it is called: as `global` ones they cost the daemon 12 KiB.
    with_options(command)
        .subcommand(
            Command::new("config")
                .about("Print the settings as TOML, each with where it comes from")
                .defer(with_options),
        )
        .subcommand(
            Command::new("show")
                .about("Print what the agent would publish here now, without Xenstore")
                .defer(|show| with_options(show.arg(format()).arg(all_interfaces()))),
        )
        .subcommand(
            Command::new("status")
                .about("Print what the running agent has published, and how")
                .after_help(STATUS)
                .defer(|status| {
                    let root = SETTINGS.iter().filter(|setting| setting.key == "root");
                    status.args(root.map(|root| argument(root, &Settings::default())))
                }),
        )
}

fn format() -> Arg {
    Arg::new(FORMAT)
        .long("format")
        .value_name("FORMAT")
        .default_value("tree")
        .value_parser(PossibleValuesParser::new(["tree", "json"]))
        .help("How to print it")
}

fn all_interfaces() -> Arg {
    Arg::new(ALL_INTERFACES)
        .long("all-interfaces")
        .action(ArgAction::SetTrue)
        .help("Treat every network interface except loopback as a VIF, to try this without Xen")
}

fn with_options(command: Command) -> Command {
    let defaults = Settings::default();
    let config =
        Arg::new(CONFIG).long("config").value_name("FILE").value_parser(value_parser!(PathBuf)).help(format!(
            "Read this file of settings instead of {DIRECTORY}/config.toml and {DIRECTORY}/conf.d/*.toml"
        ));
    command
        .args(SETTINGS.iter().map(|setting| argument(setting, &defaults)))
        .arg(config)
}

fn argument(setting: &'static Setting, defaults: &Settings) -> Arg {
    let note = |name, value: &str| {
        if value.is_empty() {
            String::new()
        } else {
            format!(" [{name}: {value}]")
        }
    };
    let default = note("default", &setting.words(defaults));
    let environment = note("environment", setting.environment.unwrap_or_default());
    let argument = Arg::new(setting.key)
        .long(setting.option())
        .value_name(setting.placeholder)
        .value_parser(ValueParser::string())
        .help(format!(
            "{}: {}{default}{environment}",
            setting.doc,
            setting.allowed_word()
        ));
    let argument = setting.short.into_iter().fold(argument, Arg::short);
    let choices = setting.choices();
    if !choices.is_empty() {
        // For completion; help has them already.
        return argument
            .value_parser(PossibleValuesParser::new(choices))
            .hide_possible_values(true);
    }
    if setting.is_switch() {
        argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
    } else if setting.is_list() {
        argument.action(ArgAction::Append).value_delimiter(',')
    } else {
        argument
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the arguments set, as `key=value` with bars between the values of a list.
    fn parsed(arguments: &str) -> Result<(Action, String), String> {
        let arguments = ["xen-guest-agent"]
            .into_iter()
            .chain(arguments.split_whitespace());
        let matches = command()
            .try_get_matches_from(arguments)
            .map_err(|error| error.to_string())?;
        let cli = Cli::from_matches(&matches);
        let file = cli
            .sources
            .file
            .iter()
            .map(|file| format!("file={}", file.display()));
        let words = cli.sources.command_line.iter();
        let words = words.map(|(setting, words)| format!("{}={}", setting.key, words.join("|")));
        Ok((cli.action, file.chain(words).collect::<Vec<_>>().join(" ")))
    }

    #[test]
    fn the_definitions_are_sound() {
        command().debug_assert();
    }

    #[test]
    fn options() {
        let tree = Action::Show {
            format: Format::Tree,
            all_interfaces: false,
        };
        for (arguments, action, words) in [
            ("", Action::Run, ""),
            ("-s -l debug", Action::Run, "stderr=true loglevel=debug"),
            (
                "--stderr=false --loglevel=off",
                Action::Run,
                "stderr=false loglevel=off",
            ),
            (
                "--network-stacked-links=false",
                Action::Run,
                "network.stacked-links=false",
            ),
            ("--config x --root /y", Action::Run, "file=x root=/y"),
            (
                "--root /a --schema std show --root /b",
                tree,
                "schema=std root=/b",
            ),
            (
                "--config x config --schema rfc",
                Action::Config,
                "file=x schema=rfc",
            ),
            ("show", tree, ""),
            (
                "show --all-interfaces",
                Action::Show {
                    format: Format::Tree,
                    all_interfaces: true,
                },
                "",
            ),
            (
                "--schema rfc status --root /x",
                Action::Status,
                "schema=rfc root=/x",
            ),
            (
                "--root /y show --format json",
                Action::Show {
                    format: Format::Json,
                    all_interfaces: false,
                },
                "root=/y",
            ),
            (
                "--network-leave-out-interfaces a,b",
                Action::Run,
                "network.leave-out-interfaces=a|b",
            ),
            (
                "--network-leave-out-interfaces a --network-leave-out-interfaces b",
                Action::Run,
                "network.leave-out-interfaces=a|b",
            ),
            (
                "--network-leave-out-interfaces=",
                Action::Run,
                "network.leave-out-interfaces=",
            ),
        ] {
            assert_eq!(
                parsed(arguments),
                Ok((action, words.to_owned())),
                "{arguments}"
            );
        }
    }

    #[test]
    fn names_are_known_for_completion() {
        for (option, names) in [
            ("--schema", "std, rfc"),
            ("--network-mode", "auto, netlink, poll, off"),
        ] {
            let said = parsed(&format!("{option}=x")).unwrap_err();
            assert!(said.contains(names), "{said}");
        }
    }

    #[test]
    fn a_misspelt_option_is_told_the_right_one() {
        let said = parsed("--shcema rfc").unwrap_err();
        assert!(said.contains("--schema"), "{said}");
    }
}
