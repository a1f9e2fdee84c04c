//! What would be published now: the same collectors and the same schema as in the agent, and no store.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::SystemTime;

use log::warn;
use rustix::event::{PollFd, PollFlags};

use crate::collect::{Collectors, clock, services};
use crate::error::Failure;
use crate::guest::{Device, Guest};
use crate::root::Root;
use crate::schema::{Name, Schema, Tree};
use crate::settings::{Place, Settings};
use crate::text::quote;

/// How to print it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As `xenstore ls` does, with long values whole.
    Tree,
    /// One object, path to value.
    Json,
}

/// Prints what would be published. Addresses have the indices of a store that holds none yet. What only Xenstore tells,
/// the numbers of SR-IOV virtual functions, is not there.
///
/// # Errors
/// Where the network cannot be seen, or nothing printed.
pub fn show(settings: &Settings, format: Format) -> Result<(), Failure> {
    let mut guest = look(settings).map_err(Failure::system("see the network"))?;
    guest.date = SystemTime::now();
    let has_vif = guest
        .interfaces
        .values()
        .any(|interface| matches!(interface.device, Device::Vif(_)));
    if settings.schema == Name::Std && !has_vif && settings.xenstore != Place::Embedded {
        warn!("no network interface here is a VIF; with --xenstore embedded each counts as one");
    }
    let tree = Schema::new(settings.schema, settings.filter.clone()).render(&guest);
    print(&match format {
        Format::Tree => as_tree(&tree),
        Format::Json => as_json(&tree),
    })
}

/// Prints text on standard output.
///
/// # Errors
/// The system's, but for a reader that has seen enough.
pub fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(Failure::system("print")),
    }
}

/// Looks at all there is, until the network has told everything.
fn look(settings: &Settings) -> io::Result<Guest> {
    let mut guest = Guest::default();
    let mut collectors = Collectors::open(
        Root::new(&settings.root),
        settings.vif_numbers(),
        settings.network,
        settings.memory_period,
        &mut guest,
        clock::now(),
    )?;
    if settings.volumes {
        collectors.add_volumes(&mut guest);
    }
    let directory = settings.services.to_string_lossy();
    collectors.add_services(
        services::Directory::open(Root::new(&settings.root), &directory, None),
        &mut guest,
    );
    while let (false, Some(network)) = (collectors.is_settled(), collectors.network()) {
        match rustix::event::poll(
            &mut [PollFd::from_borrowed_fd(network, PollFlags::IN)],
            None,
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        collectors.on_network(&mut guest);
    }
    Ok(guest)
}

fn as_tree(tree: &Tree) -> String {
    // By names and not by characters, of which some sort before the slash.
    let mut nodes: Vec<(Vec<&str>, &str)> = tree
        .iter()
        .map(|(path, value)| (path.split('/').collect(), value.as_str()))
        .collect();
    nodes.sort();
    let (mut text, mut above): (String, &[&str]) = (String::new(), &[]);
    for (names, value) in &nodes {
        let known = names
            .iter()
            .zip(above)
            .take_while(|(name, above)| name == above)
            .count();
        for (depth, name) in names.iter().enumerate().skip(known) {
            let value = if depth + 1 == names.len() { value } else { "" };
            // Nothing fails that writes to a string.
            let _ = writeln!(text, "{:depth$}{name} = \"{value}\"", "");
        }
        above = names;
    }
    text
}

fn as_json(tree: &Tree) -> String {
    let members: Vec<_> = tree
        .iter()
        .map(|(path, value)| format!("\n  {}: {}", quote(path), quote(value)))
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
    fn a_node_without_a_value_of_its_own_is_empty() {
        let expected = "a = \"\"\n b = \"x \"y\" \\\"\n  c = \"2\"\n b-c = \"1\"\nd = \"\"\n e = \"\"\n  f = \"3\"\n g = \"ä\"\n";
        assert_eq!(as_tree(&tree()), expected);
    }

    #[test]
    fn one_object() {
        let expected: serde_json::Value = serde_json::json!({"a/b-c": "1", "a/b/c": "2", "a/b": "x \"y\" \\", "d/e/f": "3", "d/g": "ä"});
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&as_json(&tree())).unwrap(),
            expected
        );
        assert_eq!(as_json(&Tree::new()), "{\n}\n");
    }
}
