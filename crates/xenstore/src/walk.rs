//! What stands below a node, read level by level while others may change it.

use crate::error::{Error, ErrorCode, Result};
use crate::path::Path;
use crate::request::Request;
use crate::wire;

/// How many nodes are asked for at once: enough that the way to the server does not count, and few enough that nobody
/// else waits long for the server.
const AT_ONCE: usize = 64;

/// How many bytes of paths and values a walk may come to. It is some times what the quotas of a thousand guests allow, and
/// keeps a server that makes up nodes without end from filling the memory.
const MOST: usize = 256 << 20;

/// A walk: [`requests`](Self::requests) says what to ask next, [`take`](Self::take) takes the replies.
#[derive(Debug)]
pub(crate) struct Walk {
    root: Path,
    /// Known of, and not asked for.
    ahead: Vec<Path>,
    /// Asked for.
    asked: Vec<Path>,
    found: Vec<(Path, Vec<u8>)>,
    /// Bytes of all paths and values above.
    size: usize,
}

impl Walk {
    pub(crate) fn new(root: &str) -> Result<Self> {
        let root = Path::new(root)?;
        Ok(Walk { ahead: vec![root.clone()], root, asked: Vec::new(), found: Vec::new(), size: 0 })
    }

    /// The next requests, in pairs of value and children; none where the walk is over.
    pub(crate) fn requests(&mut self) -> Result<Vec<Request>> {
        self.asked = self.ahead.split_off(self.ahead.len().saturating_sub(AT_ONCE));
        let mut requests = Vec::with_capacity(2 * self.asked.len());
        for path in &self.asked {
            requests.extend([Request::read(path)?, Request::list(path)?]);
        }
        Ok(requests)
    }

    pub(crate) fn take(&mut self, replies: Vec<Result<Vec<u8>>>) -> Result<()> {
        let mut replies = replies.into_iter();
        for path in std::mem::take(&mut self.asked) {
            let (Some(value), Some(children)) = (replies.next(), replies.next()) else { break };
            match value.and_then(|value| Ok((value, children?))) {
                Ok((value, children)) => {
                    self.size += value.len();
                    for name in wire::strings(&children) {
                        let child = path.join(&String::from_utf8_lossy(name))?;
                        self.size += size_of::<(Path, Vec<u8>)>() + child.len();
                        self.ahead.push(child);
                    }
                    if self.size > MOST {
                        return Err(Error::InvalidReply(format!("more than {MOST} bytes below {}", self.root)));
                    }
                    self.found.push((path, value));
                }
                // It went in the meantime, or is hidden.
                Err(Error::Refused { code: ErrorCode::ENOENT | ErrorCode::EACCES, .. }) if path != self.root => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What was found: each node before those below it, and names in order.
    pub(crate) fn finish(mut self) -> Vec<(Path, Vec<u8>)> {
        self.found.sort_by(|(a, _), (b, _)| a.as_str().split('/').cmp(b.as_str().split('/')));
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Kind;

    fn refused(code: ErrorCode) -> Result<Vec<u8>> {
        Err(Error::Refused { code, operation: Kind::READ, path: None })
    }

    fn asked(walk: &mut Walk) -> Vec<String> {
        let requests = walk.requests().unwrap();
        requests.chunks(2).map(|pair| pair[0].path().unwrap().to_owned()).collect()
    }

    fn found(walk: Walk) -> Vec<String> {
        walk.finish().into_iter().map(|(path, _)| path.to_string()).collect()
    }

    #[test]
    fn nodes_that_go_or_are_hidden_are_left_out() {
        let mut walk = Walk::new("d").unwrap();
        assert_eq!(asked(&mut walk), ["d"]);
        walk.take(vec![Ok(b"v".to_vec()), Ok(b"went\0goes\0hidden\0stays\0".to_vec())]).unwrap();
        assert_eq!(asked(&mut walk), ["d/went", "d/goes", "d/hidden", "d/stays"]);
        walk.take(vec![
            refused(ErrorCode::ENOENT),
            refused(ErrorCode::ENOENT),
            Ok(Vec::new()),
            refused(ErrorCode::ENOENT),
            refused(ErrorCode::EACCES),
            refused(ErrorCode::EACCES),
            Ok(Vec::new()),
            Ok(Vec::new()),
        ])
        .unwrap();
        assert!(asked(&mut walk).is_empty());
        assert_eq!(found(walk), ["d", "d/stays"]);
    }

    #[test]
    fn a_tree_without_an_end_is_given_up() {
        let mut walk = Walk::new("d").unwrap();
        let names =
            (0..100).flat_map(|number| format!("{number:02}{}\0", "n".repeat(38)).into_bytes()).collect::<Vec<_>>();
        // What it has come to already.
        walk.size = MOST - (1 << 20);
        let mut nodes = 0;
        let error = loop {
            let count = walk.requests().unwrap().len() / 2;
            nodes += count;
            let replies = (0..count).flat_map(|_| [Ok(vec![b'v'; 4096]), Ok(names.clone())]).collect();
            if let Err(error) = walk.take(replies) {
                break error;
            }
        };
        assert!(matches!(error, Error::InvalidReply(_)) && nodes < (1 << 20) / 4096, "{error}");
    }

    #[test]
    fn what_is_wrong_with_the_root_or_with_the_server_is_told() {
        for code in [ErrorCode::ENOENT, ErrorCode::EACCES] {
            let mut walk = Walk::new("d").unwrap();
            walk.requests().unwrap();
            assert!(walk.take(vec![refused(code.clone()), refused(code)]).is_err());
        }
        let mut walk = Walk::new("d").unwrap();
        walk.requests().unwrap();
        walk.take(vec![Ok(Vec::new()), Ok(b"x\0".to_vec())]).unwrap();
        walk.requests().unwrap();
        assert!(walk.take(vec![Ok(Vec::new()), refused(ErrorCode::E2BIG)]).is_err());
    }

    #[test]
    fn nodes_come_before_those_below_and_are_asked_for_in_portions() {
        let mut walk = Walk::new("/").unwrap();
        walk.requests().unwrap();
        let names = (0..150).flat_map(|number| format!("{number:03}\0b{number}\0").into_bytes()).collect();
        walk.take(vec![Ok(Vec::new()), Ok(names)]).unwrap();
        let mut rounds = 0;
        loop {
            let requests = walk.requests().unwrap();
            if requests.is_empty() {
                break;
            }
            assert!(requests.len() <= 2 * AT_ONCE);
            walk.take(requests.iter().map(|_| Ok(Vec::new())).collect()).unwrap();
            rounds += 1;
        }
        assert_eq!((rounds, walk.found.len()), (5, 301));

        let mut walk = Walk::new("d").unwrap();
        walk.found = ["d/a-b", "d/a/c", "d", "d/a"].map(|path| (Path::new(path).unwrap(), Vec::new())).into();
        assert_eq!(found(walk), ["d", "d/a", "d/a/c", "d/a-b"]);
    }
}
