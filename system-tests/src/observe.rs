//! Looking at what came of it.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use xenstore::{Client, ErrorCode};

/// What a probe of [`eventually`] may return.
pub trait Outcome {
    /// What is there once it is as it should be.
    type Value;

    /// None while it is not as it should be.
    fn value(self) -> Option<Self::Value>;
}

impl Outcome for bool {
    type Value = ();

    fn value(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Outcome for Option<T> {
    type Value = T;

    fn value(self) -> Option<T> {
        self
    }
}

/// Asks again and again until the probe is true or has something, and returns that.
///
/// # Panics
/// At the caller's line, where that takes longer than `timeout`.
#[track_caller]
pub fn eventually<O: Outcome>(mut probe: impl FnMut() -> O, timeout: Duration) -> O::Value {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(value) = probe().value() {
            return value;
        }
        assert!(Instant::now() < deadline, "still not so after {timeout:?}");
        sleep(Duration::from_millis(2));
    }
}

/// All nodes at and below `path` with their values, by their paths from there; `path` itself is at "".
///
/// Empty where there is no such node. Nodes that vanish meanwhile are left out, so what is not written in one
/// transaction should be looked at by [`eventually`].
pub fn tree(client: &mut Client, path: &str) -> BTreeMap<String, String> {
    let mut nodes = BTreeMap::new();
    let mut to_visit = vec![String::new()];
    while let Some(node) = to_visit.pop() {
        let full = [path, &node]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("/");
        let (value, children) = match client
            .read(&full)
            .and_then(|value| Ok((value, client.list(&full)?)))
        {
            Ok(found) => found,
            Err(error) if error.code() == Some(&ErrorCode::ENOENT) => continue,
            Err(error) => panic!("{error}"),
        };
        for child in children {
            to_visit.push(if node.is_empty() {
                child
            } else {
                format!("{node}/{child}")
            });
        }
        nodes.insert(node, String::from_utf8_lossy(&value).into_owned());
    }
    nodes
}
