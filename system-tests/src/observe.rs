//! Reading and waiting for results.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::thread::sleep;
use std::time::{Duration, Instant};

use xenstore::{Client, Nodes};

/// The result of a probe for [`eventually`].
pub trait Outcome {
    /// The value that a successful probe yields.
    type Value;

    /// Returns the value, or `None` if the probe must be repeated.
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

/// Repeats the probe until its result is `true` or `Some`, then returns the value.
///
/// Panics at the caller's line after `timeout`.
#[track_caller]
pub fn eventually<O: Outcome>(mut probe: impl FnMut() -> O, timeout: Duration) -> O::Value {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(value) = probe().value() {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "condition not met within {timeout:?}"
        );
        sleep(Duration::from_millis(2));
    }
}

/// Receives a datagram of at most 1024 bytes within the read timeout of the socket.
///
/// Panics at the caller's line if no datagram arrives.
#[track_caller]
pub fn receive(socket: &UnixDatagram) -> String {
    let mut datagram = [0; 1024];
    loop {
        match socket.recv(&mut datagram) {
            Ok(len) => return String::from_utf8_lossy(&datagram[..len]).into_owned(),
            // The kernel restarts no call on a socket with a timeout; see signal(7).
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("no datagram: {error}"),
        }
    }
}

/// Returns all nodes at and below `path`, by their path relative to it. The key of `path` itself is
/// "".
///
/// The map is empty if the node is missing. Nodes that vanish during the walk are missing, so call
/// this in [`eventually`] unless the tree changes in a single transaction.
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
            Err(error) if error.is_not_found() => continue,
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

/// Whether the agent has published all nodes at least once: the last one written is `data/updated`.
///
/// A walk that finds it may lack nodes that were written behind the walk, so read the tree once
/// more before comparing it.
pub fn is_published(nodes: &BTreeMap<String, String>) -> bool {
    nodes
        .get("data/updated")
        .is_some_and(|date| !date.is_empty())
}

/// Like [`is_published`], including the link-local address of VIF 0, which the kernel may report
/// later than the rest.
pub fn is_published_with_link_local(nodes: &BTreeMap<String, String>) -> bool {
    is_published(nodes) && nodes.contains_key("attr/vif/0/ipv6/1/prefix")
}
