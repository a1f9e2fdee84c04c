//! The sub-command `wait`.

use std::time::Duration;

use xenstore::{Client, Nodes, Optional};

use crate::deadline::Deadline;
use crate::failure::Failure;

/// State of a node to wait for.
#[derive(Debug)]
pub(crate) enum Condition {
    Exists,
    Gone,
    HasValue(Vec<u8>),
}

impl Condition {
    /// Whether the condition is met by a node's value. Without a value there is no node.
    fn is_met(&self, value: Option<&[u8]>) -> bool {
        match self {
            Condition::Exists => value.is_some(),
            Condition::Gone => value.is_none(),
            Condition::HasValue(expected) => value == Some(expected),
        }
    }
}

pub(crate) fn wait(
    client: &mut Client,
    path: &str,
    condition: &Condition,
    timeout: Option<Duration>,
) -> Result<(), Failure> {
    let deadline = Deadline::after(timeout);
    let failed = |error| Failure::of_request(&format!("could not wait for path {path}"), &error);
    deadline.limit(client).watch(path).map_err(failed)?;
    loop {
        let value = deadline.limit(client).read(path).optional();
        let value = value.map_err(failed)?;
        if condition.is_met(value.as_deref()) {
            return Ok(());
        }
        if deadline.next_event(client).map_err(failed)?.is_none() {
            let seconds = timeout.unwrap_or_default().as_secs_f64();
            let message = format!("could not wait for path {path}: timed out after {seconds} s");
            return Err(Failure::TimedOut(message));
        }
    }
}
