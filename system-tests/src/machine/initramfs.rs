//! Initial file systems.

use std::fs;
use std::path::Path;

/// A cpio archive in the format `newc`, which the kernel unpacks.
#[derive(Default)]
pub(crate) struct Initramfs {
    archive: Vec<u8>,
    files: u32,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

impl Initramfs {
    /// Returns a small system that loads these modules, and whose first process is this shell
    /// script.
    pub(crate) fn with_busybox(busybox: &Path, init: &str, modules: &[&Path]) -> Self {
        let mut initramfs = Initramfs::default();
        initramfs.add_directories(&["bin", "dev", "modules"]);
        initramfs.copy("bin/busybox", busybox);
        initramfs.write("init", init);
        for (number, module) in modules.iter().enumerate() {
            initramfs.copy(&format!("modules/{number:02}.ko"), module);
        }
        initramfs
    }

    /// Adds directories.
    pub(crate) fn add_directories(&mut self, paths: &[&str]) {
        for path in paths {
            self.add(path, DIRECTORY, b"");
        }
    }

    /// Adds an executable file.
    pub(crate) fn write(&mut self, path: &str, content: impl AsRef<[u8]>) {
        self.add(path, PROGRAM, content.as_ref());
    }

    /// Adds a copy of a file of this machine, and makes it executable.
    pub(crate) fn copy(&mut self, path: &str, from: &Path) {
        self.write(
            path,
            fs::read(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())),
        );
    }

    /// Returns the finished archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, b"");
        self.archive
    }

    fn add(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.files += 1;
        let size = u32::try_from(content.len()).expect("less than 4 GiB");
        let name_size = u32::try_from(path.len() + 1).expect("a short path");

        // Inode, mode, owner, group, links, time, size, four device numbers, length of the name,
        // checksum.
        let fields = [self.files, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.archive.extend_from_slice(b"070701");
        for field in fields {
            self.archive
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.archive.extend_from_slice(path.as_bytes());
        self.archive.push(0);
        self.pad();
        self.archive.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.archive
            .resize(self.archive.len().next_multiple_of(4), 0);
    }
}
