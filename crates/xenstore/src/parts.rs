//! A list of children that is too long for one message, fetched in parts (`DIRECTORY_PART`).

use crate::error::{Error, Result};

/// The most bytes of names that are believed.
///
/// C xenstored keeps a guest's node, the names of its children included, to 2048 bytes. For domain 0 it has no limit; but
/// a host cannot have more than 32752 domains, and a name for each of them by UUID comes to 1.2 MB.
const MOST: usize = 4 << 20;

/// How often a list is started over that changes while it is fetched.
const TRIES: usize = 1000;

/// The list as far as it got.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    generation: Vec<u8>,
    names: Vec<u8>,
    tries: usize,
}

impl Parts {
    /// Where the next part begins.
    pub(crate) fn offset(&self) -> usize {
        self.names.len()
    }

    /// Takes a part, which is the generation of the directory, then names; the last part ends in an empty name. Returns
    /// all names once they are there.
    ///
    /// # Errors
    /// [`Error::InvalidReply`] for what is no part, and for a list that does not come to an end.
    pub(crate) fn take(&mut self, part: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(end) = part.iter().position(|byte| *byte == 0) else {
            return Err(Error::InvalidReply(
                "a part of a list without its generation".to_owned(),
            ));
        };
        let (generation, names) = (
            part.get(..end).unwrap_or_default(),
            part.get(end + 1..).unwrap_or_default(),
        );
        if self.generation != generation && !self.names.is_empty() {
            // The directory changed under the list: from the start again.
            self.names.clear();
            self.tries += 1;
            if self.tries == TRIES {
                return Err(Error::InvalidReply(format!(
                    "a list that changed {TRIES} times while it was fetched"
                )));
            }
            return Ok(None);
        }
        if self.names.len() + names.len() > MOST {
            return Err(Error::InvalidReply(format!(
                "a list of more than {MOST} bytes"
            )));
        }
        self.generation = generation.to_vec();
        self.names.extend_from_slice(names);
        if names.is_empty() || self.names == b"\0" || self.names.ends_with(b"\0\0") {
            self.names.pop();
            return Ok(Some(std::mem::take(&mut self.names)));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_a_list() {
        let cases: [(&[&[u8]], &[u8]); 6] = [
            (&[b"7\0\0"], b""),
            (&[b"7\0a\0\0"], b"a\0"),
            (&[b"7\0a\0b\0", b"7\0c\0\0"], b"a\0b\0c\0"),
            (&[b"7\0a\0", b"7\0\0"], b"a\0"),
            // What was there before the change is forgotten.
            (
                &[b"7\0a\0b\0", b"8\0c\0", b"8\0b\0", b"8\0c\0\0"],
                b"b\0c\0",
            ),
            // No names at all end the list too.
            (&[b"7\0a\0b\0", b"7\0"], b"a\0b"),
        ];
        for (parts, expected) in cases {
            let mut list = Parts::default();
            let mut took = parts
                .iter()
                .map(|part| list.take(part).unwrap())
                .collect::<Vec<_>>();
            assert_eq!(took.pop().unwrap().as_deref(), Some(expected), "{parts:?}");
            assert!(took.iter().all(Option::is_none), "{parts:?}");
        }
    }

    #[test]
    fn a_list_without_an_end_is_given_up() {
        let part = [b"7\0".as_slice(), b"n\0".repeat(2000).as_slice()].concat();
        let mut list = Parts::default();
        let mut took = 0;
        let error = loop {
            match list.take(&part) {
                Ok(None) => took += 1,
                Ok(Some(_)) => panic!("it has no end"),
                Err(error) => break error,
            }
            assert!(list.offset() <= MOST);
        };
        assert_eq!((took, error.is_fatal()), (MOST / 4000, false), "{error}");
    }

    #[test]
    fn a_list_that_always_changes_is_given_up() {
        let mut list = Parts::default();
        let mut parts = (0..).map(|generation| list.take(format!("{generation}\0n\0").as_bytes()));
        // One part to begin with, and one again after each change.
        let took = parts
            .by_ref()
            .take_while(|part| matches!(part, Ok(None)))
            .count();
        assert_eq!(took, 2 * TRIES - 1);
    }

    #[test]
    fn a_part_has_a_generation() {
        for part in [b"".as_slice(), b"7"] {
            assert!(matches!(
                Parts::default().take(part),
                Err(Error::InvalidReply(_))
            ));
        }
    }
}
