//! Memory, from `/proc/meminfo`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::guest::Memory;
use crate::root::Root;

const PATH: &str = "/proc/meminfo";

/// `/proc/meminfo`, which stays open so that a poll is a single system call.
#[derive(Debug)]
pub(super) struct Meminfo(File);

impl Meminfo {
    pub(super) fn open(root: &Root) -> io::Result<Self> {
        root.open(PATH).map(Meminfo)
    }

    pub(super) fn read(&self) -> io::Result<Memory> {
        // The lines in question are the first ones on every kernel.
        let mut buffer = [0; 512];
        let len = self
            .0
            .read_at(&mut buffer, 0)
            .map_err(|error| with_path(error.kind(), &error.to_string()))?;
        let text = String::from_utf8_lossy(buffer.get(..len).unwrap_or_default());
        parse(&text)
            .ok_or_else(|| with_path(io::ErrorKind::InvalidData, "no MemTotal or no MemAvailable"))
    }
}

fn with_path(kind: io::ErrorKind, reason: &str) -> io::Error {
    io::Error::new(kind, format!("{PATH}: {reason}"))
}

/// Parses `MemTotal` and `MemAvailable`. Linux before 3.14 lacks the latter, so free memory and
/// caches are added.
fn parse(text: &str) -> Option<Memory> {
    let figure = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };

    let total = figure("MemTotal")?;
    let estimate = || {
        Some(
            figure("MemFree")?
                .saturating_add(figure("Buffers")?)
                .saturating_add(figure("Cached")?),
        )
    };

    let available = figure("MemAvailable").or_else(estimate)?;
    Some(Memory { total, available })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_parsed_for_old_and_new_kernels() {
        let modern = "MemTotal:        2014140 kB\nMemFree:          102400 kB\nMemAvailable:    1503220 kB\nBuffers: 5 kB\n";
        assert_eq!(
            parse(modern),
            Some(Memory {
                total: 2_014_140,
                available: 1_503_220
            })
        );
        let old =
            "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 20 kB\nCached: 3 kB\nSwapCached: 9 kB\n";
        assert_eq!(
            parse(old),
            Some(Memory {
                total: 1000,
                available: 123
            })
        );
        for broken in [
            "",
            "MemTotal: x kB\nMemAvailable: 1 kB",
            "MemTotal: 5 kB\nMemFree: 1 kB",
            "MemTotal: 5\nMemAvailable: 5",
        ] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }
}
