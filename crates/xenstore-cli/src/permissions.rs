//! The sub-commands `chmod` and `perms`.

use std::io::Write;

use xenstore::{Client, DomId, Features, Nodes, Permission, Permissions, Result};

use crate::failure::Failure;
use crate::nodes::parent;
use crate::store::in_transaction;

/// Nodes to change besides the named one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recursion {
    pub(crate) upto: bool,
    pub(crate) recurse: bool,
}

pub(crate) fn chmod(
    client: &mut Client,
    key: &str,
    modes: &[String],
    recursion: Recursion,
    is_socket: bool,
) -> Result<(), Failure> {
    let permissions = parse(modes)?;
    if is_socket {
        refuse_all_domains(client, &permissions)?;
    }
    let mut at = String::new();
    in_transaction(client, recursion.upto || recursion.recurse, |store| {
        key.clone_into(&mut at);
        store.set_permissions(&at, &permissions)?;
        while recursion.upto && !parent(&at).is_empty() {
            at.truncate(parent(&at).len());
            store.set_permissions(&at, &permissions)?;
        }
        if recursion.recurse {
            key.clone_into(&mut at);
            set_below(store, &mut at, &permissions)?;
        }
        Ok(())
    })
    .map_err(|error| {
        Failure::of_request(
            &format!("Error occurred setting permissions on '{at}'"),
            &error,
        )
    })
}

/// Sets the permissions of all nodes below `at`. If this fails, `at` is the path of the node that
/// failed.
fn set_below(nodes: &mut impl Nodes, at: &mut String, permissions: &Permissions) -> Result<()> {
    let len = at.len();
    for name in nodes.list(&*at)? {
        if !at.ends_with('/') {
            at.push('/');
        }
        at.push_str(&name);
        nodes.set_permissions(&*at, permissions)?;
        set_below(nodes, at, permissions)?;
        at.truncate(len);
    }
    Ok(())
}

/// Returns an error if the permissions could make xenstored crash.
///
/// xenstored of Xen 4.22 crashes if a client of its socket names [`DomId::ANY`]. Servers without
/// this feature treat it as the number of an ordinary domain.
fn refuse_all_domains(client: &mut Client, permissions: &Permissions) -> Result<(), Failure> {
    if permissions
        .to_list()
        .all(|entry| entry.domain != DomId::ANY)
    {
        return Ok(());
    }
    let features = client.features();
    if features.is_ok_and(|features| !features.contains(Features::DOMID_ANY)) {
        return Ok(());
    }
    Err(Failure::Message(format!(
        "refusing to set permissions of domain {}, which means all domains: over a \
         socket, this can crash xenstored of Xen 4.22; put the access of all domains into the \
         first mode, as in r0",
        DomId::ANY
    )))
}

fn parse(modes: &[String]) -> Result<Permissions, Failure> {
    let invalid =
        |mode: &str| Failure::Message(format!("Invalid permission specification: '{mode}'"));
    let list: Vec<Permission> = modes
        .iter()
        .map(|mode| mode.parse().map_err(|_| invalid(mode)))
        .collect::<Result<_, _>>()?;
    Permissions::from_list(list).ok_or_else(|| invalid(""))
}

pub(crate) fn print(
    client: &mut Client,
    keys: &[String],
    prefix: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    for key in keys {
        let what = || format!("could not get permissions of path {key}");
        let permissions = client
            .permissions(key)
            .map_err(|error| Failure::of_request(&what(), &error))?;
        if prefix {
            write!(out, "{key}: ")?;
        }
        writeln!(out, "{permissions}")?;
    }
    Ok(())
}
