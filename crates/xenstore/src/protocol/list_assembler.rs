//! Assembly of a list of children that is fetched in parts (`DIRECTORY_PART`).

/// Default maximum length of the names in bytes.
///
/// C xenstored limits a guest's node with the names of its children to 2048 bytes. It does not
/// limit domain 0, but a host has at most 32752 domains, and a UUID as a name for each of them
/// takes 1.2 MB.
pub(super) const MAX_LEN: usize = 4 << 20;

/// Maximum number of restarts because the list changed while it was fetched.
const MAX_RESTARTS: usize = 1000;

/// The part of a list that was received so far.
#[derive(Debug, Default)]
pub(super) struct ListAssembler {
    generation: Vec<u8>,
    names: Vec<u8>,
    restarts: usize,
}

impl ListAssembler {
    /// Returns the offset of the next part.
    pub(super) fn offset(&self) -> usize {
        self.names.len()
    }

    /// Adds a part, which consists of the directory's generation and names. Returns all names after
    /// the last part, which ends in an empty name. The names have at most `max_len` bytes.
    ///
    /// # Errors
    /// The reason for a malformed part, and for a list that does not end.
    pub(super) fn add(&mut self, part: &[u8], max_len: usize) -> Result<Option<Vec<u8>>, String> {
        let Some(end) = part.iter().position(|byte| *byte == 0) else {
            return Err("part of a list without a generation".to_owned());
        };
        let generation = part.get(..end).unwrap_or_default();
        let names = part.get(end + 1..).unwrap_or_default();

        // A changed generation means that the directory changed, so that the list must be fetched
        // again.
        if self.generation != generation && !self.names.is_empty() {
            self.names.clear();
            self.restarts += 1;
            if self.restarts == MAX_RESTARTS {
                return Err(format!(
                    "list changed {MAX_RESTARTS} times while it was fetched"
                ));
            }
            return Ok(None);
        }

        if self.names.len() + names.len() > max_len {
            return Err(format!("list of more than {max_len} bytes"));
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
    fn parts_are_assembled() {
        let cases: [(&[&[u8]], &[u8]); 6] = [
            (&[b"7\0\0"], b""),
            (&[b"7\0a\0\0"], b"a\0"),
            (&[b"7\0a\0b\0", b"7\0c\0\0"], b"a\0b\0c\0"),
            (&[b"7\0a\0", b"7\0\0"], b"a\0"),
            // A change discards the names received before it.
            (
                &[b"7\0a\0b\0", b"8\0c\0", b"8\0b\0", b"8\0c\0\0"],
                b"b\0c\0",
            ),
            // A part without any name also ends the list.
            (&[b"7\0a\0b\0", b"7\0"], b"a\0b"),
        ];
        for (parts, expected) in cases {
            let mut list = ListAssembler::default();
            let mut took = parts
                .iter()
                .map(|part| list.add(part, MAX_LEN).unwrap())
                .collect::<Vec<_>>();
            assert_eq!(took.pop().unwrap().as_deref(), Some(expected), "{parts:?}");
            assert!(took.iter().all(Option::is_none), "{parts:?}");
        }
    }

    #[test]
    fn endless_list_is_rejected() {
        let part = [b"7\0".as_slice(), b"n\0".repeat(2000).as_slice()].concat();
        let mut list = ListAssembler::default();
        let mut took = 0;
        let error = loop {
            match list.add(&part, MAX_LEN) {
                Ok(None) => took += 1,
                Ok(Some(_)) => panic!("an endless list cannot be complete"),
                Err(error) => break error,
            }
            assert!(list.offset() <= MAX_LEN);
        };
        assert_eq!(took, MAX_LEN / 4000, "{error}");
    }

    #[test]
    fn constantly_changing_list_is_rejected() {
        let mut list = ListAssembler::default();
        let mut parts =
            (0..).map(|generation| list.add(format!("{generation}\0n\0").as_bytes(), MAX_LEN));
        // The list takes one part at first, and one more after each change.
        let took = parts
            .by_ref()
            .take_while(|part| matches!(part, Ok(None)))
            .count();
        assert_eq!(took, 2 * MAX_RESTARTS - 1);
    }

    #[test]
    fn part_without_generation_is_rejected() {
        for part in [b"".as_slice(), b"7"] {
            assert!(ListAssembler::default().add(part, MAX_LEN).is_err());
        }
    }
}
