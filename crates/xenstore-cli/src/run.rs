//! Execution of a parsed command line.

use std::io::Write;

use xenstore::{Client, Transport};

use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::permissions::Recursion;
use crate::wait::Condition;
use crate::{control, domains, ls, nodes, permissions, values, wait, watch};

/// Runs the sub-command.
pub(crate) fn run(cli: Cli, out: &mut dyn Write) -> Result<(), Failure> {
    let open = || open_transport(cli.socket).map(Client::new);
    match cli.command {
        Command::Read { prefix, raw, keys } => values::read(&mut open()?, &keys, prefix, raw, out),
        Command::Write { raw, pairs } => {
            let pairs = values::pairs(&pairs, raw);
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
        } => {
            let transport = open_transport(cli.socket)?;
            let is_socket = !transport.is_device();
            let recursion = Recursion { upto, recurse };
            let mut client = Client::new(transport);
            permissions::chmod(&mut client, &key, &modes, recursion, is_socket)
        }
        Command::Perms { prefix, keys } => permissions::print(&mut open()?, &keys, prefix, out),
        Command::Watch {
            number,
            depth,
            values,
            json,
            timeout,
            keys,
        } => {
            let options = watch::Options {
                number,
                depth,
                timeout,
                values,
                json,
            };
            watch::watch(&mut open()?, &keys, options, out)
        }
        Command::Wait {
            timeout,
            gone,
            raw,
            path,
            value,
        } => {
            let condition = match value {
                Some(value) => Condition::HasValue(values::argument(&value, raw)),
                None if gone => Condition::Gone,
                None => Condition::Exists,
            };
            wait::wait(&mut open()?, &path, &condition, timeout)
        }
        Command::Domains { follow: true } => domains::follow(&mut open()?, out),
        Command::Domains { follow: false } => domains::list(&mut open()?, out),
        Command::Control { command, arguments } => {
            control::control(&mut open()?, &command, &arguments, out)
        }
    }
}

fn open_transport(socket_only: bool) -> Result<Transport, Failure> {
    // Like Xen's tools, --socket does not affect the file that the environment names.
    let is_named = std::env::var_os("XENSTORED_PATH").is_some();
    let transport = if socket_only && !is_named {
        Transport::open_socket()
    } else {
        Transport::open()
    };
    transport.map_err(|error| Failure::NoServer(error.to_string()))
}
