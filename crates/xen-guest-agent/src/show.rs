//! The sub-command `show`: prints the tree that the agent would publish now, without Xenstore.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::SystemTime;

use log::warn;
use rustix::event::PollFd;
use xenstore::escape;

use crate::collect::{Collectors, Source};
use crate::error::Failure;
use crate::guest::{Device, Guest};
use crate::platform::{Platform, System, clock};
use crate::publish;
use crate::root::Root;
use crate::schema::layout::LAYOUT;
use crate::schema::{Name, Schema, Tree};
use crate::settings::Settings;
use crate::text::quote;

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The format of `xenstore ls`, with long values in full.
    Tree,
    /// One JSON object that maps paths to values.
    Json,
}

/// Prints the tree that the agent would publish. Addresses get the slots that they would have in an
/// empty store. SR-IOV virtual functions are missing, because only Xenstore knows their numbers.
///
/// # Errors
/// The network cannot be monitored, or standard output cannot be written to.
pub fn show(settings: &Settings, format: Format, all_interfaces: bool) -> Result<(), Failure> {
    let collected = collect(settings, all_interfaces);
    let mut guest = collected.map_err(Failure::system("monitor the network"))?;
    guest.date = SystemTime::now();

    let has_vif = guest
        .interfaces
        .values()
        .any(|interface| matches!(interface.device, Device::Vif(_)));
    if settings.schema == Name::Std && !has_vif && !all_interfaces {
        warn!(
            "none of the network interfaces is a VIF; to treat all of them as VIFs, run: {} show --all-interfaces",
            env!("CARGO_PKG_NAME")
        );
    }

    let tree = nodes(settings, &guest);
    print(&match format {
        Format::Tree => as_tree(&tree),
        Format::Json => as_json(&tree),
    })
}

/// Returns the nodes that the agent would publish in an empty store, within the node budget.
pub fn nodes(settings: &Settings, guest: &Guest) -> Tree {
    let tree = Schema::new(settings.schema, settings.filter.clone()).render(guest);
    publish::within_budget(&LAYOUT, tree, settings.node_budget)
}

/// Prints text on standard output.
///
/// # Errors
/// The system's error, except when the reader has closed the pipe.
pub fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(Failure::system("print")),
    }
}

/// Collects the facts of this guest, and waits for the complete network dump.
fn collect(settings: &Settings, all_interfaces: bool) -> io::Result<Guest> {
    let platform = System::new(Root::new(&settings.root));
    let config = settings.collectors(all_interfaces);
    let mut guest = Guest::default();
    let mut collectors = Collectors::open(platform, &config, None, &mut guest, clock::now())?;

    while !collectors.is_synced() {
        let mut network: Vec<_> = collectors
            .sources()
            .filter(|(source, ..)| *source == Source::Network)
            .map(|(_, fd, events)| PollFd::from_borrowed_fd(fd, events))
            .collect();
        if network.is_empty() {
            break;
        }
        match rustix::event::poll(&mut network, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        collectors.on_ready(Source::Network, &mut guest);
    }

    Ok(guest)
}

fn as_tree(tree: &Tree) -> String {
    // Sorted by name, because as characters some names sort before the slash.
    let mut nodes: Vec<(Vec<&str>, &str)> = tree
        .iter()
        .map(|(path, value)| (path.components().collect(), value.as_str()))
        .collect();

    nodes.sort();
    let (mut text, mut parent): (String, &[&str]) = (String::new(), &[]);

    for (names, value) in &nodes {
        let known = names
            .iter()
            .zip(parent)
            .take_while(|(name, parent)| name == parent)
            .count();
        for (depth, name) in names.iter().enumerate().skip(known) {
            let value = if depth + 1 == names.len() { value } else { "" };
            // Writing to a string cannot fail.
            let (name, value) = (escape(name), escape(value));
            let _ = writeln!(text, "{:depth$}{name} = \"{value}\"", "");
        }
        parent = names;
    }

    text
}

fn as_json(tree: &Tree) -> String {
    let members: Vec<_> = tree
        .iter()
        .map(|(path, value)| format!("\n  {}: {}", quote(path.as_str()), quote(value)))
        .collect();
    format!("{{{}\n}}\n", members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use xenstore::Path;

    fn tree() -> Tree {
        let nodes = [
            ("a/b-c", "1"),
            ("a/b/c", "2"),
            ("a/b", "x \"y\" \\"),
            ("d/e/f", "3"),
            ("d/g", "ä"),
        ];
        nodes
            .map(|(path, value)| (Path::new(path).unwrap(), value.to_owned()))
            .into()
    }

    #[test]
    fn tree_shows_missing_parents_as_empty_nodes() {
        let expected = "a = \"\"\n b = \"x \"y\" \\\"\n  c = \"2\"\n b-c = \"1\"\nd = \"\"\n e = \"\"\n  f = \"3\"\n g = \"ä\"\n";
        assert_eq!(as_tree(&tree()), expected);
    }

    #[test]
    fn json_is_one_object() {
        let expected: serde_json::Value = serde_json::json!({"a/b-c": "1", "a/b/c": "2", "a/b": "x \"y\" \\", "d/e/f": "3", "d/g": "ä"});
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&as_json(&tree())).unwrap(),
            expected
        );
        assert_eq!(as_json(&Tree::new()), "{\n}\n");
    }
}
