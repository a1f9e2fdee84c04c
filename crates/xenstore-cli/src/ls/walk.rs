//! Going through a tree.

use std::io;

use xenstore::{Client, Error, ErrorCode, Request, wire};

use crate::failure::{self, Failure};

/// Nodes that are asked for together.
const AT_ONCE: usize = 64;

/// A node that was found.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub(crate) path: &'a str,
    pub(crate) name: &'a str,
    /// Nodes between this and where the walk began.
    pub(crate) depth: usize,
    pub(crate) has_children: bool,
    /// None where it may not be read.
    pub(crate) value: Option<Vec<u8>>,
    /// None where they were not asked for, or may not be read.
    pub(crate) permissions: Option<Vec<String>>,
}

pub(crate) struct Walk<'a> {
    pub(crate) client: &'a mut Client,
    /// Whether permissions are asked for.
    pub(crate) permissions: bool,
}

type Visit<'v> = &'v mut dyn FnMut(&Node<'_>) -> io::Result<()>;

impl Walk<'_> {
    /// Visits all nodes below `path`: each before those below it, and siblings in the server's order.
    ///
    /// # Errors
    /// A node below which this may not look ends the walk, after the visit to it. Nodes that vanish meanwhile are passed
    /// over.
    pub(crate) fn below(&mut self, path: &str, visit: Visit<'_>) -> Result<(), Failure> {
        let names = self.client.list(path).map_err(|error| no_directory(path, &error))?;
        self.children(path, &names, 0, visit)
    }

    fn children(&mut self, path: &str, names: &[String], depth: usize, visit: Visit<'_>) -> Result<(), Failure> {
        let slash = if path.ends_with('/') { "" } else { "/" };
        for names in names.chunks(AT_ONCE) {
            let paths: Vec<_> = names.iter().map(|name| format!("{path}{slash}{name}")).collect();
            let mut replies = self.ask(&paths).map_err(|error| no_directory(path, &error))?.into_iter();
            for (name, path) in names.iter().zip(&paths) {
                let mut reply = || replies.next().unwrap_or_else(|| Err(Error::Protocol("too few replies".to_owned())));
                let (list, value) = (reply(), reply());
                let permissions = if self.permissions { reply().ok() } else { None };
                if list.as_ref().is_err_and(|error| error.code() == Some(&ErrorCode::ENOENT)) {
                    continue;
                }
                let below = list.as_ref().map(|list| texts(list)).unwrap_or_default();
                visit(&Node {
                    path,
                    name,
                    depth,
                    has_children: !below.is_empty(),
                    value: value.ok(),
                    permissions: permissions.map(|permissions| texts(&permissions)),
                })?;
                list.map_err(|error| no_directory(path, &error))?;
                self.children(path, &below, depth + 1, visit)?;
            }
        }
        Ok(())
    }

    /// Children, value and, where wanted, permissions of each of `paths`.
    fn ask(&mut self, paths: &[String]) -> xenstore::Result<Vec<xenstore::Result<Vec<u8>>>> {
        let mut requests = Vec::with_capacity(3 * paths.len());
        for path in paths {
            requests.extend([Request::list(path)?, Request::read(path)?]);
            if self.permissions {
                requests.push(Request::permissions(path)?);
            }
        }
        self.client.pipeline(requests)
    }
}

fn texts(payload: &[u8]) -> Vec<String> {
    wire::strings(payload).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

/// What Xen's `ls` says where it cannot list a node.
pub(crate) fn no_directory(path: &str, error: &Error) -> Failure {
    let what = format!("xs_directory ({path})");
    match error.code() {
        Some(code) => Failure::Said(format!("{what}: {}", failure::text(code))),
        None => Failure::of_request(&what, error),
    }
}
