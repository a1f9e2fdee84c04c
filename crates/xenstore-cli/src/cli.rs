//! Definition of the command line. Man pages and completions are generated from it.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Parser, Subcommand};
use xenstore::Depth;

/// Text below the options in the help of the command.
const AFTER_HELP: &str = "\
A link with a name such as xenstore-read runs that sub-command.

Environment:
  XENSTORED_PATH    socket or device to use
  XENSTORED_RUNDIR  directory of xenstored's socket [default: /run/xenstored, /var/run/xenstored]
  NO_COLOR          if set, print no colours on a terminal

Exit status: 0 on success, 1 on failure, 124 if wait, or watch with --number, reaches its time limit, or if the server does not reply in time. With
--exit-codes, 2 for an error in the command line, and 3 without a Xenstore server. If the reader of
the output ends early, the command dies from SIGPIPE.";

/// Read, write and watch Xenstore
#[derive(Debug, Parser)]
#[command(name = "xenstore", version, about, after_help = AFTER_HELP, infer_long_args = true)]
pub(crate) struct Cli {
    /// Use only xenstored's socket, not the kernel's device
    #[arg(short, long, global = true)]
    pub(crate) socket: bool,

    /// Exit with status 2 after an error in the command line, and with 3 without a Xenstore server
    ///
    /// By default the status of every failure is 1, as that of Xen's tools.
    #[arg(long, global = true)]
    pub(crate) exit_codes: bool,

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
        /// Omit changes more than NR levels below the key: 0 for the node itself, 1 for its
        /// children too
        #[arg(short, long, value_name = "NR", value_parser = depth)]
        depth: Option<Depth>,
        /// Print the value after the path, in the format of read --prefix. A node that was removed
        /// or that cannot be read has only its path
        ///
        /// The value is read after the event, so it may be newer.
        #[arg(long)]
        values: bool,
        /// Print a JSON object for each change, one per line
        ///
        /// Its members are "key", which is the watched KEY, and "path". With --values, the member
        /// "value" is a string, an array of bytes if the value is not UTF-8, and null if the node
        /// was removed or cannot be read.
        #[arg(long)]
        json: bool,
        /// Exit after this time. The exit status is 124 if --number requires more lines or the
        /// server does not reply, and 0 otherwise
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        timeout: Option<Duration>,
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Wait until a node exists, has a value or is removed
    ///
    /// The command prints nothing. It fails if the node cannot be read for another reason than that
    /// it does not exist. A value that changes again at once may not be noticed.
    Wait {
        /// Exit with status 124 after this time. With 0, test once
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        timeout: Option<Duration>,
        /// Wait until the node does not exist
        #[arg(long, conflicts_with = "value")]
        gone: bool,
        /// Do not interpret backslashes in the value
        #[arg(short = 'R', long)]
        raw: bool,
        #[arg(value_name = "PATH")]
        path: String,
        /// Wait until the node has this value, with the same escapes as for write
        #[arg(value_name = "VALUE", allow_negative_numbers = true)]
        value: Option<OsString>,
    },
    /// Print the numbers and names of the running domains
    ///
    /// Each line consists of a number, a space and a name. Only domain 0 may list the domains.
    Domains {
        /// Continue to print domains that start (+) and end (-)
        ///
        /// Each line then begins with "+ " or "- ". The first lines are the domains that run at the
        /// start.
        #[arg(short, long)]
        follow: bool,
    },
    /// Send a command to the Xenstore server and print its reply
    ///
    /// Each server has its own commands. C xenstored lists them for the command help. Only domain 0
    /// may send commands.
    Control {
        #[arg(value_name = "COMMAND")]
        command: String,
        #[arg(
            value_name = "ARGUMENT",
            allow_hyphen_values = true,
            trailing_var_arg = true
        )]
        arguments: Vec<String>,
    },
}

fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| "not a number".to_owned())
}

fn depth(text: &str) -> Result<Depth, String> {
    let levels = text.parse().map(Depth::levels);
    levels.map_err(|_| "not a number of levels".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok();
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "not a number of seconds".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definitions_are_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn time_limit_is_a_number_of_seconds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        for text in ["", "-1", "nan", "inf", "1s", "1e30"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
