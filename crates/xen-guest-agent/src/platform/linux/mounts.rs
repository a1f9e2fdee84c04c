//! Mounted file systems, from `/proc/self/mountinfo`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::block::{Device, Number};
use super::btrfs;
use crate::root::Root;

/// File systems that report free space from memory. The agent does not ask a file system in user
/// space, because a hanging `ntfs-3g` would block the agent, or one of a cluster, because it waits
/// for other machines.
pub(super) const NON_BLOCKING: [&str; 12] = [
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "ntfs3", "reiserfs",
    "vfat", "xfs",
];

/// File systems besides [`NON_BLOCKING`] that a path can cross without waiting. A file system is
/// local if the kernel itself serves it from a disk, flash or memory of this guest, such as the
/// ISO 9660 of a configuration drive, or stacks it on others. File systems of a server, a cluster,
/// a process or the host, such as NFS, OCFS2, FUSE, 9P and virtiofs, may hang, so none is local.
const LOCAL: [&str; 19] = [
    "aufs", "cramfs", "devtmpfs", "erofs", "hfsplus", "iso9660", "jffs2", "msdos", "nilfs2",
    "ntfs", "overlay", "ramfs", "romfs", "rootfs", "squashfs", "tmpfs", "ubifs", "udf", "zfs",
];

/// A mounted file system of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mounted {
    /// Type of the file system, in the kernel's words.
    pub(super) kind: String,
    /// Mount point.
    pub(super) point: Vec<u8>,
    /// Whether the path leads to this mount and crosses no file system that could block.
    pub(super) is_reachable: bool,
    /// Whether this volume reports the file system's free space. Only one volume of a file system
    /// does.
    pub(super) has_free: bool,
}

/// A line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    id: u32,
    parent: u32,
    number: Number,
    /// Directory of the file system that is mounted. It is `/` except for bind mounts and
    /// subvolumes.
    root: Vec<u8>,
    point: Vec<u8>,
    kind: String,
    source: Vec<u8>,
}

/// Finds where the devices' file systems are mounted.
///
/// # Errors
/// The system's, if mountinfo cannot be read.
pub(super) fn find(root: &Root, devices: &[Device]) -> io::Result<BTreeMap<Number, Mounted>> {
    let mut best: BTreeMap<Number, Mount> = BTreeMap::new();
    let mut sources: BTreeMap<Number, BTreeSet<Vec<u8>>> = BTreeMap::new();
    each(root, |mount| {
        // A btrfs has a device number of its own, which all mounts of its subvolumes share.
        if mount.kind == "btrfs" {
            let sources = sources.entry(mount.number).or_default();
            sources.insert(mount.source.clone());
        } else if !devices.iter().any(|device| device.number == mount.number) {
            return;
        }
        match best.get_mut(&mount.number) {
            Some(known) if rank(&mount) < rank(known) => *known = mount,
            Some(_) => {}
            None => drop(best.insert(mount.number, mount)),
        }
    })?;

    // A container host has thousands of mounts, so the file is read twice instead of kept.
    let mut near = Vec::new();
    each(root, |mount| {
        if best
            .values()
            .any(|best| is_at_or_below(&best.point, &mount.point))
        {
            near.push(mount);
        }
    })?;

    let mut file_systems = btrfs::devices(root, &sources, devices);
    let mut found = BTreeMap::new();
    for (number, mount) in best {
        let numbers = if mount.kind == "btrfs" {
            file_systems.remove(&number).unwrap_or_default()
        } else {
            vec![number]
        };
        let is_reachable = is_reachable(&mount, &near);
        for (index, number) in numbers.into_iter().enumerate() {
            let Mount { kind, point, .. } = mount.clone();
            found.insert(
                number,
                Mounted {
                    kind,
                    point,
                    is_reachable,
                    has_free: index == 0,
                },
            );
        }
    }
    Ok(found)
}

/// Sort key of a file system's mounts, of which the lowest is published. A mount of the whole file
/// system precedes a mount of one of its directories, except for subvolumes of btrfs. Then the
/// shorter path comes first.
fn rank(mount: &Mount) -> (bool, usize, &[u8]) {
    (
        mount.kind != "btrfs" && mount.root != b"/",
        mount.point.len(),
        &mount.point,
    )
}

/// Calls `take` for each line of mountinfo that is valid.
fn each(root: &Root, take: impl FnMut(Mount)) -> io::Result<()> {
    // With another root, the view of the system's first process is right, not the agent's.
    let path = if root.is_system() {
        "/proc/self/mountinfo"
    } else {
        "/proc/1/mountinfo"
    };
    each_in(root.open(path)?, take)
}

fn each_in(mountinfo: File, mut take: impl FnMut(Mount)) -> io::Result<()> {
    let mut file = BufReader::with_capacity(4096, mountinfo);
    let mut line = Vec::new();

    while file.read_until(b'\n', &mut line)? > 0 {
        if let Some(mount) = parse(line.strip_suffix(b"\n").unwrap_or(&line)) {
            take(mount);
        }
        line.clear();
    }

    Ok(())
}

/// Parses a line of `proc_pid_mountinfo(5)`. The number of fields before the `-` varies.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (id, parent) = (number()?, number()?);
    let (major, minor) = std::str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let number = (major.parse().ok()?, minor.parse().ok()?);
    let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = String::from_utf8(unescape(fields.next()?)).ok()?;
    let source = unescape(fields.next()?);
    point.starts_with(b"/").then_some(Mount {
        id,
        parent,
        number,
        root,
        point,
        kind,
        source,
    })
}

/// Decodes a field. The kernel writes white space, `\` and `#` as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut left = field;

    while let Some((first, rest)) = left.split_first() {
        let escaped = match rest {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        left = rest
            .get(if escaped.is_some() { 3 } else { 0 }..)
            .unwrap_or_default();
    }

    bytes
}

fn is_at_or_below(path: &[u8], above: &[u8]) -> bool {
    let above = above.strip_suffix(b"/").unwrap_or(above);
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Whether the path of a mount leads to it and crosses only local file systems. Another file system
/// may be mounted over it or over a parent.
fn is_reachable(wanted: &Mount, mounts: &[Mount]) -> bool {
    let mut roots = mounts.iter().filter(|mount| mount.point == b"/");
    // If several mounts have the path `/`, it depends on the process which one a path begins in.
    let (Some(root), None) = (roots.next(), roots.next()) else {
        return false;
    };
    mount_of(&wanted.point, root, mounts, is_local_kind).id == wanted.id
}

/// Whether an absolute path without links crosses only local file systems. The root file system may
/// be another one, because the whole system depends on it anyway.
///
/// # Errors
/// The system's, if mountinfo cannot be read.
pub(super) fn is_local(path: &Path) -> io::Result<bool> {
    let path = path.as_os_str().as_bytes();
    let mut mounts = Vec::new();
    each_in(File::open("/proc/self/mountinfo")?, |mount| {
        if is_at_or_below(path, &mount.point) {
            mounts.push(mount);
        }
    })?;
    Ok(is_path_local(path, &mounts))
}

fn is_path_local(path: &[u8], mounts: &[Mount]) -> bool {
    // A later mount of the root is on top of an earlier one.
    let Some(root) = mounts.iter().rfind(|mount| mount.point == b"/") else {
        return true;
    };
    let may_cross = |mount: &Mount| mount.id == root.id || is_local_kind(mount);
    may_cross(mount_of(path, root, mounts, may_cross))
}

/// Whether a path can cross the mount without waiting. A network file system or an automounter may
/// block for ever.
fn is_local_kind(mount: &Mount) -> bool {
    NON_BLOCKING.contains(&mount.kind.as_str()) || LOCAL.contains(&mount.kind.as_str())
}

/// Returns the mount that a path leads to, or the first one on the way that it may not cross.
fn mount_of<'a>(
    path: &[u8],
    root: &'a Mount,
    mounts: &'a [Mount],
    may_cross: impl Fn(&Mount) -> bool,
) -> &'a Mount {
    let mut here = root;
    let ends = (1..=path.len()).filter(|end| path.get(*end).is_none_or(|byte| *byte == b'/'));
    for point in ends.filter_map(|end| path.get(..end)) {
        // Several mounts may be stacked on one directory.
        for _ in 0..mounts.len() {
            let on_top = mounts
                .iter()
                .find(|mount| mount.parent == here.id && mount.point == point);
            match on_top.filter(|_| may_cross(here)) {
                Some(mount) if mount.point != b"/" => here = mount,
                _ => break,
            }
        }
    }
    here
}

/// Returns the path of a mount point for the agent.
pub(super) fn path(root: &Root, point: &[u8]) -> io::Result<PathBuf> {
    Ok(root
        .path("/")?
        .join(OsStr::from_bytes(point.strip_prefix(b"/").unwrap_or(point))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_disks_and_memory_are_local() {
        let is_local = |kind: &str| {
            let lines = [
                "1 0 8:1 / / rw - ext4 /dev/sda1 rw".to_owned(),
                format!("2 1 8:2 / /mnt rw - {kind} none rw"),
            ];
            let mounts: Vec<_> = lines
                .iter()
                .filter_map(|line| parse(line.as_bytes()))
                .collect();
            is_path_local(b"/mnt/file", &mounts)
        };
        for kind in [
            "aufs", "bcachefs", "btrfs", "erofs", "exfat", "ext4", "iso9660", "nilfs2", "ntfs3",
            "overlay", "squashfs", "tmpfs", "ubifs", "udf", "vfat", "xfs", "zfs",
        ] {
            assert!(is_local(kind), "{kind}");
        }
        for kind in [
            "9p",
            "autofs",
            "ceph",
            "cifs",
            "fuse",
            "fuse.sshfs",
            "fuseblk",
            "gfs2",
            "nfs",
            "nfs4",
            "ocfs2",
            "proc",
            "virtiofs",
        ] {
            assert!(!is_local(kind), "{kind}");
        }
    }

    #[test]
    fn paths_are_local_up_to_a_mount_that_may_block() {
        // The root of this system is on a server, and an automounter is below a local mount.
        let lines = [
            "1 0 0:1 / / rw - nfs4 server:/root rw",
            "2 1 8:1 / /var rw - ext4 /dev/sda1 rw",
            "3 2 0:2 / /var/net rw - autofs systemd-1 rw",
            "4 3 0:3 / /var/net rw - ext4 /dev/sdb1 rw",
            "5 1 0:4 / /hung rw - fuse.sshfs host: rw",
            "6 5 8:2 / /hung/disk rw - ext4 /dev/sdc1 rw",
            "7 1 0:5 / /srv rw - nfs4 server:/srv rw",
            "8 7 8:3 / /srv rw - xfs /dev/sdd1 rw",
        ];
        let mounts: Vec<_> = lines
            .iter()
            .filter_map(|line| parse(line.as_bytes()))
            .collect();
        assert_eq!(mounts.len(), lines.len());
        for (path, expected) in [
            ("/", true),
            ("/etc/services.d", true),
            ("/var/lib", true),
            ("/var/network", true),
            ("/var/net", false),
            ("/var/net/x", false),
            ("/hung", false),
            ("/hung/disk/x", false),
            ("/srv/x", false),
        ] {
            assert_eq!(is_path_local(path.as_bytes(), &mounts), expected, "{path}");
        }
        assert!(is_local(Path::new("/")).unwrap());
        assert!(!is_local(Path::new("/proc/self")).unwrap());
    }
}
