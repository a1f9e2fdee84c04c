//! Memory, from `/proc/meminfo`, and the cache of ZFS.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _};
use std::os::unix::fs::FileExt;

use log::debug;

use crate::guest::Memory;
use crate::root::{Root, with_path};

const PATH: &str = "/proc/meminfo";

/// Statistics of ZFS's cache, the ARC. The file exists while the module zfs is loaded. It is
/// optional, so an error costs only the ARC's share of the figures.
const ARC_PATH: &str = "/proc/spl/kstat/zfs/arcstats";

/// Maximum size in bytes of [`ARC_PATH`] that is read. ZFS 2.3 writes about 7 KiB.
const ARC_MAX: u64 = 64 * 1024;

/// `/proc/meminfo`, which stays open so that a poll is a single system call.
#[derive(Debug)]
pub(super) struct Meminfo {
    file: File,
    arc: Option<File>,
}

impl Meminfo {
    pub(super) fn open(root: &Root) -> io::Result<Self> {
        let log = |error: &io::Error| {
            if error.kind() != ErrorKind::NotFound {
                debug!("memory figures exclude the cache of ZFS: {error}");
            }
        };
        Ok(Meminfo {
            file: root.open(PATH)?,
            arc: root.open(ARC_PATH).inspect_err(log).ok(),
        })
    }

    pub(super) fn read(&self) -> io::Result<Memory> {
        // `Shmem` is within the first 1024 bytes on every kernel.
        let mut buffer = [0; 2048];
        let mut read = || {
            let len = self.file.read_at(&mut buffer, 0)?;
            let text = String::from_utf8_lossy(buffer.get(..len).unwrap_or_default());
            parse(&text).map_err(|reason| io::Error::new(ErrorKind::InvalidData, reason))
        };
        let mut memory = read().map_err(|error| with_path(PATH.as_ref(), &error))?;

        if let Some(arc) = &self.arc {
            // In a container the ARC is the host's, so it may exceed the total.
            memory.available = memory
                .available
                .saturating_add(read_arc(arc).unwrap_or(0))
                .min(memory.total);
        }
        Ok(memory)
    }
}

/// Parses `MemTotal` and `MemAvailable`. Linux before 3.14 lacks the latter, so free memory and
/// caches are added.
///
/// # Errors
/// The reason if figures are missing or cannot be true. Virtual `/proc` file systems of containers
/// have reported negative numbers as unsigned ones.
fn parse(text: &str) -> Result<Memory, &'static str> {
    let figure = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };

    let total = figure("MemTotal").ok_or("no MemTotal")?;
    if total == 0 {
        return Err("MemTotal is 0");
    }

    let estimate = || {
        let (free, buffers) = (figure("MemFree")?, figure("Buffers")?);
        let cached = figure("Cached")?;
        // Linux before 2.6.32 has no such line. `Cached` includes shared memory, which cannot be
        // freed.
        let shared = figure("Shmem").unwrap_or(0);
        free.checked_add(buffers)?
            .checked_add(cached)?
            .checked_sub(shared)
    };
    let (available, excess) = match figure("MemAvailable") {
        Some(available) => (available, "MemAvailable exceeds MemTotal"),
        None => (
            estimate().ok_or("no MemAvailable, and no valid figures in its place")?,
            "available memory exceeds MemTotal",
        ),
    };
    if available > total {
        return Err(excess);
    }
    Ok(Memory { total, available })
}

/// Returns the KiB by which the ARC shrinks if programs need memory. It keeps its minimum size.
fn read_arc(mut file: &File) -> io::Result<u64> {
    let mut text = String::new();
    file.rewind()?;
    file.take(ARC_MAX).read_to_string(&mut text)?;
    Ok(parse_arc(&text).unwrap_or(0))
}

/// Parses lines with name, type and value, such as `size 4 26843545600`.
fn parse_arc(text: &str) -> Option<u64> {
    let figure = |name: &str| {
        let mut lines = text.lines().map(str::split_ascii_whitespace);
        let mut line = lines.find(|line| line.clone().next() == Some(name))?;
        line.nth(2)?.parse::<u64>().ok()
    };
    Some(figure("size")?.saturating_sub(figure("c_min")?) / 1024)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn write(directory: &Path, file: &str, text: &str) {
        let path = directory.join(file.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn memory_is_parsed_for_old_and_new_kernels() {
        let modern = "MemTotal:        2014140 kB\nMemFree:          102400 kB\nMemAvailable:    1503220 kB\nBuffers: 5 kB\nShmem: 9 kB\n";
        let old =
            "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 20 kB\nCached: 3 kB\nSwapCached: 9 kB\n";
        let shared = "MemTotal: 4000000 kB\nMemFree: 102400 kB\nBuffers: 20000 kB\nCached: 3000000 kB\nShmem: 2900000 kB\n";
        for (text, total, available) in [
            (modern, 2_014_140, 1_503_220),
            (old, 1000, 123),
            (shared, 4_000_000, 222_400),
        ] {
            assert_eq!(parse(text), Ok(Memory { total, available }), "{text}");
        }
    }

    #[test]
    fn memory_figures_that_cannot_be_true_are_an_error() {
        for text in [
            "",
            "MemTotal: x kB\nMemAvailable: 1 kB",
            "MemTotal: 5 kB\nMemFree: 1 kB",
            "MemTotal: 5\nMemAvailable: 5",
            "MemTotal: 0 kB\nMemAvailable: 0 kB",
            "MemTotal: 16386136 kB\nMemAvailable: 18446744073708785356 kB",
            "MemTotal: 5 kB\nMemAvailable: 6 kB",
            "MemTotal: 5 kB\nMemAvailable: 99999999999999999999 kB",
            "MemTotal: 9 kB\nMemFree: 1 kB\nBuffers: 1 kB\nCached: 3 kB\nShmem: 6 kB",
            "MemTotal: 5 kB\nMemFree: 6 kB\nBuffers: 0 kB\nCached: 0 kB",
            "MemTotal: 5 kB\nMemFree: 18446744073709551615 kB\nBuffers: 1 kB\nCached: 0 kB",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn figure_that_exceeds_the_total_is_named() {
        for (text, reason) in [
            ("MemAvailable: 6 kB", "MemAvailable exceeds MemTotal"),
            (
                "MemFree: 6 kB\nBuffers: 0 kB\nCached: 0 kB",
                "available memory exceeds MemTotal",
            ),
        ] {
            assert_eq!(parse(&format!("MemTotal: 5 kB\n{text}")), Err(reason));
        }
    }

    #[test]
    fn shared_memory_far_down_in_meminfo_is_subtracted() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("proc")).unwrap();
        let others: String = (0..30).fold(String::new(), |text, number| {
            text + &format!("Other{number:<9}        1234 kB\n")
        });
        assert!(others.len() > 512);
        let text = format!(
            "MemTotal: 4000000 kB\nMemFree: 102400 kB\nBuffers: 20000 kB\nCached: 3000000 kB\n{others}Shmem: 2900000 kB\n"
        );
        fs::write(directory.path().join("proc/meminfo"), text).unwrap();
        let meminfo = Meminfo::open(&Root::new(directory.path())).unwrap();
        assert_eq!(meminfo.read().unwrap().available, 222_400);
    }

    #[test]
    fn arcstats_that_cannot_be_read_are_left_out() {
        use std::os::unix::fs::symlink;

        type Create = fn(&Path);
        let cases: [(&str, Create); 4] = [
            ("directory", |path| fs::create_dir(path).unwrap()),
            ("device", |path| symlink("/dev/null", path).unwrap()),
            ("cycle of links", |path| symlink(path, path).unwrap()),
            ("binary file", |path| {
                fs::write(path, b"size 4 1048576\nc_min 4 0\n\xff\n").unwrap();
            }),
        ];
        for (name, create) in cases {
            let directory = tempfile::tempdir().unwrap();
            write(
                directory.path(),
                PATH,
                "MemTotal: 9 kB\nMemAvailable: 4 kB\n",
            );
            let path = directory.path().join(ARC_PATH.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            create(&path);

            let meminfo = Meminfo::open(&Root::new(directory.path()));
            let memory = meminfo.and_then(|meminfo| meminfo.read());
            let expected = Memory {
                total: 9,
                available: 4,
            };
            assert_eq!(memory.unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn arcstats_do_not_hide_an_error_of_meminfo() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        write(directory.path(), ARC_PATH, "size 4 1\nc_min 4 0\n");
        assert!(Meminfo::open(&root).is_err());
        write(directory.path(), PATH, "MemTotal: 9 kB\n");
        assert!(Meminfo::open(&root).unwrap().read().is_err());
    }

    #[test]
    fn zfs_arc_above_its_minimum_is_available() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        let write = |file: &str, text: &str| write(directory.path(), file, text);
        write(PATH, "MemTotal: 10000 kB\nMemAvailable: 1000 kB\n");
        for (arc, available) in [
            (
                "c_min 4 1048576\nc_max 4 9\nsize 4 3145728\nhdr_size 4 7\n",
                3048,
            ),
            (
                "size                            4    1048576\nc_min                           4    3145728\n",
                1000,
            ),
            ("size 4 104857600\nc_min 4 0\n", 10_000),
            (
                "13 1 0x01 147 39984 4373541379 1\nname type data\nsize 4\n",
                1000,
            ),
        ] {
            write(ARC_PATH, arc);
            let meminfo = Meminfo::open(&root).unwrap();
            for _ in 0..2 {
                assert_eq!(meminfo.read().unwrap().available, available, "{arc}");
            }
        }
    }
}
