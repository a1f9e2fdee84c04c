//! The sub-command `ls`.

mod json;
mod text;

use std::io::{self, IsTerminal, Write};

use xenstore::walk::{Node, Walk};
use xenstore::{Client, DomId, Error, Nodes, Request};

use crate::failure::Failure;
use json::Json;
use text::Text;

/// Output format.
pub(crate) enum Form {
    Text(Text),
    Json,
}

impl Form {
    /// Returns the text format for standard output, with the width and the colours of a terminal.
    pub(crate) fn text(flat: bool) -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let columns = is_terminal
            .then(|| rustix::termios::tcgetwinsize(&stdout).ok())
            .flatten();
        let columns = columns.map(|size| usize::from(size.ws_col));
        Form::Text(Text::new(flat, columns, is_terminal && wants_colours()))
    }
}

fn wants_colours() -> bool {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    variable("NO_COLOR").is_none() && variable("TERM").is_some_and(|terminal| terminal != "dumb")
}

pub(crate) fn ls(
    client: &mut Client,
    paths: &[String],
    permissions: bool,
    form: Form,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let default;
    let paths = if paths.is_empty() {
        default = [default_path(client)?];
        &default
    } else {
        paths
    };
    let mut walk = |visit: Visit<'_>| {
        paths
            .iter()
            .try_for_each(|path| below(client, path, permissions, visit))
    };
    match form {
        Form::Text(text) => walk(&mut |node| text.print(node, out)),
        Form::Json => {
            let mut json = Json::default();
            let walked = walk(&mut |node| json.print(node, out));
            // After a failure, the nodes found before it are still a complete object.
            json.end(out)?;
            walked
        }
    }
}

/// Maximum memory of all printed nodes in bytes, which several million nodes need. They are not held
/// at once. It ends the output if a faulty server invents nodes without end.
const TREE_LIMIT: usize = 1 << 30;

type Visit<'v> = &'v mut dyn FnMut(&Node) -> io::Result<()>;

/// Visits all nodes below `path`. Stops after a node whose children cannot be listed.
fn below(
    client: &mut Client,
    path: &str,
    permissions: bool,
    visit: Visit<'_>,
) -> Result<(), Failure> {
    let failed = |error| no_directory(path, &error);
    let mut walk = Walk::new(path).map_err(failed)?.at_most(TREE_LIMIT);
    if permissions {
        walk = walk.with_permissions();
    }
    loop {
        let requests = walk.next_requests().map_err(failed)?;
        if requests.is_empty() {
            return Ok(());
        }
        let replies = client.pipeline(requests).map_err(failed)?;
        for node in walk.on_replies(replies).map_err(failed)? {
            if node.depth > 0 {
                visit(&node)?;
            }
            node.children
                .map_err(|error| no_directory(node.path.as_str(), &error))?;
        }
    }
}

/// Returns the root like Xen's tools, or the domain's home like xe-guest-utilities if the root is
/// not readable.
fn default_path(client: &mut Client) -> Result<String, Failure> {
    match client.list("/") {
        Err(error) if error.is_denied() => {}
        _ => return Ok("/".to_owned()),
    }
    let failed = |error: &Error| no_directory("/", error);
    let domain = client.read("domid").map_err(|error| failed(&error))?;
    let domain = String::from_utf8_lossy(&domain).trim().parse::<DomId>();
    let domain = domain.map_err(|error| Failure::Message(format!("read domid: {error}")))?;
    client
        .call(Request::domain_path(domain))
        .map(|path| path.to_string())
        .map_err(|error| failed(&error))
}

/// Returns the failure to list a node, in the words of Xen's `ls`.
fn no_directory(path: &str, error: &Error) -> Failure {
    Failure::of_request(&format!("xs_directory ({path})"), error)
}
