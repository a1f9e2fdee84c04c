//! What stands below a node, many nodes at a time.

use crate::calls;
use crate::error::{Error, ErrorCode, Result};
use crate::path::Path;
use crate::permission::Permission;
use crate::request::Request;

/// How many nodes are asked for at once: enough that the way to the server does not count, and few enough that nobody
/// else waits long for the server.
const AT_ONCE: usize = 64;

/// How many bytes of paths and values a walk may come to. It is some times what the quotas of a thousand guests allow, and
/// ends a walk through a server that makes up nodes without end.
const MOST: usize = 256 << 20;

/// A node that a [`Walk`] came to.
#[derive(Debug)]
pub struct Node {
    /// The path, which begins with that of the walk.
    pub path: Path,
    /// How many nodes stand above it up to where the walk began, which is at 0.
    pub depth: usize,
    /// The value.
    pub value: Result<Vec<u8>>,
    /// The names of the nodes below, in the server's order.
    pub children: Result<Vec<String>>,
    /// Owner and permissions, where the walk asks for them.
    pub permissions: Option<Result<Vec<Permission>>>,
}

/// A way through a tree: each node before those below it, and siblings in the server's order.
///
/// It sends nothing itself: [`requests`](Self::requests) says what to ask next and [`take`](Self::take) takes the
/// replies, so that any client can go it, in a transaction or not, and print or stop as it goes. Where all values are
/// wanted at once, [`Client::walk`](crate::Client::walk) is shorter.
///
/// The tree may change meanwhile: a node that goes is left out, and one that comes may be or not. What may not be read
/// is told in the [`Node`], and ends nothing.
///
/// ```no_run
/// # fn main() -> xenstore::Result<()> {
/// use xenstore::walk::Walk;
///
/// let mut client = xenstore::Client::open()?;
/// let mut walk = Walk::new("device")?.with_permissions();
/// loop {
///     let requests = walk.requests()?;
///     if requests.is_empty() {
///         break;
///     }
///     for node in walk.take(client.pipeline(requests)?)? {
///         println!("{:?}", node);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Walk {
    /// The rest of the way, the next step last.
    ahead: Vec<Step>,
    /// The steps that the last requests were about, the next one first.
    asked: Vec<Step>,
    permissions: bool,
    /// Bytes of all paths and values so far.
    size: usize,
}

#[derive(Debug)]
enum Step {
    /// Known of, and not asked for.
    Unknown { path: Path, depth: usize },
    /// Asked for, while nodes before it were not.
    Found(Node),
}

impl Walk {
    /// A walk that begins with the node at `root`.
    ///
    /// # Errors
    /// [`Error::InvalidPath`].
    pub fn new(root: impl AsRef<str>) -> Result<Self> {
        let path = Path::new(root.as_ref())?;
        Ok(Walk {
            ahead: vec![Step::Unknown { path, depth: 0 }],
            asked: Vec::new(),
            permissions: false,
            size: 0,
        })
    }

    /// Asks for permissions too.
    #[must_use]
    pub fn with_permissions(self) -> Self {
        Walk {
            permissions: true,
            ..self
        }
    }

    /// The next requests; none where the walk is over.
    ///
    /// # Errors
    /// [`Error::InvalidPath`].
    pub fn requests(&mut self) -> Result<Vec<Request>> {
        let mut requests = Vec::new();
        let mut nodes = 0;
        while nodes < AT_ONCE {
            let Some(step) = self.ahead.pop() else { break };
            if let Step::Unknown { path, .. } = &step {
                requests.extend([Request::read(path)?, Request::list(path)?]);
                if self.permissions {
                    requests.push(Request::permissions(path)?);
                }
                nodes += 1;
            }
            self.asked.push(step);
        }
        Ok(requests)
    }

    /// Takes the replies to all of the last [`requests`](Self::requests), in their order, and returns the nodes that come
    /// next; none where nodes before them are still to be asked for.
    ///
    /// # Errors
    /// [`Error::InvalidPath`] for a name that makes none, as that of a node too deep down; [`Error::InvalidReply`] where the
    /// tree has no end in sight, after 256 MiB.
    pub fn take(&mut self, replies: Vec<Result<Vec<u8>>>) -> Result<Vec<Node>> {
        let mut replies = replies.into_iter();
        let mut reply = || {
            replies
                .next()
                .unwrap_or_else(|| Err(Error::Protocol("a reply is missing".to_owned())))
        };
        let mut steps = Vec::new();
        for step in std::mem::take(&mut self.asked) {
            let Step::Unknown { path, depth } = step else {
                steps.push(step);
                continue;
            };
            let value = reply();
            let children = reply().map(|names| calls::parse_names(&names));
            let permissions = self
                .permissions
                .then(|| reply().and_then(|text| calls::parse_permissions(&text)));
            // Where the walk begins there must be one.
            if depth > 0 && (is_gone(&value) || is_gone(&children)) {
                continue;
            }
            let below = children
                .iter()
                .flatten()
                .map(|name| path.join(name))
                .collect::<Result<Vec<_>, _>>()?;
            self.size += value.as_ref().map_or(0, Vec::len);
            self.size += below
                .iter()
                .map(|path| path.len() + size_of::<Node>())
                .sum::<usize>();
            if self.size > MOST {
                return Err(Error::InvalidReply(format!(
                    "more than {MOST} bytes of nodes up to {path}"
                )));
            }
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

fn is_gone<T>(reply: &Result<T>) -> bool {
    reply
        .as_ref()
        .is_err_and(|error| error.code() == Some(&ErrorCode::ENOENT))
}

/// Path and value of each node that may be read: each node before those below it, and names in order.
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
            Err(Error::Refused {
                code: ErrorCode::EACCES,
                ..
            }) if depth > 0 => {}
            Err(error) => return Err(error),
        }
    }
    values.sort_by(|(a, _), (b, _)| a.split('/').cmp(b.split('/')));
    Ok(values)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::Kind;

    fn refused(code: ErrorCode) -> Result<Vec<u8>> {
        Err(Error::Refused {
            code,
            operation: Kind::READ,
            path: None,
        })
    }

    fn paths(nodes: &[Node]) -> Vec<&str> {
        nodes.iter().map(|node| node.path.as_str()).collect()
    }

    /// Goes all the way, with what `children` says of each node; the nodes found, and how often was asked.
    fn walked(root: &str, mut children: impl FnMut(&str) -> Result<Vec<u8>>) -> (Vec<Node>, usize) {
        let mut walk = Walk::new(root).unwrap();
        let (mut nodes, mut rounds) = (Vec::new(), 0);
        loop {
            let requests = walk.requests().unwrap();
            if requests.is_empty() {
                return (nodes, rounds);
            }
            assert!(requests.len() <= 2 * AT_ONCE);
            let replies = requests.iter().map(|request| match request.kind {
                Kind::READ => Ok(Vec::new()),
                _ => children(request.path().unwrap()),
            });
            nodes.extend(walk.take(replies.collect()).unwrap());
            rounds += 1;
        }
    }

    #[test]
    fn nodes_that_go_are_left_out_and_hidden_ones_are_told() {
        let mut walk = Walk::new("d").unwrap();
        assert_eq!(walk.requests().unwrap().len(), 2);
        let nodes = walk
            .take(vec![
                Ok(b"v".to_vec()),
                Ok(b"went\0goes\0comes\0hidden\0stays\0".to_vec()),
            ])
            .unwrap();
        assert_eq!(paths(&nodes), ["d"]);
        assert_eq!(walk.requests().unwrap().len(), 10);
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
        let nodes = walk.take(replies).unwrap();
        assert_eq!(paths(&nodes), ["d/hidden", "d/stays"]);
        assert!(walk.requests().unwrap().is_empty());
        assert_eq!(
            values(nodes).unwrap(),
            [(Path::new("d/stays").unwrap(), Vec::new())]
        );
    }

    #[test]
    fn values_are_not_given_where_the_root_or_the_server_is_wrong() {
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
    fn values_are_in_the_order_of_names() {
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
    fn permissions_are_asked_for_where_they_are_wanted() {
        let mut walk = Walk::new("d").unwrap().with_permissions();
        assert_eq!(walk.requests().unwrap().len(), 3);
        let nodes = walk
            .take(vec![
                Ok(Vec::new()),
                Ok(Vec::new()),
                Ok(b"n0\0r5\0".to_vec()),
            ])
            .unwrap();
        let permissions = nodes[0].permissions.as_ref().unwrap().as_ref().unwrap();
        assert_eq!(
            permissions
                .iter()
                .map(Permission::to_string)
                .collect::<Vec<_>>(),
            ["n0", "r5"]
        );
    }

    #[test]
    fn a_tree_without_an_end_is_given_up() {
        let mut walk = Walk::new("d").unwrap();
        // What it has come to already.
        walk.size = MOST - (1 << 20);
        let mut nodes = 0;
        let error = loop {
            let count = walk.requests().unwrap().len() / 2;
            nodes += count;
            let replies = (0..count)
                .flat_map(|_| [Ok(vec![b'v'; 4096]), Ok(b"a\0b\0c\0".to_vec())])
                .collect();
            if let Err(error) = walk.take(replies) {
                break error;
            }
        };
        assert!(
            matches!(error, Error::InvalidReply(_)) && nodes < (1 << 20) / 4096,
            "{error}"
        );
    }

    #[test]
    fn small_directories_are_asked_for_together() {
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
        /// Whatever the tree, the nodes come as a plain recursion finds them.
        #[test]
        fn the_order_is_that_of_the_tree(parents in prop::collection::vec(any::<prop::sample::Index>(), 0..400)) {
            let mut children = BTreeMap::<String, Vec<String>>::new();
            let mut paths = vec!["d".to_owned()];
            for (number, parent) in parents.iter().enumerate() {
                let parent = parent.get(&paths).clone();
                // Not in the order in which they are made.
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
