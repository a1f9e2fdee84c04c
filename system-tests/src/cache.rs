//! Big downloads, kept in the user's cache directory.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the path of the file or directory `name` in the cache. If it does not exist yet, `make`
/// creates it within a temporary directory, which it receives, and returns its path.
///
/// It appears only when it is complete.
pub fn cached(name: &str, make: impl FnOnce(&Path) -> PathBuf) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")))
        .expect("neither XDG_CACHE_HOME nor HOME is set")
        .join("xen-guest-agent");
    let path = cache.join(name);
    if !path.exists() {
        fs::create_dir_all(&cache).expect("make the cache directory");
        let work = tempfile::tempdir_in(&cache).expect("make a directory in the cache");
        let new = make(work.path());

        // Another process may have been faster.
        fs::rename(&new, &path)
            .or_else(|error| if path.exists() { Ok(()) } else { Err(error) })
            .expect("keep it");
    }
    path
}
