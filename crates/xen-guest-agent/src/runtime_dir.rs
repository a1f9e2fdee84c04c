//! The runtime directory `/run/xen-guest-agent`, whose files last until the next boot.

mod state;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;

use crate::root::{self, Root, with_path};

pub use state::{give_state, take_state};

/// Directories for runtime files. The second is the older one.
const RUN: [&str; 2] = ["/run", "/var/run"];

/// Maximum size of a file in bytes. The status of a thousand nodes is smaller.
const SIZE_MAX: usize = 16 * 1024 * 1024;

/// Lock file. Its holder is the running agent.
const LOCK: &str = "lock";

/// Subdirectory with the files that the agent replaces while it runs. The group of the confined
/// agent may write there, and only root in the rest of the directory.
const STATE: &str = "state";

/// File with the status of the running agent.
pub(crate) const STATUS: &str = "status";

/// File with the names of published services. It exists as long as the nodes in Xenstore do,
/// because a boot removes both.
pub(crate) const SERVICES: &str = "services";

/// Socket that accepts connections exactly while the agent runs.
pub(crate) const SOCKET: &str = "socket";

/// Returns the path of the directory, which may not exist yet. `None` if the system has no `/run`.
pub fn path(root: &Root) -> Option<PathBuf> {
    let has_run = |run: &&&str| root.path(run).is_ok_and(|run| run.is_dir());
    let run = RUN.iter().find(has_run)?;
    root.path_of_new(&format!("{run}/xen-guest-agent")).ok()
}

/// Returns the path of a file that the agent replaces while it runs.
pub fn state_file(directory: &Path, name: &str) -> PathBuf {
    directory.join(STATE).join(name)
}

/// Returns the path of the subdirectory with the files that the agent replaces while it runs.
pub fn state_dir(directory: &Path) -> PathBuf {
    directory.join(STATE)
}

/// Replaces a file in the directory. A reader finds either the old text or the new one. Every user
/// may read the file.
///
/// # Errors
/// The system's error, with the path.
pub fn write(file: &Path, text: &str) -> io::Result<()> {
    write_with_mode(file, text, 0o644)
}

/// Replaces a file in the directory, like [`write()`]. Only the user and the group of the agent may
/// read the file. The group lets root without capabilities read the file of a confined agent.
///
/// # Errors
/// The system's error, with the path.
pub fn write_private(file: &Path, text: &str) -> io::Result<()> {
    write_with_mode(file, text, 0o640)
}

fn write_with_mode(file: &Path, text: &str, mode: u32) -> io::Result<()> {
    let new = file.with_extension("new");
    let write = || {
        create_parent(file)?;
        // Removed first, because opening an existing FIFO would block.
        remove(&new)?;
        let mut opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        // Independent of the umask.
        opened.set_permissions(Permissions::from_mode(mode))?;
        opened.write_all(text.as_bytes())?;
        match fs::rename(&new, file) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                remove(file)?;
                fs::rename(&new, file)
            }
            renamed => renamed,
        }
    };
    write().map_err(|error| {
        // A full file system may leave half of the text there.
        fs::remove_file(&new).ok();
        with_path(file, &error)
    })
}

/// Removes whatever has this path, if anything does. Links are not followed.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn create_parent(file: &Path) -> io::Result<()> {
    let Some(directory) = file.parent() else {
        return Ok(());
    };
    let created = match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && directory.ends_with(STATE) => {
            create_parent(directory)?;
            fs::create_dir(directory)
        }
        created => created,
    };
    match created {
        // Independent of the umask.
        Ok(()) => fs::set_permissions(directory, Permissions::from_mode(0o755)),
        // Another agent may have created it at the same time.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Locks the directory until the returned file is closed. Returns `None` if another agent holds the
/// lock.
///
/// # Errors
/// The system's error, with the path.
pub fn lock(directory: &Path) -> io::Result<Option<File>> {
    let path = directory.join(LOCK);
    let at = |error: io::Error| with_path(&path, &error);
    create_parent(&path).map_err(at)?;
    // Only root may open the file, because every user who can read a file can lock it.
    let flags = OFlags::RDWR
        | OFlags::CREATE
        | OFlags::CLOEXEC
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY;
    let file =
        rustix::fs::open(&path, flags, Mode::from(0o600)).map_err(|error| at(error.into()))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(File::from(file))),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(at(error.into())),
    }
}

/// Whether the locked file is still in the directory, so that another agent would find the lock.
pub fn is_locked(directory: &Path, lock: &File) -> bool {
    let found = fs::symlink_metadata(directory.join(LOCK));
    lock.metadata().is_ok_and(|lock| {
        found.is_ok_and(|found| (found.dev(), found.ino()) == (lock.dev(), lock.ino()))
    })
}

/// Reads a file of the directory, which must be a regular file.
///
/// # Errors
/// The system's error, with the path.
pub fn read(file: &Path) -> io::Result<String> {
    // Opening a FIFO or a device must neither block nor have an effect.
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let read = || {
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(file)?;
        root::check_regular(opened.metadata()?.is_file())?;
        String::from_utf8(root::read_all(opened, SIZE_MAX)?)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
    };
    read().map_err(|error| with_path(file, &error))
}

/// Socket in the directory. Every user can connect to it while the agent runs, so it shows that the
/// agent runs, also in another PID namespace and without `/proc`.
#[derive(Debug)]
pub struct LivenessSocket(UnixDatagram);

impl LivenessSocket {
    /// Creates the socket, or replaces that of an earlier agent. The caller should hold the lock.
    ///
    /// # Errors
    /// The system's error, with the path.
    pub fn bind(directory: &Path) -> io::Result<Self> {
        let path = directory.join(SOCKET);
        let bind = || {
            create_parent(&path)?;
            remove(&path)?;
            let socket = UnixDatagram::bind(&path)?;
            // Nobody reads messages, so the kernel must not queue any.
            socket.shutdown(Shutdown::Read).ok();
            // Only a user who may write to a socket can connect to it.
            fs::set_permissions(&path, Permissions::from_mode(0o666))?;
            Ok(LivenessSocket(socket))
        };
        bind().map_err(|error| with_path(&path, &error))
    }

    /// Whether the socket is still in the directory.
    pub fn is_linked(&self) -> bool {
        self.0
            .local_addr()
            .is_ok_and(|address| address.as_pathname().is_some_and(Path::exists))
    }
}

/// Whether an agent is running, as far as its socket shows. Never blocks.
///
/// # Errors
/// The system's error with the path, if an agent may run without a socket.
pub fn is_agent_running(directory: &Path) -> io::Result<bool> {
    let path = directory.join(SOCKET);
    let at = |error: io::Error| with_path(&path, &error);
    match UnixDatagram::unbound().and_then(|socket| socket.connect(&path)) {
        Ok(()) => Ok(true),
        Err(error)
            if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused]
                .contains(&error.kind()) =>
        {
            check_writable(directory).map_err(at)?;
            Ok(false)
        }
        Err(error) => Err(at(error)),
    }
}

/// Returns an error if no agent could create a file in the directory.
fn check_writable(directory: &Path) -> io::Result<()> {
    let existing = directory.ancestors().find(|directory| directory.is_dir());
    let system = rustix::fs::statvfs(existing.unwrap_or(directory))?;
    // Some file systems have no table of inodes, and report 0 of 0.
    if system.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(io::ErrorKind::ReadOnlyFilesystem.into());
    }
    if system.f_files > 0 && system.f_ffree == 0 {
        return Err(io::Error::new(io::ErrorKind::StorageFull, "no free inode"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn lock_has_one_holder() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("run")).unwrap();
        let path = path(&Root::new(directory.path())).unwrap();
        let first = lock(&path).unwrap();
        assert!(first.is_some());
        assert!(lock(&path).unwrap().is_none());
        drop(first);
        assert!(lock(&path).unwrap().is_some());
        let mode = |file: &str| fs::metadata(path.join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode(LOCK)), (0o755, 0o600));
    }

    #[test]
    fn removed_lock_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("xen-guest-agent");
        let first = lock(&path).unwrap().unwrap();
        assert!(is_locked(&path, &first));
        fs::remove_dir_all(&path).unwrap();
        assert!(!is_locked(&path, &first), "removed");
        let second = lock(&path).unwrap().unwrap();
        assert!(!is_locked(&path, &first), "replaced");
        assert!(is_locked(&path, &second));
    }

    #[test]
    fn link_in_another_root_is_resolved_below_it() {
        let directory = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        let target = outside.path().to_str().unwrap().trim_start_matches('/');
        fs::create_dir(at("run")).unwrap();
        std::os::unix::fs::symlink(outside.path(), at("run/xen-guest-agent")).unwrap();
        let found = || path(&Root::new(directory.path()));
        assert_eq!(found(), None, "the parent is missing below the root");

        fs::create_dir_all(at(target).parent().unwrap()).unwrap();
        let inside = found().unwrap();
        assert_eq!(inside, at(target));
        write(&inside.join("status"), "text").unwrap();
        assert!(lock(&inside).unwrap().is_some());
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 2);
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        assert_eq!(found(), Some(inside));
    }

    #[test]
    fn lock_has_one_holder_if_two_agents_start_together() {
        for round in 0..300 {
            let directory = tempfile::tempdir().unwrap();
            let (path, barrier) = (directory.path().join("xen-guest-agent"), Barrier::new(2));
            let start = || {
                barrier.wait();
                lock(&path)
            };
            let locks = thread::scope(|scope| {
                [(); 2]
                    .map(|()| scope.spawn(start))
                    .map(|agent| agent.join().unwrap())
            });
            let locks = locks.map(Result::unwrap);
            assert_eq!(
                locks.iter().flatten().count(),
                1,
                "round {round}: {locks:?}"
            );
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o755
            );
        }
    }

    #[test]
    fn write_replaces_a_fifo() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("status");
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            file.with_extension("new"),
            Mode::from(0o600),
        )
        .unwrap();
        write(&file, "text").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o644
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn write_replaces_directories() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("status");
        for blocked in [&file, &file.with_extension("new")] {
            fs::create_dir_all(blocked.join("deep/deeper")).unwrap();
            write(&file, "text").unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), "text");
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn read_refuses_a_fifo_and_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let [fifo, link] = ["fifo", "link"].map(|name| directory.path().join(name));
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::from(0o600)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        let error = read(&fifo).unwrap_err().to_string();
        assert!(error.ends_with("fifo: not a regular file"), "{error}");
        read(&link).unwrap_err();
    }

    #[test]
    fn read_refuses_a_file_that_is_too_large() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("status");
        let file = File::create(&path).unwrap();
        let size = u64::try_from(SIZE_MAX).unwrap();
        file.set_len(size).unwrap();
        assert_eq!(read(&path).unwrap().len(), SIZE_MAX);
        file.set_len(size + 1).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(
            error.ends_with("status: larger than 16777216 bytes"),
            "{error}"
        );
    }

    #[test]
    fn socket_accepts_connections_while_the_agent_runs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("xen-guest-agent");
        assert!(!is_agent_running(&path).unwrap(), "without a directory");

        for _ in 0..2 {
            let socket = LivenessSocket::bind(&path).unwrap();
            assert!(is_agent_running(&path).unwrap());
            let mode = fs::metadata(path.join(SOCKET))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o666);

            let client = UnixDatagram::unbound().unwrap();
            client.connect(path.join(SOCKET)).unwrap();
            assert!(client.send(b"message").is_err(), "nobody would read it");

            drop(socket);
            assert!(!is_agent_running(&path).unwrap(), "the agent has ended");
        }

        let socket = LivenessSocket::bind(&path).unwrap();
        assert!(socket.is_linked());
        fs::remove_dir_all(&path).unwrap();
        assert!(!socket.is_linked());
        fs::create_dir(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path.join(SOCKET), Mode::from(0o600)).unwrap();
        assert!(!is_agent_running(&path).unwrap(), "a FIFO");
        let long = Path::new("/nothing").join("x".repeat(200));
        let error = is_agent_running(&long).unwrap_err().to_string();
        assert!(error.starts_with("/nothing/xxx"), "{error}");
    }

    #[test]
    fn errors_name_the_path() {
        let error = write(Path::new("/proc/nothing/status"), "x").unwrap_err();
        assert!(
            error.to_string().starts_with("/proc/nothing/status: "),
            "{error}"
        );
    }
}
