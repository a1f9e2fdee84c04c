//! Files of a guest, for programs with the option `--root`.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// A directory with the few files that a program needs to see the root of a Xen guest. Dropping it
/// removes the directory.
///
/// It contains os-release of Debian 12, 1 GiB of memory with half of it available, the host name
/// `guest` and a Xen hypervisor, and no network interface. Changes are atomic.
pub struct FakeRoot {
    directory: TempDir,
}

impl FakeRoot {
    /// Creates the directory.
    pub fn new() -> Self {
        let root = FakeRoot {
            directory: tempfile::tempdir().expect("make a temporary directory"),
        };
        root.set_os_release(
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n",
        );
        root.write("etc/debian_version", "12.5\n");
        root.set_memory(1024 * 1024, 512 * 1024);
        root.set_hostname("guest");
        root.write("sys/hypervisor/type", "xen\n");
        root
    }

    /// The argument for `--root`.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Sets the text of `etc/os-release`.
    pub fn set_os_release(&self, text: &str) {
        self.write("etc/os-release", text);
    }

    /// Sets total and available memory in `proc/meminfo`, in KiB. The file keeps its inode and
    /// length, as the kernel's does.
    pub fn set_memory(&self, total: u64, available: u64) {
        let free = available / 2;
        let text = format!(
            "MemTotal:       {total:>8} kB\nMemFree:        {free:>8} kB\nMemAvailable:   {available:>8} kB\n\
             Buffers:              64 kB\nCached:              128 kB\nSwapTotal:             0 kB\n"
        );
        match OpenOptions::new()
            .write(true)
            .open(self.join("proc/meminfo"))
        {
            Ok(file) => file
                .write_all_at(text.as_bytes(), 0)
                .expect("write proc/meminfo"),
            Err(_) => self.write("proc/meminfo", &text),
        }
    }

    /// Sets the host name in `proc/sys/kernel/hostname`.
    ///
    /// On a real system a change also wakes programs that poll the file. Here it does not.
    pub fn set_hostname(&self, name: &str) {
        self.write("proc/sys/kernel/hostname", &format!("{name}\n"));
    }

    /// Creates or removes the sysfs directory of the kernel's balloon driver.
    pub fn set_balloon_driver(&self, there: bool) {
        let driver = self
            .path()
            .join("sys/devices/system/xen_memory/xen_memory0");
        if there {
            fs::create_dir_all(driver).expect("make a directory");
        } else {
            fs::remove_dir_all(driver).expect("remove a directory");
        }
    }

    /// Makes the network interface `name` the VIF with number `id`.
    pub fn add_vif(&self, name: &str, id: u32) {
        let device = format!("sys/devices/vif-{id}");
        self.write(&format!("{device}/devtype"), "vif\n");
        self.write(&format!("{device}/nodename"), &format!("device/vif/{id}\n"));

        // As in sysfs, the device has its own directory, so that a renamed interface is another
        // link to it.
        let interface = self.path().join("sys/class/net").join(name);
        fs::create_dir_all(&interface).expect("make a directory");
        symlink(
            format!("../../../devices/vif-{id}"),
            interface.join("device"),
        )
        .expect("make a link");
    }

    /// Removes a network interface.
    pub fn remove_interface(&self, name: &str) {
        fs::remove_dir_all(self.path().join("sys/class/net").join(name))
            .expect("remove a directory");
    }

    /// Replaces the content of a file, or creates it.
    pub fn write(&self, file: &str, content: &str) {
        static WRITTEN: AtomicU32 = AtomicU32::new(0);
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().expect("a file is in a directory"))
            .expect("make a directory");
        let new = self
            .path()
            .join(format!(".new-{}", WRITTEN.fetch_add(1, Ordering::Relaxed)));
        fs::write(&new, content)
            .and_then(|()| fs::rename(new, path))
            .expect("write a file");
    }

    /// Removes a file.
    pub fn remove(&self, file: &str) {
        fs::remove_file(self.path().join(file)).expect("remove a file");
    }

    /// Returns the path of a file in the directory.
    pub fn join(&self, file: &str) -> PathBuf {
        self.path().join(file)
    }
}

impl Default for FakeRoot {
    fn default() -> Self {
        FakeRoot::new()
    }
}
