//! Other agents that run in this guest and write the same nodes.

use log::warn;

use crate::platform::{Platform, Process, System};

/// The Go agent of the package xe-guest-utilities.
const GO_AGENT: &str = "xe-daemon";

/// Sub-commands of this agent. They write nothing.
const COMMANDS: [&str; 5] = ["config", "help", "show", "status", "withdraw"];

/// Logs the other agents that run now, and how to get rid of them.
pub fn warn_of_other_agents(platform: &System) {
    for process in platform.find_daemons(&[GO_AGENT, env!("CARGO_PKG_NAME")]) {
        if let Some(warning) = warning(&process) {
            warn!("{warning}");
        }
    }
}

/// Returns the warning about a process, unless it is a command of this agent such as `status`.
fn warning(process: &Process) -> Option<String> {
    let Process { id, arguments } = process;
    if arguments.first()?.ends_with(GO_AGENT) {
        return Some(format!(
            "xe-daemon (process {id}) writes the same nodes; remove the package \
             xe-guest-utilities, or stop xe-daemon and disable its service"
        ));
    }
    let is_command = arguments
        .iter()
        .skip(1)
        .any(|word| COMMANDS.contains(&word.as_str()));
    (!is_command).then(|| {
        format!(
            "another xen-guest-agent (process {id}), perhaps an earlier version, writes the same \
             nodes; stop it, and remove its package or disable its service"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_all_subcommands() {
        let mut command = crate::cli::command();
        command.build();
        let mut names: Vec<_> = command
            .get_subcommands()
            .map(clap::Command::get_name)
            .collect();
        names.sort_unstable();
        assert_eq!(names, COMMANDS);
    }

    #[test]
    fn other_agents_are_named_but_not_commands() {
        for (line, expected) in [
            (
                "/usr/sbin/xe-daemon -p /run/xe-daemon.pid",
                Some("xe-daemon (process 7)"),
            ),
            (
                "/usr/sbin/xen-guest-agent",
                Some("another xen-guest-agent (process 7)"),
            ),
            (
                "xen-guest-agent -s -l debug",
                Some("another xen-guest-agent (process 7)"),
            ),
            ("xen-guest-agent status", None),
            ("xen-guest-agent --root /host show --format json", None),
        ] {
            let process = Process {
                id: 7,
                arguments: line.split(' ').map(str::to_owned).collect(),
            };
            let warning = warning(&process);
            assert_eq!(warning.is_some(), expected.is_some(), "{line}");
            assert!(
                warning
                    .unwrap_or_default()
                    .starts_with(expected.unwrap_or("")),
                "{line}"
            );
        }
    }
}
