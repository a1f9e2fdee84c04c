//! Completions for bash, zsh and fish.

use std::path::Path;

use clap::Command;
use clap_complete::{Generator, Shell};

use crate::files::Files;

/// Returns the completion scripts of all commands, where each shell looks for them.
pub(crate) fn scripts() -> Files {
    let mut files = Files::new();
    for (name, command) in commands() {
        let bash = Path::new("usr/share/bash-completion/completions").join(&name);
        files.insert(bash, bash_script(&command, &name).into_bytes());
        let zsh = Path::new("usr/share/zsh/site-functions").join(format!("_{name}"));
        files.insert(zsh, script(Shell::Zsh, &command, &name).into_bytes());
        let fish = Path::new("usr/share/fish/vendor_completions.d").join(format!("{name}.fish"));
        files.insert(fish, fish_script(&command, &name).into_bytes());
    }
    files
}

/// Returns the agent, the `xenstore` command, and its links such as `xenstore-read`.
fn commands() -> Vec<(String, Command)> {
    let xenstore = xenstore_cli::command();
    // A built command has passed its global options to its sub-commands. The generator panics at
    // a `help` sub-command that was built before.
    let mut built = xenstore.clone().disable_help_subcommand(true);
    built.build();

    let mut commands = vec![
        (
            "xen-guest-agent".to_owned(),
            xen_guest_agent::cli::command(),
        ),
        ("xenstore".to_owned(), xenstore),
    ];
    for link in built.get_subcommands() {
        commands.push((format!("xenstore-{}", link.get_name()), link.clone()));
    }
    commands
}

fn script(shell: impl Generator, command: &Command, name: &str) -> String {
    let mut script = Vec::new();
    let mut command = command.clone().name(name.to_owned());
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Returns the bash script.
///
/// The generator receives a name without hyphens. With a hyphen it spells the names of its states
/// in two ways, so that nothing is completed after a sub-command.
fn bash_script(command: &Command, name: &str) -> String {
    let identifier = name.replace('-', "_");
    let script = script(Shell::Bash, command, &identifier);
    let registered = format!("-o default {identifier}\n");
    script.replace(&registered, &format!("-o default {name}\n"))
}

/// Returns the fish script.
///
/// The generator parses the line with argparse, which fails at an option that still lacks its
/// value. The value of such an option is completed only if the line counts as one without a
/// sub-command.
fn fish_script(command: &Command, name: &str) -> String {
    script(Shell::Fish, command, name).replace("    or return\n", "    or return 0\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use std::process::Command;

    use crate::files::dist;

    fn run(command: &mut Command) -> String {
        let output = command.output().unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{command:?}: {output:?}"
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns the words that bash offers for the last word of `line`.
    fn bash(line: &str) -> String {
        let script = r#"
            source "$1/$2"
            shift
            function=$(complete -p "$1") && function=${function##*-F } && function=${function%% *}
            compopt() { :; }
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
            "$function" "$1" "${!#}" "${COMP_WORDS[COMP_CWORD - 1]}"
            echo "${COMPREPLY[@]}"
        "#;
        let directory = dist().join("usr/share/bash-completion/completions");
        let mut command = Command::new("bash");
        command.args(["-c", script, "bash"]).arg(directory);
        run(command.args(line.split(' '))).trim().to_owned()
    }

    /// Returns the words that fish offers for the last word of `line`.
    fn fish(line: &str) -> String {
        let script = "for file in $argv[1]/*.fish; source $file; end; complete -C $argv[2]";
        let directory = dist().join("usr/share/fish/vendor_completions.d");
        let mut command = Command::new("fish");
        command.args(["--no-config", "-c", script]).arg(directory);
        let offered = run(command.arg(line));
        let words = offered.lines().filter_map(|line| line.split('\t').next());
        words.collect::<Vec<_>>().join(" ")
    }

    /// Returns the words that zsh offers for the last word of `line`. An interactive shell prints
    /// them, because the function that adds matches is wrapped.
    fn zsh(line: &str) -> String {
        let script = r#"
            zmodload zsh/zpty
            zpty -b shell zsh --no-rcs --interactive
            zpty -w shell "fpath=($1 \$fpath) TERM=dumb PS1=; autoload -U compinit; compinit -u -D"
            zpty -w shell "source $3"
            zpty -w shell 'print ready''!'
            zpty -m -r shell output '*ready!*'
            zpty -n -w shell "$2"$'\t'
            for attempt in {1..100}; do
                sleep 0.2
                while zpty -r -t shell output; do all+=$output; done
                [[ $all == *'<'* ]] && (( ++enough > 2 )) && break
            done
            print -r -- $all
            zpty -d shell
        "#;
        // The wrapper is in a file, because the shell would echo its text among the matches.
        let wrapper = r#"compadd() {
            local -a offered
            builtin compadd -O offered "$@"
            (( $#offered )) && print -rl -- "<"${^offered}">"
            builtin compadd "$@"
        }"#;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), wrapper).unwrap();

        let directory = dist().join("usr/share/zsh/site-functions");
        let mut command = Command::new("zsh");
        command
            .args(["--no-rcs", "-c", script, "zsh"])
            .arg(directory);
        let output = run(command.arg(line).arg(file.path()));
        let marked = output.split('<').skip(1);
        let words = marked.filter_map(|text| Some(text.split_once('>')?.0));
        words.collect::<Vec<_>>().join(" ")
    }

    /// Command lines, and the words that complete the last one.
    const CASES: [(&str, &str); 18] = [
        ("xen-guest-agent sh", "show"),
        ("xen-guest-agent --sch", "--schema"),
        ("xen-guest-agent show --f", "--format"),
        ("xen-guest-agent show --format ", "tree json"),
        ("xen-guest-agent --schema ", "std rfc"),
        ("xen-guest-agent config --network-mode p", "poll"),
        ("xen-guest-agent --xenstore ", "auto device socket socket=/"),
        ("xen-guest-agent -l ", "off error warn info debug trace"),
        ("xen-guest-agent show --a", "--all-interfaces"),
        ("xen-guest-agent status --r", "--root"),
        ("xenstore r", "read rm"),
        ("xenstore rm --t", "--tidy"),
        ("xenstore-rm --t", "--tidy"),
        ("xenstore-ls -f --j", "--json"),
        ("xenstore-chmod --so", "--socket"),
        ("xenstore d", "domains"),
        ("xenstore watch --v", "--values"),
        ("xenstore-wait --g", "--gone"),
    ];

    fn sorted(words: &str) -> Vec<&str> {
        let mut words: Vec<_> = words.split(' ').collect();
        words.sort_unstable();
        words.dedup();
        words
    }

    #[test]
    fn bash_completes_options_and_values_after_sub_commands() {
        for (line, expected) in CASES {
            assert_eq!(bash(line), expected, "{line}");
        }
    }

    #[test]
    #[ignore = "needs fish"]
    fn fish_completes_options_and_values_after_sub_commands() {
        for (line, expected) in CASES {
            assert_eq!(sorted(&fish(line)), sorted(expected), "{line}");
        }
    }

    #[test]
    #[ignore = "needs zsh"]
    fn zsh_completes_options_and_values_after_sub_commands() {
        for (line, expected) in CASES {
            assert_eq!(sorted(&zsh(line)), sorted(expected), "{line}");
        }
    }
}
