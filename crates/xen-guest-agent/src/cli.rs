//! Command line: an option for each setting, and the commands.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};

use crate::collect::services;
use crate::settings::{DIRECTORY, SETTINGS, Setting, Settings, Sources};
use crate::show::Format;

const CONFIG: &str = "config";
const FORMAT: &str = "format";
const ALL_INTERFACES: &str = "all-interfaces";

/// Returns the end of the long help.
fn details() -> String {
    let config = format!("{DIRECTORY}/config.toml");
    let more = format!("{DIRECTORY}/conf.d/*.toml");
    let services = format!("{}/", services::DIRECTORY);
    let state = "/run/xen-guest-agent/state/status";
    let width = more.len();
    format!(
        "\
Separate list values with commas or repeat the option. A list on the command line replaces the \
one from the files. Options override the environment, which overrides the files.

Files:
  {config:width$}  settings
  {more}  more settings, read after config.toml
  {services:width$}  facts of the administrator's own
  {state:width$}  state of the running agent, or below /var/run

Signals: SIGHUP rereads the settings. SIGTERM and SIGINT end the agent.

Exit status:
  0  SIGTERM or SIGINT ended the agent
  1  Xenstore or the system reported an error
  2  an option, a setting or the path of Xenstore is invalid
  3  this is not a Xen guest, or it is domain 0 (in a guest, the agent waits for Xenstore)
  4  another agent is running

See also: man 8 xen-guest-agent, man 5 xen-guest-agent"
    )
}

/// End of the help of `status`.
const STATUS: &str = "\
Exit status:
  0  everything has been published
  1  not everything has been published, or the status cannot be determined
  3  no agent is running";

/// End of the help of `withdraw`.
const WITHDRAW: &str = "\
The agent must not be running. Nodes of other programs stay. Invalid settings in \
files and in the environment are ignored with a warning, unless --config is given.

Exit status:
  0  the nodes are removed, or this is domain 0, or there is no Xenstore
  1  nodes may remain, because Xenstore or the system reported an error or did not answer
  2  an option, the path of Xenstore or, with --config, a setting is invalid
  4  the agent is running";

/// Parsed command line.
#[derive(Debug)]
pub struct Cli {
    /// Command.
    pub action: Action,
    /// Sources of settings.
    pub sources: Sources,
}

/// Command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the agent.
    Run,
    /// Print the settings.
    Config,
    /// Print what would be published.
    Show {
        /// Output format.
        format: Format,
        /// Whether every interface except loopback counts as a VIF.
        all_interfaces: bool,
    },
    /// Print the state of the running agent.
    Status,
    /// Remove the agent's nodes from Xenstore.
    Withdraw,
}

impl Cli {
    /// Parses the command line of this process. Exits if it is invalid or asks for help.
    pub fn parse() -> Self {
        // The first parse omits the help texts, because the daemon would keep their memory.
        Self::try_parse(definition(false))
            .or_else(|_| Self::try_parse(command()))
            .unwrap_or_else(|error| error.exit())
    }

    fn try_parse(mut command: Command) -> Result<Self, clap::Error> {
        let arguments = join_switch_values(&command, std::env::args_os());
        let matches = command.try_get_matches_from_mut(arguments)?;
        Cli::from_matches(&mut command, &matches)
    }

    fn from_matches(command: &mut Command, matches: &ArgMatches) -> Result<Self, clap::Error> {
        // Options may stand before and after the name of a sub-command.
        let (action, after) = match matches.subcommand() {
            Some(("show", after)) => {
                let format = after.get_one::<String>(FORMAT);
                let is_json = format.is_some_and(|format| format == "json");
                let format = if is_json { Format::Json } else { Format::Tree };
                let all_interfaces = after.get_flag(ALL_INTERFACES);
                (
                    Action::Show {
                        format,
                        all_interfaces,
                    },
                    after,
                )
            }
            Some(("status", after)) => (Action::Status, after),
            Some(("withdraw", after)) => (Action::Withdraw, after),
            Some((_, after)) => (Action::Config, after),
            None => (Action::Run, matches),
        };

        let mut command_line = Vec::new();
        for setting in &SETTINGS {
            let after = after.try_get_many::<String>(setting.key);
            let before = matches.get_many::<String>(setting.key);
            if let (Err(_), Some(_), Some(name)) = (&after, &before, matches.subcommand_name()) {
                let message = format!("--{} has no effect on {name}", setting.option());
                return Err(command.error(ErrorKind::ArgumentConflict, message));
            }
            if let Some(words) = after.ok().flatten().or(before) {
                // An empty list value clears the list.
                let words = words.filter(|word| !setting.is_list() || !word.is_empty());
                command_line.push((setting, words.cloned().collect()));
            }
        }

        let file = [after, matches]
            .into_iter()
            .find_map(|matches| matches.try_get_one::<PathBuf>(CONFIG).ok()?);
        Ok(Cli {
            action,
            sources: Sources {
                file: file.cloned(),
                command_line,
            },
        })
    }
}

/// Joins the option of a boolean setting with a value in the next argument, so that
/// `--stderr false` works like `--stderr=false`, while `--stderr show` still runs `show`.
fn join_switch_values(
    command: &Command,
    arguments: impl Iterator<Item = OsString>,
) -> Vec<OsString> {
    let switches: Vec<OsString> = SETTINGS
        .iter()
        .filter(|setting| setting.is_switch())
        .flat_map(|setting| {
            let short = setting.short.map(|short| format!("-{short}"));
            [Some(format!("--{}", setting.option())), short]
        })
        .flatten()
        .map(OsString::from)
        .collect();
    let is_value = |argument: &OsStr| {
        let argument = argument.to_string_lossy();
        !argument.starts_with('-')
            && argument != "help"
            && command.find_subcommand(&*argument).is_none()
    };

    let mut joined: Vec<OsString> = Vec::new();
    for argument in arguments {
        match joined.last_mut() {
            Some(last) if switches.contains(last) && is_value(&argument) => {
                last.push("=");
                last.push(argument);
            }
            _ => joined.push(argument),
        }
    }
    joined
}

/// Returns the definition of the command line.
pub fn command() -> Command {
    definition(true)
        .about("Reports facts about a Xen guest to its host")
        .after_help("Run xen-guest-agent --help for all options and details.")
        .after_long_help(details())
}

/// Returns the definition, with or without the help of the agent's own options.
fn definition(has_help: bool) -> Command {
    let command = Command::new(env!("CARGO_PKG_NAME")).version(env!("CARGO_PKG_VERSION"));
    let mut command = with_options(command, |_| true);

    if has_help {
        command = command.mut_args(with_help);
    }

    // The options of sub-commands are deferred, because global ones cost the daemon 12 KiB.
    command
        .subcommand(
            Command::new("config")
                .about("Print the effective settings and their origins, as TOML")
                .defer(|config| with_options(config, |_| true).mut_args(with_help)),
        )
        .subcommand(
            Command::new("show")
                .about("Print what the agent would publish on this machine, without Xenstore")
                .defer(|show| {
                    let show = show.arg(format()).arg(all_interfaces());
                    with_options(show, |setting| setting.affects_show).mut_args(with_help)
                }),
        )
        .subcommand(
            Command::new("status")
                .about("Print the state of the running agent")
                .after_help(STATUS)
                .defer(|status| {
                    let root = SETTINGS.iter().filter(|setting| setting.key == "root");
                    status.args(root.map(|root| with_help(argument(root))))
                }),
        )
        .subcommand(
            Command::new("withdraw")
                .about(
                    "Remove the agent's nodes from Xenstore, when the agent is to be uninstalled",
                )
                .after_help(WITHDRAW)
                .defer(|withdraw| {
                    let is_wanted = |setting: &Setting| setting.affects_withdraw;
                    with_options(withdraw, is_wanted).mut_args(with_help)
                }),
        )
}

fn format() -> Arg {
    Arg::new(FORMAT)
        .long("format")
        .value_name("FORMAT")
        .default_value("tree")
        .value_parser(["tree", "json"])
        .help("Output format")
}

fn all_interfaces() -> Arg {
    Arg::new(ALL_INTERFACES)
        .long("all-interfaces")
        .action(ArgAction::SetTrue)
        .help("Treat every network interface except loopback as a VIF, to try this without Xen")
}

/// Adds the options of settings that `is_wanted` selects, and `--config`.
fn with_options(command: Command, is_wanted: fn(&Setting) -> bool) -> Command {
    let config = Arg::new(CONFIG)
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .value_hint(ValueHint::FilePath);
    let settings = SETTINGS.iter().filter(|setting| is_wanted(setting));
    command.args(settings.map(argument)).arg(config)
}

/// Adds the help text to an option of [`with_options`].
fn with_help(argument: Arg) -> Arg {
    if argument.get_id() == CONFIG {
        return argument.help(format!(
            "Read settings from this file instead of {DIRECTORY}"
        ));
    }
    let mut settings = SETTINGS.iter();
    match settings.find(|setting| argument.get_id() == setting.key) {
        Some(setting) => argument
            .help(setting.summary)
            .long_help(long_help(setting, &Settings::default())),
        None => argument,
    }
}

fn argument(setting: &'static Setting) -> Arg {
    let mut argument = Arg::new(setting.key)
        .long(setting.option())
        .value_name(setting.placeholder)
        .value_parser(AnyText(setting))
        .hide_possible_values(true)
        .hide_short_help(!setting.table().is_empty())
        .value_hint(if setting.is_directory() {
            ValueHint::DirPath
        } else {
            ValueHint::Other
        })
        // The parser accepts a negative number, so that the settings report the valid range.
        .allow_negative_numbers(true);
    if let Some(short) = setting.short {
        argument = argument.short(short);
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

fn long_help(setting: &Setting, defaults: &Settings) -> String {
    let mut help = format!(
        "{} Allowed: {}.",
        setting.description(),
        setting.allowed_word()
    );
    let default = setting.words(defaults);
    // Writing to a string cannot fail.
    if !default.is_empty() {
        let _ = write!(help, " [default: {default}]");
    }
    if let Some(variable) = setting.environment {
        let _ = write!(help, " [environment: {variable}]");
    }
    help
}

/// Parser that accepts any text, so that invalid values give the same messages as those in files.
/// Completion offers the words of the setting.
#[derive(Clone, Copy)]
struct AnyText(&'static Setting);

impl TypedValueParser for AnyText {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let words = self.0.completions();
        if words.is_empty() {
            return None;
        }
        Some(Box::new(words.into_iter().map(PossibleValue::new)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the action and the settings as `key=value`, with bars between the values of a list.
    fn parsed(arguments: &str) -> Result<(Action, String), String> {
        let arguments = ["xen-guest-agent"]
            .into_iter()
            .chain(arguments.split_whitespace());
        let mut command = command();
        let arguments = join_switch_values(&command, arguments.map(OsString::from));
        let cli = command
            .try_get_matches_from_mut(arguments)
            .and_then(|matches| Cli::from_matches(&mut command, &matches))
            .map_err(|error| error.to_string())?;
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
    fn definitions_are_consistent() {
        command().debug_assert();
        let mut built = command();
        built.build();
        for subcommand in built.get_subcommands() {
            subcommand.clone().debug_assert();
        }
    }

    #[test]
    fn options() {
        let show = |format, all_interfaces| Action::Show {
            format,
            all_interfaces,
        };
        let tree = show(Format::Tree, false);
        for (arguments, action, words) in [
            ("", Action::Run, ""),
            ("-s -l debug", Action::Run, "stderr=true loglevel=debug"),
            ("-sl debug", Action::Run, "stderr=true loglevel=debug"),
            (
                "--stderr=false --loglevel=off",
                Action::Run,
                "stderr=false loglevel=off",
            ),
            ("-s false", Action::Run, "stderr=false"),
            (
                "--network-stacked-links=false",
                Action::Run,
                "network.stacked-links=false",
            ),
            (
                "--network-stacked-links false",
                Action::Run,
                "network.stacked-links=false",
            ),
            (
                "--network-stacked-links no",
                Action::Run,
                "network.stacked-links=no",
            ),
            ("--memory-period -1", Action::Run, "memory.period=-1"),
            ("--stderr config", Action::Config, "stderr=true"),
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
            ("show --all-interfaces", show(Format::Tree, true), ""),
            ("--root /y status", Action::Status, "root=/y"),
            ("status --root /x", Action::Status, "root=/x"),
            (
                "--xenstore socket withdraw",
                Action::Withdraw,
                "xenstore=socket",
            ),
            (
                "--root /y show --format json",
                show(Format::Json, false),
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
    fn options_without_effect_on_a_sub_command_are_refused() {
        for (arguments, expected) in [
            (
                "show --memory-period 5",
                "unexpected argument '--memory-period'",
            ),
            ("show --stderr", "unexpected argument '--stderr'"),
            ("show --xenstore socket", "unexpected argument '--xenstore'"),
            ("status --schema rfc", "unexpected argument '--schema'"),
            ("status --config x", "unexpected argument '--config'"),
            ("withdraw --schema rfc", "unexpected argument '--schema'"),
            ("--schema rfc status", "--schema has no effect on status"),
            ("-s show", "--stderr has no effect on show"),
        ] {
            let message = parsed(arguments).unwrap_err();
            assert!(message.contains(expected), "{arguments}: {message}");
        }
        assert!(parsed("show --node-budget 50").is_ok());
    }

    #[test]
    fn completion_knows_the_words_of_settings() {
        let mut built = command();
        built.build();
        for (option, words) in [
            ("schema", "std rfc"),
            ("network.mode", "auto netlink poll off"),
            ("xenstore", "auto device socket socket=/"),
            ("loglevel", "off error warn info debug trace"),
            ("volumes.enabled", "true false"),
            ("memory.period", ""),
        ] {
            let argument = built.get_arguments().find(|arg| arg.get_id() == option);
            let values = argument.unwrap().get_possible_values();
            let offered: Vec<_> = values.iter().map(PossibleValue::get_name).collect();
            assert_eq!(offered.join(" "), words, "{option}");
        }
    }

    #[test]
    fn short_help_is_short_and_long_help_has_details() {
        let short = command().render_help().to_string();
        let long = command().render_long_help().to_string();
        assert!(short.lines().count() <= 24, "{short}");
        assert!(!short.contains("Allowed:"), "{short}");
        let config = format!("{DIRECTORY}/config.toml");
        for text in ["Allowed:", "SIGHUP", &config] {
            assert!(long.contains(text), "{text} is not in {long}");
        }
    }

    #[test]
    fn help_wraps_at_the_width_of_the_terminal() {
        for width in [60, 80, 100] {
            let mut command = command().term_width(width);
            command.build();
            let long = command.render_long_help().to_string();
            for line in long.lines() {
                let len = line.chars().count();
                assert!(len <= width, "{len} > {width}: {line}");
            }
        }
    }

    #[test]
    fn misspelt_options_get_a_suggestion() {
        let message = parsed("--shcema rfc").unwrap_err();
        assert!(message.contains("--schema"), "{message}");
    }
}
