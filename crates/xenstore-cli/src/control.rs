//! The sub-command `control`.

use std::io::Write;

use xenstore::{Client, Nodes, Request};

use crate::failure::Failure;
use crate::values::for_terminal;

pub(crate) fn control(
    client: &mut Client,
    command: &str,
    arguments: &[String],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let failed = |error| Failure::of_request(&format!("could not run {command}"), &error);
    let request = Request::control(command, &arguments).map_err(failed)?;
    let reply = client.call(request).map_err(failed)?;
    let reply = for_terminal(reply.as_bytes());
    out.write_all(reply.as_bytes())?;
    if !reply.is_empty() && !reply.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(())
}
