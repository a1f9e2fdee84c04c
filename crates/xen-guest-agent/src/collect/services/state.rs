//! What the agent remembers from one start to the next: the names of the services that it wrote.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::path::PathBuf;

use log::warn;

use super::format::is_name;
use crate::runtime_dir;

/// The most bytes that are read of the file.
const SIZE_MAX: u64 = 64 * 1024;

/// The names, and the file that has them, one a line.
#[derive(Debug)]
pub(super) struct State {
    /// None where nothing is to be remembered.
    file: Option<PathBuf>,
    names: BTreeSet<String>,
}

impl State {
    /// Reads the file. One that is not there says nothing.
    pub(super) fn open(file: Option<PathBuf>) -> Self {
        let text = file.as_ref().map(|file| {
            let mut text = String::new();
            match fs::File::open(file)
                .and_then(|file| file.take(SIZE_MAX).read_to_string(&mut text))
            {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    warn!(
                        "{}: {error}; services of before may stay published",
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

    /// Remembers these names and no others.
    pub(super) fn set(&mut self, names: BTreeSet<String>) {
        if self.names == names {
            return;
        }
        self.names = names;
        if let Err(error) = self.write() {
            warn!(
                "cannot remember which services are published, those of before a restart may stay: {error}"
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
