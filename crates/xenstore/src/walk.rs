//! Traversal of a tree, many nodes at a time.

use crate::error::{Error, Result};
use crate::path::Path;
use crate::permission::Permissions;
use crate::reply;
use crate::request::Request;
use crate::wire::MessageKind;

/// Number of nodes per round. Large enough to make round-trip times irrelevant, and small enough
/// not to delay other clients of the server.
const NODES_PER_ROUND: usize = 64;

/// Default limit of memory in bytes. It is several times what the quota of a guest allows, and a
/// small part of a small guest's memory.
const DEFAULT_LIMIT: usize = 16 << 20;

/// Bytes that an allocation takes besides its content, in common allocators.
const ALLOCATION: usize = 16;

/// A node that a [`Walk`] has visited.
#[derive(Debug)]
#[non_exhaustive]
pub struct Node {
    /// Path, which starts with the path of the walk's root.
    pub path: Path,
    /// Number of levels below the walk's root, which has depth 0.
    pub depth: usize,
    /// Value, or the error of reading it.
    pub value: Result<Vec<u8>>,
    /// Names of the children in the server's order, or the error of listing them.
    pub children: Result<Vec<String>>,
    /// Permissions, if the walk asks for them.
    pub permissions: Option<Result<Permissions>>,
}

impl Node {
    /// Returns a node with an empty value, without children.
    pub fn new(path: Path, depth: usize) -> Self {
        Node {
            path,
            depth,
            value: Ok(Vec::new()),
            children: Ok(Vec::new()),
            permissions: None,
        }
    }
}

/// A traversal of a tree. A node precedes its children, and siblings are in the server's order.
///
/// A walk sends nothing itself. [`next_requests`](Self::next_requests) returns the next requests to send, and
/// [`on_replies`](Self::on_replies) takes their replies and returns the next nodes. So it works
/// with every client, inside and outside of transactions, and the caller can process each node
/// immediately or stop. To read all values at once, use [`Nodes::walk`](crate::Nodes::walk).
///
/// The tree may change during the walk: nodes that are removed meanwhile are omitted, and nodes
/// that are created meanwhile may be missing. Missing access to a node is reported in its [`Node`]
/// and does not end the walk.
///
/// ```no_run
/// # fn main() -> xenstore::Result<()> {
/// use xenstore::Nodes;
/// use xenstore::walk::Walk;
///
/// let mut client = xenstore::Client::open()?;
/// let mut walk = Walk::new("device")?.with_permissions();
/// loop {
///     let requests = walk.next_requests()?;
///     if requests.is_empty() {
///         break;
///     }
///     for node in walk.on_replies(client.pipeline(requests)?)? {
///         println!("{:?}", node);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Walk {
    /// Remaining steps, the next one last.
    ahead: Vec<Step>,
    /// Steps of the last requests, the next one first.
    requested: Vec<Step>,
    permissions: bool,
    /// Memory of all nodes so far, in bytes.
    size: usize,
    /// Maximum of `size`.
    limit: usize,
}

#[derive(Debug)]
enum Step {
    /// A node that was not requested yet.
    Unknown {
        path: Path,
        depth: usize,
        /// Whether its list needs more than a share of the limit.
        is_large: bool,
    },
    /// A received node that has to wait for nodes before it.
    Found(Node),
}

impl Walk {
    /// Creates a walk that starts at the node `root`.
    ///
    /// # Errors
    /// [`Error::InvalidPath`].
    pub fn new(root: impl AsRef<str>) -> Result<Self> {
        let path = Path::new(root.as_ref())?;
        Ok(Walk {
            ahead: vec![Step::Unknown {
                path,
                depth: 0,
                is_large: false,
            }],
            requested: Vec::new(),
            permissions: false,
            size: 0,
            limit: DEFAULT_LIMIT,
        })
    }

    /// Makes the walk ask for permissions too.
    #[must_use]
    pub fn with_permissions(self) -> Self {
        Walk {
            permissions: true,
            ..self
        }
    }

    /// Limits the memory of all nodes, also of those that were returned, to about this many bytes.
    /// So the walk ends even if a faulty server invents nodes without end. The default is 16 MiB.
    #[must_use]
    pub fn at_most(self, bytes: usize) -> Self {
        Walk {
            limit: bytes,
            ..self
        }
    }

    /// Returns the next requests, or none if the walk is complete.
    ///
    /// # Errors
    /// [`Error::InvalidPath`].
    pub fn next_requests(&mut self) -> Result<Vec<Request>> {
        let mut nodes = 0;
        while nodes < NODES_PER_ROUND {
            let is_large = matches!(
                self.ahead.last(),
                Some(Step::Unknown { is_large: true, .. })
            );
            if is_large && nodes > 0 {
                break;
            }
            let Some(step) = self.ahead.pop() else { break };
            nodes += usize::from(matches!(step, Step::Unknown { .. }));
            self.requested.push(step);
            if is_large {
                break;
            }
        }

        // Otherwise the lists of one round could exceed the limit before the walk counts them.
        let list_limit = self.limit.saturating_sub(self.size) / nodes.max(1);
        let mut requests = Vec::new();
        for step in &self.requested {
            let Step::Unknown { path, .. } = step else {
                continue;
            };
            let list = Request::list(path)?.list_limit(list_limit);
            requests.extend([Request::read(path)?, list.untyped()]);
            if self.permissions {
                requests.push(Request::permissions(path)?.untyped());
            }
        }
        Ok(requests)
    }

    /// Takes the replies to the last [`next_requests`](Self::next_requests), in their order, and returns the
    /// next nodes.
    ///
    /// Returns no nodes if a node before them was not requested yet.
    ///
    /// # Errors
    /// [`Error::InvalidPath`] for a name that makes an invalid path, such as one that is too long.
    /// [`Error::InvalidReply`] if the nodes need more memory than [`at_most`](Self::at_most)
    /// allows.
    pub fn on_replies(&mut self, replies: Vec<Result<Vec<u8>>>) -> Result<Vec<Node>> {
        let mut replies = replies.into_iter();
        let mut next = |kind, path: &Path| {
            let missing = || Err(Error::invalid_reply(kind, Some(path.as_str()), "missing"));
            replies.next().unwrap_or_else(missing)
        };

        let requested = std::mem::take(&mut self.requested);
        let unknown = requested
            .iter()
            .filter(|step| matches!(step, Step::Unknown { .. }));
        let is_shared = unknown.count() > 1;
        let mut steps = Vec::new();
        for step in requested {
            let Step::Unknown { path, depth, .. } = step else {
                steps.push(step);
                continue;
            };
            let value = next(MessageKind::READ, &path);
            let names = next(MessageKind::DIRECTORY, &path);
            let permissions = self.permissions.then(|| {
                let list = next(MessageKind::GET_PERMS, &path)?;
                parsed(reply::permissions(list), MessageKind::GET_PERMS, &path)
            });

            // A missing node is omitted, except the root, whose error is reported.
            if depth > 0 && (is_missing(&value) || is_missing(&names)) {
                continue;
            }

            // A list that exceeds its share may still fit the rest of the limit.
            if is_shared && matches!(names, Err(Error::InvalidReply { .. })) {
                steps.push(Step::Unknown {
                    path,
                    depth,
                    is_large: true,
                });
                continue;
            }

            // Names are many times larger once they are parsed, so that they are counted before.
            self.size = self.size.saturating_add(size(&path, &value, &names));
            if self.size > self.limit {
                return Err(Error::invalid_reply(
                    MessageKind::DIRECTORY,
                    Some(path.as_str()),
                    format!("tree that needs more than {} bytes of memory", self.limit),
                ));
            }
            let children =
                names.and_then(|names| parsed(reply::names(names), MessageKind::DIRECTORY, &path));
            let below = children
                .iter()
                .flatten()
                .map(|name| path.join(name))
                .collect::<Result<Vec<_>, _>>()?;

            steps.push(Step::Found(Node {
                path,
                depth,
                value,
                children,
                permissions,
            }));
            steps.extend(below.into_iter().map(|path| Step::Unknown {
                path,
                depth: depth + 1,
                is_large: false,
            }));
        }
        self.ahead.extend(steps.into_iter().rev());

        let mut found = Vec::new();
        loop {
            match self.ahead.pop() {
                Some(Step::Found(node)) => found.push(node),
                step => {
                    self.ahead.extend(step);
                    return Ok(found);
                }
            }
        }
    }
}

/// Returns the approximate memory of a node and of the steps to its children, in bytes.
fn size(path: &Path, value: &Result<Vec<u8>>, names: &Result<Vec<u8>>) -> usize {
    let len = |reply: &Result<Vec<u8>>| reply.as_ref().map_or(0, Vec::len);
    let names_count = names.iter().flatten().filter(|byte| **byte == 0).count() + 1;

    // A name is kept in the list of its parent, and at the end of the path of its own step.
    let string = size_of::<String>() + ALLOCATION;
    let step = size_of::<Step>() + ALLOCATION + path.as_str().len() + 1;
    size_of::<Node>() + len(value) + 2 * len(names) + names_count * (string + step)
}

fn parsed<T>(result: Result<T, String>, kind: MessageKind, path: &Path) -> Result<T> {
    result.map_err(|reason| Error::invalid_reply(kind, Some(path.as_str()), reason))
}

fn is_missing<T>(reply: &Result<T>) -> bool {
    reply.as_ref().is_err_and(Error::is_not_found)
}

/// Returns path and value of each readable node, sorted by the names in the path.
pub(crate) fn values(nodes: Vec<Node>) -> Result<Vec<(Path, Vec<u8>)>> {
    let mut values = Vec::with_capacity(nodes.len());
    for Node {
        path,
        depth,
        value,
        children,
        ..
    } in nodes
    {
        match value.and_then(|value| children.and(Ok(value))) {
            Ok(value) => values.push((path, value)),
            Err(error) if depth > 0 && error.is_denied() => {}
            Err(error) => return Err(error),
        }
    }
    values.sort_by(|(a, _), (b, _)| a.components().cmp(b.components()));
    Ok(values)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorCode;

    fn refused(code: ErrorCode) -> Result<Vec<u8>> {
        Err(Error::refused(code, MessageKind::READ, None))
    }

    fn paths(nodes: &[Node]) -> Vec<&str> {
        nodes.iter().map(|node| node.path.as_str()).collect()
    }

    /// Walks a tree whose children `children` returns. Returns the nodes and the number of rounds.
    fn walked(root: &str, mut children: impl FnMut(&str) -> Result<Vec<u8>>) -> (Vec<Node>, usize) {
        let mut walk = Walk::new(root).unwrap();
        let (mut nodes, mut rounds) = (Vec::new(), 0);
        loop {
            let requests = walk.next_requests().unwrap();
            if requests.is_empty() {
                return (nodes, rounds);
            }
            assert!(requests.len() <= 2 * NODES_PER_ROUND);
            let replies = requests.iter().map(|request| match request.kind {
                MessageKind::READ => Ok(Vec::new()),
                _ => children(request.path().unwrap()),
            });
            nodes.extend(walk.on_replies(replies.collect()).unwrap());
            rounds += 1;
        }
    }

    #[test]
    fn removed_nodes_are_omitted_and_unreadable_nodes_reported() {
        let mut walk = Walk::new("d").unwrap();
        assert_eq!(walk.next_requests().unwrap().len(), 2);
        let nodes = walk
            .on_replies(vec![
                Ok(b"v".to_vec()),
                Ok(b"went\0goes\0comes\0hidden\0stays\0".to_vec()),
            ])
            .unwrap();
        assert_eq!(paths(&nodes), ["d"]);
        assert_eq!(walk.next_requests().unwrap().len(), 10);
        let replies = vec![
            refused(ErrorCode::ENOENT),
            refused(ErrorCode::ENOENT),
            Ok(Vec::new()),
            refused(ErrorCode::ENOENT),
            refused(ErrorCode::ENOENT),
            Ok(Vec::new()),
            refused(ErrorCode::EACCES),
            refused(ErrorCode::EACCES),
            Ok(Vec::new()),
            Ok(Vec::new()),
        ];
        let nodes = walk.on_replies(replies).unwrap();
        assert_eq!(paths(&nodes), ["d/hidden", "d/stays"]);
        assert!(walk.next_requests().unwrap().is_empty());
        assert_eq!(
            values(nodes).unwrap(),
            [(Path::new("d/stays").unwrap(), Vec::new())]
        );
    }

    #[test]
    fn values_fail_with_the_error_of_the_root_or_of_the_server() {
        for code in [ErrorCode::ENOENT, ErrorCode::EACCES] {
            let (nodes, _) = walked("d", |_| refused(code.clone()));
            assert!(values(nodes).is_err(), "{code}");
        }
        let (nodes, _) = walked("d", |path| {
            if path == "d" {
                Ok(b"x\0".to_vec())
            } else {
                refused(ErrorCode::E2BIG)
            }
        });
        assert!(values(nodes).is_err());
    }

    #[test]
    fn values_are_sorted_by_name() {
        let (nodes, _) = walked("d", |path| {
            Ok(match path {
                "d" => b"a-b\0b\0a\0".to_vec(),
                "d/a" => b"c\0".to_vec(),
                _ => Vec::new(),
            })
        });
        assert_eq!(
            paths(&nodes),
            ["d", "d/a-b", "d/b", "d/a", "d/a/c"],
            "the server's order"
        );
        let values = values(nodes).unwrap();
        assert_eq!(
            values
                .iter()
                .map(|(path, _)| path.as_str())
                .collect::<Vec<_>>(),
            ["d", "d/a", "d/a/c", "d/a-b", "d/b"]
        );
    }

    #[test]
    fn permissions_are_requested_if_wanted() {
        let mut walk = Walk::new("d").unwrap().with_permissions();
        assert_eq!(walk.next_requests().unwrap().len(), 3);
        let nodes = walk
            .on_replies(vec![
                Ok(Vec::new()),
                Ok(Vec::new()),
                Ok(b"n0\0r5\0".to_vec()),
            ])
            .unwrap();
        let permissions = nodes[0].permissions.as_ref().unwrap().as_ref().unwrap();
        assert_eq!(permissions.to_string(), "n0 r5");
    }

    #[test]
    fn endless_tree_is_rejected() {
        let mut walk = Walk::new("d").unwrap();
        // The walk starts close to the limit, to keep the test short.
        walk.size = DEFAULT_LIMIT - (1 << 20);
        let mut nodes = 0;
        let error = loop {
            let count = walk.next_requests().unwrap().len() / 2;
            nodes += count;
            let replies = (0..count)
                .flat_map(|_| [Ok(vec![b'v'; 4096]), Ok(b"a\0b\0c\0".to_vec())])
                .collect();
            if let Err(error) = walk.on_replies(replies) {
                break error;
            }
        };
        assert!(
            matches!(error, Error::InvalidReply { .. }) && nodes < (1 << 20) / 4096,
            "{error}"
        );
    }

    #[test]
    fn memory_of_a_walk_is_limited() {
        const LIMIT: usize = 1 << 20;
        // Lists of short names that are as long as the walk allows, with and without end.
        for depth in [1, 2, usize::MAX] {
            let mut walk = Walk::new("d").unwrap().at_most(LIMIT);
            let (mut nodes, mut held) = (0, 0);
            let result = loop {
                let requests = walk.next_requests().unwrap();
                if requests.is_empty() {
                    break Ok(());
                }
                let replies: Vec<_> = requests
                    .iter()
                    .map(|request| match request.kind {
                        MessageKind::READ => Ok(vec![b'v'; 100]),
                        _ if request.path().unwrap().matches('/').count() < depth => {
                            Ok(b"n\0".repeat(request.list_limit.min(4 << 20) / 2))
                        }
                        _ => Ok(Vec::new()),
                    })
                    .collect();
                held = replies
                    .iter()
                    .flatten()
                    .map(Vec::len)
                    .sum::<usize>()
                    .max(held);
                match walk.on_replies(replies) {
                    Ok(found) => nodes += found.len(),
                    Err(error) => break Err(error),
                }
            };
            let error = result.unwrap_err();
            assert!(matches!(error, Error::InvalidReply { .. }), "{error}");
            assert!(
                nodes * size_of::<Node>() <= LIMIT && held <= 2 * LIMIT,
                "{held}"
            );
        }

        let store = |limit| {
            let mut walk = Walk::new("d").unwrap().at_most(limit);
            walk.next_requests().unwrap();
            walk.on_replies(vec![Ok(vec![b'v'; 1000]), Ok(b"a\0b\0".to_vec())])
        };
        assert!(store(1000).is_err() && store(2000).is_ok());
    }

    #[test]
    fn list_longer_than_its_share_is_requested_alone() {
        const LIMIT: usize = 2 << 20;
        let mut walk = Walk::new("d").unwrap().at_most(LIMIT);
        let (mut nodes, mut rounds) = (Vec::new(), Vec::new());
        while rounds.len() < 3 {
            let requests = walk.next_requests().unwrap();
            rounds.push(requests.len() / 2);
            let replies = requests.iter().map(|request| {
                let names = match request.path() {
                    _ if request.kind == MessageKind::READ => Vec::new(),
                    Some("d") => b"a\0big\0c\0".to_vec(),
                    Some("d/big") => [vec![b'x'; 800], vec![0]].concat().repeat(1000),
                    _ => Vec::new(),
                };
                if names.len() > request.list_limit {
                    let reason = "a list that is too long";
                    return Err(Error::invalid_reply(request.kind, request.path(), reason));
                }
                Ok(names)
            });
            let replies = replies.collect();
            nodes.extend(walk.on_replies(replies).unwrap());
        }
        assert_eq!(rounds, [1, 3, 1]);
        assert_eq!(paths(&nodes), ["d", "d/a", "d/big"]);
        assert_eq!(nodes[2].children.as_ref().unwrap().len(), 1000);
    }

    #[test]
    fn small_directories_share_a_round() {
        let (nodes, rounds) = walked("/", |path| {
            let names = |names: usize| {
                (0..names)
                    .flat_map(|name| format!("{name}\0").into_bytes())
                    .collect()
            };
            Ok(match path.matches('/').count() {
                _ if path == "/" => names(64),
                1 => names(1),
                _ => Vec::new(),
            })
        });
        assert_eq!((nodes.len(), rounds), (129, 3));
    }

    fn recurse(
        path: &str,
        depth: usize,
        children: &BTreeMap<String, Vec<String>>,
        into: &mut Vec<(String, usize)>,
    ) {
        into.push((path.to_owned(), depth));
        for name in children.get(path).into_iter().flatten() {
            recurse(&format!("{path}/{name}"), depth + 1, children, into);
        }
    }

    proptest! {
        /// The walk visits any tree in the order of a simple recursion.
        #[test]
        fn nodes_are_in_depth_first_order(parents in prop::collection::vec(any::<prop::sample::Index>(), 0..400)) {
            let mut children = BTreeMap::<String, Vec<String>>::new();
            let mut paths = vec!["d".to_owned()];
            for (number, parent) in parents.iter().enumerate() {
                let parent = parent.get(&paths).clone();
                // The names are not in the order of creation.
                let names = children.entry(parent.clone()).or_default();
                names.insert(number % (names.len() + 1), format!("n{number}"));
                paths.push(format!("{parent}/n{number}"));
            }
            let mut expected = Vec::new();
            recurse("d", 0, &children, &mut expected);
            let (nodes, _) = walked("d", |path| {
                let names = children.get(path).into_iter().flatten();
                Ok(names.flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect())
            });
            let nodes: Vec<_> = nodes.into_iter().map(|node| (node.path.to_string(), node.depth)).collect();
            prop_assert_eq!(nodes, expected);
        }
    }
}
