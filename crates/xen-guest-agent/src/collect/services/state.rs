//! Names of published services, which the agent remembers across restarts.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use log::warn;

use super::format::is_name;
use crate::runtime_dir;

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
            runtime_dir::read(file).unwrap_or_else(|error| {
                if error.kind() != ErrorKind::NotFound {
                    warn!("{error}; nodes of removed services may stay in Xenstore");
                }
                String::new()
            })
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
        // The names may be as confidential as the values.
        runtime_dir::write_private(file, &text)
    }
}
