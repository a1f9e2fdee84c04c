//! Opens the files of services, which users without privileges may be allowed to write.
//!
//! The agent reads as root and publishes to the host. A user must not make it publish a file that
//! this user could not read, open a device, or wait for another machine.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, fstatvfs, openat, readlinkat};
use rustix::io::Errno;

use crate::platform::{Platform, System};
use crate::root::{self, Root};

/// Maximum number of symbolic links in a path, as in Linux.
const LINKS_MAX: usize = 40;

/// The opened directory of services.
#[derive(Debug)]
pub(super) struct SafeDir {
    /// Directory that absolute links are resolved against.
    root: PathBuf,
    fd: OwnedFd,
    /// Path without links, for the agent.
    path: PathBuf,
    trust: Trust,
}

impl SafeDir {
    /// Opens a directory below `root`. With `is_checked` the whole path must be on local file
    /// systems, otherwise only the part that links lead to.
    ///
    /// # Errors
    /// The system's, `Unsupported` if the path crosses a file system that may block, and
    /// `PermissionDenied` if an untrusted user could lead the path elsewhere.
    pub(super) fn open(root: &Root, path: &str, is_checked: bool) -> io::Result<Self> {
        // Only a path without links can be compared with mount points.
        let root = fs::canonicalize(root.path("/")?)?;
        let mut walk = Walk::new(&root)?;
        walk.push(Path::new(path));
        if is_checked {
            walk.check_local()?;
        }

        let (fd, stat) = walk.finish()?;
        if file_type(&stat) != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        }
        let trust = Trust {
            owner: stat.st_uid,
            is_roots: stat.st_uid == 0 && !is_shared(&fd, &stat),
        };
        trust.check_way(&walk.way)?;
        Ok(SafeDir {
            path: walk.path(),
            root,
            fd,
            trust,
        })
    }

    /// Returns the path without links, for the agent.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a regular file of the directory, or the target of a link.
    ///
    /// # Errors
    /// The system's, and others if the file must not be read or is larger than `limit` bytes.
    pub(super) fn read(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        root::read_all(self.open_file(name)?, limit)
    }

    fn open_file(&self, name: &str) -> io::Result<File> {
        let mut fd = open_path(&self.fd, name)?;
        let mut stat = fstat(&fd)?;
        let mut trust = self.trust;
        let mut link_owners = Vec::new();

        if file_type(&stat) == FileType::Symlink {
            self.trust.check_owner(stat.st_uid)?;
            link_owners.push(stat.st_uid);
            let mut walk = Walk::new(&self.root)?;
            let directory = self.path.strip_prefix(&self.root).unwrap_or(&self.path);
            walk.push(&directory.join(read_link(&fd)?));
            walk.check_local()?;
            (fd, stat) = walk.finish()?;

            for link in walk.way.iter().filter(|part| part.is_link) {
                self.trust.check_owner(link.owner)?;
                link_owners.push(link.owner);
            }
            // A user who may write to a directory on the way could rename a secret of root.
            trust.is_roots &= walk.way.iter().all(Part::is_roots);
        }

        root::check_regular(file_type(&stat) == FileType::RegularFile)?;
        trust.check_file(&stat, &link_owners)?;
        // The descriptor names the file that was checked, even if its path has another one by now.
        System::reopen(&fd)
    }
}

/// Rules about owners, from the state of the directory.
#[derive(Clone, Copy, Debug)]
struct Trust {
    /// Owner of the directory.
    owner: u32,
    /// Whether only root may write to the directory.
    is_roots: bool,
}

impl Trust {
    /// Checks the way to the directory, so that nobody leads it to files of somebody else.
    fn check_way(self, way: &[Part]) -> io::Result<()> {
        for part in way {
            let path = part.path.display();
            if part.owner != 0 && part.owner != self.owner {
                return Err(denied(format!(
                    "{path} is owned by user {}, but only root and the owner of the directory are \
                     trusted; run: chown -h root {path}",
                    part.owner
                )));
            }
            // Others could rename a private directory of root to this path.
            if self.owner == 0 && part.is_shared {
                return Err(denied(format!(
                    "others than root may write to {path}; run: chmod go-w {path}"
                )));
            }
        }
        Ok(())
    }

    /// Checks the owner of a link or file.
    fn check_owner(self, owner: u32) -> io::Result<()> {
        if owner == 0 || owner == self.owner {
            return Ok(());
        }
        Err(denied(format!(
            "owned by user {owner}, but only root and the owner of the directory are trusted"
        )))
    }

    /// Checks a regular file, and the links to it.
    fn check_file(self, file: &Stat, link_owners: &[u32]) -> io::Result<()> {
        self.check_owner(file.st_uid)?;
        // As for the kernel's protected_symlinks, a user's link leads only to files of that user.
        if let Some(owner) = link_owners
            .iter()
            .find(|owner| **owner != 0 && **owner != file.st_uid)
        {
            return Err(denied(format!(
                "a link of user {owner} leads to a file of user {}",
                file.st_uid
            )));
        }
        // A hard link or a renamed file could otherwise reveal a secret of root.
        if file.st_uid == 0 && !self.is_roots && file.st_mode & 0o004 == 0 {
            let reason = "not readable by every user, but others than root may write to the \
                          directory; run chmod o+r on the file";
            return Err(denied(reason.to_owned()));
        }
        Ok(())
    }
}

fn denied(reason: String) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, reason)
}

/// Whether others than the owner may write to a directory. The bit of the group also stands for the
/// users and groups of an access control list, so the group does not matter.
fn is_shared(fd: &OwnedFd, stat: &Stat) -> bool {
    stat.st_mode & 0o022 != 0 && !root::is_read_only(fstatvfs(fd))
}

/// Link, or directory in which a name was looked up.
struct Part {
    path: PathBuf,
    owner: u32,
    is_link: bool,
    /// Whether others than the owner may replace entries of the directory.
    is_shared: bool,
}

impl Part {
    fn is_roots(&self) -> bool {
        self.owner == 0 && !self.is_shared
    }
}

/// Resolution of a path, one part after the other. It holds a descriptor for each part, so that
/// nobody can exchange a part that was checked.
struct Walk {
    root: PathBuf,
    /// Descriptor and state of the root and of each directory that leads to the current one.
    directories: Vec<(OwnedFd, Stat)>,
    /// Names of the directories below the root.
    names: Vec<OsString>,
    /// Parts of the path that remain to be resolved, the next one last.
    remaining: Vec<OsString>,
    /// Links and directories that determined where the path leads.
    way: Vec<Part>,
}

impl Walk {
    fn new(root: &Path) -> io::Result<Self> {
        let fd = open_path(CWD, root)?;
        let stat = fstat(&fd)?;
        Ok(Walk {
            root: root.to_owned(),
            directories: vec![(fd, stat)],
            names: Vec::new(),
            remaining: Vec::new(),
            way: Vec::new(),
        })
    }

    /// Puts the parts of `path` before the remaining ones.
    fn push(&mut self, path: &Path) {
        if path.is_absolute() {
            self.directories.truncate(1);
            self.names.clear();
        }
        for component in path.components().rev() {
            match component {
                Component::Normal(part) => self.remaining.push(part.into()),
                Component::ParentDir => self.remaining.push("..".into()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
    }

    /// Checks the mounts on the way, before a system call could wait for one of them. Links need
    /// another check, with their target.
    fn check_local(&self) -> io::Result<()> {
        let mut path = self.path();
        for part in self.remaining.iter().rev() {
            if part != ".." {
                path.push(part);
            } else if path != self.root {
                path.pop();
            }
            if !System::is_local(&path)? {
                return Err(io::Error::new(
                    ErrorKind::Unsupported,
                    format!("{} is not on a local file system", path.display()),
                ));
            }
        }
        Ok(())
    }

    /// Resolves the path. Returns its last part.
    fn finish(&mut self) -> io::Result<(OwnedFd, Stat)> {
        let mut links = 0;
        while let Some(part) = self.remaining.pop() {
            if part == ".." {
                // The root has no parent.
                if self.names.pop().is_some() {
                    self.directories.pop();
                }
                continue;
            }

            let (directory, state) = self.directories.last().ok_or(Errno::NOENT)?;
            let is_sticky = state.st_mode & 0o1000 != 0;
            self.way.push(Part {
                path: self.path(),
                owner: state.st_uid,
                is_link: false,
                is_shared: !is_sticky && is_shared(directory, state),
            });

            let fd = open_path(directory, &part)?;
            let stat = fstat(&fd)?;
            match file_type(&stat) {
                FileType::Symlink => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Errno::LOOP.into());
                    }
                    self.way.push(Part {
                        path: self.path().join(&part),
                        owner: stat.st_uid,
                        is_link: true,
                        is_shared: false,
                    });
                    self.push(&read_link(&fd)?);
                    self.check_local()?;
                }
                FileType::Directory => {
                    self.directories.push((fd, stat));
                    self.names.push(part);
                }
                _ if self.remaining.is_empty() => return Ok((fd, stat)),
                _ => return Err(Errno::NOTDIR.into()),
            }
        }

        Ok(self.directories.pop().ok_or(Errno::NOENT)?)
    }

    /// Returns the path of the directories that were resolved, for the agent.
    fn path(&self) -> PathBuf {
        let mut path = self.root.clone();
        path.extend(&self.names);
        path
    }
}

/// Opens a file only to examine it. This has no effect on a device, and does not wait for a FIFO.
fn open_path(
    directory: impl std::os::fd::AsFd,
    path: impl rustix::path::Arg,
) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(directory, path, flags, Mode::empty())?)
}

fn read_link(link: &OwnedFd) -> io::Result<PathBuf> {
    let target = readlinkat(link, "", Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_files_have_a_reason_and_a_remedy() {
        let trust = Trust {
            owner: 1234,
            is_roots: false,
        };
        let mut stat = rustix::fs::stat("/").unwrap();
        let mut reason = |owner, mode, link_owners: &[u32]| {
            (stat.st_uid, stat.st_mode) = (owner, mode);
            let error = trust.check_file(&stat, link_owners).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            error.to_string()
        };
        assert_eq!(
            reason(5, 0o644, &[]),
            "owned by user 5, but only root and the owner of the directory are trusted"
        );
        assert_eq!(
            reason(0, 0o644, &[1234]),
            "a link of user 1234 leads to a file of user 0"
        );
        assert_eq!(
            reason(0, 0o640, &[]),
            "not readable by every user, but others than root may write to the directory; \
             run chmod o+r on the file"
        );
    }
}
