//! Names of published services, which the agent remembers across restarts.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::path::PathBuf;

use log::warn;

use super::format::is_name;
use crate::runtime_dir;

/// Maximum number of bytes that are read of the file.
const SIZE_MAX: u64 = 64 * 1024;

/// Names and the file that holds them, one per line.
#[derive(Debug)]
pub(super) struct State {
    /// `None` if nothing is to be remembered.
    file: Option<PathBuf>,
    names: BTreeSet<String>,
}

impl State {
    /// Reads the file. A missing file holds no names.
    pub(super) fn open(file: Option<PathBuf>) -> Self {
        let text = file.as_ref().map(|file| {
            let mut text = String::new();
            match fs::File::open(file)
                .and_then(|file| file.take(SIZE_MAX).read_to_string(&mut text))
            {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    warn!(
                        "{}: {error}; nodes of removed services may stay in Xenstore",
                        file.display()
                    );
                }
                Ok(_) | Err(_) => {}
            }
            text
        });
        let lines = text.iter().flat_map(|text| text.lines());
        State {
            names: lines
                .filter(|name| is_name(name))
                .map(str::to_owned)
                .collect(),
            file,
        }
    }

    pub(super) fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// Replaces the remembered names.
    pub(super) fn set(&mut self, names: BTreeSet<String>) {
        if self.names == names {
            return;
        }
        self.names = names;
        if let Err(error) = self.write() {
            warn!(
                "cannot save the names of published services: {error}; after a restart, \
                 nodes of removed services may stay in Xenstore"
            );
        }
    }

    fn write(&self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let text: String = self.names.iter().flat_map(|name| [name, "\n"]).collect();
        runtime_dir::write(file, &text)
    }
}
