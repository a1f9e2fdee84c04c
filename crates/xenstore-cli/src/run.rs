//! Execution of a parsed command line.

use std::io::Write;

use xenstore::{Client, Transport};

use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::permissions::Recursion;
use crate::{ls, nodes, permissions, values, watch};

/// Runs the sub-command.
pub(crate) fn run(cli: Cli, out: &mut dyn Write) -> Result<(), Failure> {
    let open = || open(cli.socket);
    match cli.command {
        Command::Read { prefix, raw, keys } => values::read(&mut open()?, &keys, prefix, raw, out),
        Command::Write { raw, pairs } => {
            let pairs = values::pairs(&pairs, raw)?;
            values::write(&mut open()?, &pairs)
        }
        Command::Rm { tidy, keys } => nodes::remove(&mut open()?, &keys, tidy),
        Command::Mkdir { keys } => nodes::mkdir(&mut open()?, &keys),
        Command::List { prefix, keys } => nodes::list(&mut open()?, &keys, prefix, out),
        Command::Ls {
            flat,
            permissions,
            json,
            paths,
        } => {
            let form = if json {
                ls::Form::Json
            } else {
                ls::Form::text(flat)
            };
            ls::ls(&mut open()?, &paths, permissions, form, out)
        }
        Command::Exists { keys } => nodes::exists(&mut open()?, &keys),
        Command::Chmod {
            upto,
            recurse,
            key,
            modes,
        } => permissions::chmod(&mut open()?, &key, &modes, Recursion { upto, recurse }),
        Command::Perms { prefix, keys } => permissions::print(&mut open()?, &keys, prefix, out),
        Command::Watch { number, keys } => watch::watch(&mut open()?, &keys, number, out),
    }
}

fn open(socket_only: bool) -> Result<Client, Failure> {
    // Like Xen's tools, --socket does not affect the file that the environment names.
    let is_named = std::env::var_os("XENSTORED_PATH").is_some();
    let transport = if socket_only && !is_named {
        Transport::open_socket()
    } else {
        Transport::open()
    };
    transport
        .map(Client::new)
        .map_err(|error| Failure::Message(error.to_string()))
}
