//! Generated files and the directory that holds them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Contents of generated files by path, relative to `dist/`.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Returns the directory that mirrors the installed system.
pub(crate) fn dist() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist")
}
