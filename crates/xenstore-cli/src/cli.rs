//! Definition of the command line. Man pages and completions are generated from it.

use std::ffi::OsString;

use clap::{CommandFactory, Parser, Subcommand};

/// Text below the options in the help of the command.
const AFTER_HELP: &str = "\
A link with a name such as xenstore-read runs that sub-command.

Environment:
  XENSTORED_PATH    socket or device to use
  XENSTORED_RUNDIR  directory of xenstored's socket [default: /run/xenstored, /var/run/xenstored]
  NO_COLOR          if set, print no colours on a terminal

Exit status: 0 on success, 1 on failure. If the reader of the output ends early, the command
dies from SIGPIPE.";

/// Read, write and watch Xenstore
#[derive(Debug, Parser)]
#[command(name = "xenstore", version, about, after_help = AFTER_HELP, infer_long_args = true)]
pub(crate) struct Cli {
    /// Use only xenstored's socket, not the kernel's device
    #[arg(short, long, global = true)]
    pub(crate) socket: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print values
    Read {
        /// Print each key before its value
        #[arg(short, long)]
        prefix: bool,
        /// Print the bytes unchanged, without escapes and line ends. On a terminal, control
        /// characters are escaped
        #[arg(short = 'R', long)]
        raw: bool,
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Write values, all of them or none
    ///
    /// A value can contain the escapes \n, \r, \t, \\, \xHH (hexadecimal) and \NNN (octal), with
    /// the same meaning as in C.
    Write {
        /// Write the values unchanged, without interpreting backslashes
        #[arg(short = 'R', long)]
        raw: bool,
        /// Keys, each followed by its value
        #[arg(value_names = ["KEY", "VALUE"], num_args = 2.., required = true, allow_negative_numbers = true)]
        pairs: Vec<OsString>,
    },
    /// Remove nodes with all nodes below them, all of them or none
    Rm {
        /// Also remove parent nodes that become empty
        #[arg(short, long)]
        tidy: bool,
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Create empty nodes, all of them or none
    Mkdir {
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Print the names of child nodes
    List {
        /// Print paths instead of names
        #[arg(short, long)]
        prefix: bool,
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Print the tree below a node
    Ls {
        /// Print whole paths instead of indented names
        #[arg(short, long)]
        flat: bool,
        /// Print permissions
        #[arg(short = 'p', long, alias = "prefix")]
        permissions: bool,
        /// Print one JSON object that maps paths to values
        ///
        /// A value is a string. A value that is not UTF-8 is an array of bytes, and one that cannot
        /// be read is null. With --permissions, each entry is an object with the members "value"
        /// and "permissions", which are null if they cannot be read.
        #[arg(long, conflicts_with = "flat")]
        json: bool,
        /// Node to start at [default: /, or the domain's home if / is not readable]
        #[arg(value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Exit with status 0 if all of the nodes exist
    Exists {
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Set the owner and permissions of a node
    Chmod {
        /// Also set permissions on all parent nodes except the root
        #[arg(short, long)]
        upto: bool,
        /// Also set permissions on all nodes below
        #[arg(short, long)]
        recurse: bool,
        #[arg(value_name = "KEY")]
        key: String,
        /// Access and domain, such as r5: n (none), r (read), w (write) or b (both), and the number
        /// of a domain. The first mode names the owner and gives the access of all other domains
        #[arg(value_name = "MODE", required = true)]
        modes: Vec<String>,
    },
    /// Print owner and permissions in the format of chmod
    Perms {
        /// Print each key before its permissions
        #[arg(short, long)]
        prefix: bool,
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Print the paths of nodes that change
    ///
    /// Each key is printed once at the start.
    Watch {
        /// Exit after this many lines; -1 for no limit
        #[arg(short, long, value_name = "NR", default_value_t = -1, hide_default_value = true, allow_negative_numbers = true, value_parser = number)]
        number: i64,
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
}

fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| "not a number".to_owned())
}

/// Returns the command line of the command itself if `program` is a link that names a sub-command.
///
/// Usage messages are made from it.
pub(crate) fn expand_link(program: &str, arguments: Vec<OsString>) -> Vec<OsString> {
    let link = program
        .strip_prefix("xenstore-")
        .filter(|name| Cli::command().find_subcommand(name).is_some());
    let Some(name) = link else { return arguments };
    ["xenstore".into(), name.into()]
        .into_iter()
        .chain(arguments.into_iter().skip(1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn links_are_expanded_to_sub_commands() {
        let expanded = |program: &str| {
            let arguments = vec![OsString::from(program), "x".into()];
            let expanded = expand_link(program, arguments);
            expanded
                .iter()
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(expanded("xenstore-read"), "xenstore read x");
        assert_eq!(expanded("xenstore-ls"), "xenstore ls x");
        assert_eq!(expanded("xenstore"), "xenstore x");
        assert_eq!(expanded("xenstore-1"), "xenstore-1 x");
        assert_eq!(expanded("read"), "read x");
    }
}
