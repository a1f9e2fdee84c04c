//! Definition of the command line. Man pages and completions are generated from it.

use std::ffi::OsString;

use clap::{CommandFactory, Parser, Subcommand};

/// What stands below the help of the command itself.
const MORE: &str = "\
Called by the name of a link such as xenstore-read, it is that sub-command.

Environment:
  XENSTORED_PATH    socket or device to use
  XENSTORED_RUNDIR  directory of xenstored's socket [default: /run/xenstored, /var/run/xenstored]
  NO_COLOR          no colours on a terminal

Exit status: 0 when all went well, 1 otherwise; killed by SIGPIPE where nobody reads the output any more.";

/// Reads, writes and watches Xenstore
#[derive(Debug, Parser)]
#[command(name = "xenstore", version, about, after_help = MORE, infer_long_args = true)]
pub(crate) struct Cli {
    /// Use xenstored's socket only, not the kernel's device
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
        /// Print the bytes as they are: no escapes, no line ends
        #[arg(short = 'R', long)]
        raw: bool,
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Write values, all or none of them
    ///
    /// In a value \n, \r, \t, \\, \xHH and octal \NNN stand for the bytes that they stand for in C.
    Write {
        /// Write the values as they are: a backslash is a backslash
        #[arg(short = 'R', long)]
        raw: bool,
        /// Keys, and after each its value
        #[arg(value_names = ["KEY", "VALUE"], num_args = 2.., required = true, allow_negative_numbers = true)]
        pairs: Vec<OsString>,
    },
    /// Remove nodes and all below them, all or none of them
    Rm {
        /// Remove the nodes above too, as far as they are empty
        #[arg(short, long)]
        tidy: bool,
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Make empty nodes, all or none of them
    Mkdir {
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Print the names of the nodes below
    List {
        /// Print paths instead of names
        #[arg(short, long)]
        prefix: bool,
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Print the tree below
    Ls {
        /// Print whole paths instead of indented names
        #[arg(short, long)]
        flat: bool,
        /// Print permissions
        #[arg(short = 'p', long, alias = "prefix")]
        permissions: bool,
        /// Print one JSON object, path to value
        ///
        /// A value is a string, or an array of its bytes where it is not UTF-8, or null where it may not be read. With
        /// --permissions it is an object of "value" and "permissions", which are null too where they may not be read.
        #[arg(long, conflicts_with = "flat")]
        json: bool,
        /// Where to start [default: /, or where that may not be read, the domain's own tree]
        #[arg(value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Tell by the exit status whether all these nodes are there
    Exists {
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Set owner and permissions
    Chmod {
        /// Of the nodes above too, but for the root
        #[arg(short, long)]
        upto: bool,
        /// Of all nodes below too
        #[arg(short, long)]
        recurse: bool,
        #[arg(value_name = "KEY")]
        key: String,
        /// n, r, w or b (none, read, write, both) and a domain: the owner with the rights of all others first
        #[arg(value_name = "MODE", required = true)]
        modes: Vec<String>,
    },
    /// Print owner and permissions, as chmod takes them
    Perms {
        /// Print each key before its permissions
        #[arg(short, long)]
        prefix: bool,
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Print the paths of nodes that change
    ///
    /// Each key is printed once at the beginning.
    Watch {
        /// End after so many lines; -1 for never
        #[arg(short, long, value_name = "NR", default_value_t = -1, hide_default_value = true, allow_negative_numbers = true)]
        number: i64,
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
}

/// The command line of the command itself, where `program` is a link that names a sub-command: what is printed as usage is
/// made of it.
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
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn links_name_sub_commands() {
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
