//! Volumes: the partitions and other block devices of the guest, what is on them, where it is mounted and what is free.

mod devices;
mod mounts;

use std::fs::File;
use std::io;

use rustix::fs::{Mode, OFlags};

use crate::guest::{MAX_VOLUMES, Volume};
use crate::root::Root;
use crate::text::escape_octal;
use devices::Device;
use mounts::Mounted;

/// Free space is news when it moved by this part of the volume.
const NEWS: u64 = 100;

/// File systems of the kernel that answer from memory how much is free. Not asked are those in user space (an `ntfs-3g`
/// that hangs would take the agent along) and those of clusters, which wait for other machines.
const QUICK: [&str; 12] = [
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "ntfs3", "reiserfs",
    "vfat", "xfs",
];

/// Looks at all volumes: the disks' in the order of their names first, then what is stacked on them. Where there are too
/// many, those that are mounted come first.
///
/// # Errors
/// Where block devices or mounts cannot be seen.
pub fn look(root: &Root) -> io::Result<Vec<Volume>> {
    let devices = devices::list(root)?;
    let mut mounted = mounts::find(root, &devices)?;
    let mut found: Vec<_> = devices
        .into_iter()
        .map(|device| (mounted.remove(&device.number), device))
        .collect();
    if found.len() > MAX_VOLUMES {
        found.sort_by_key(|(mounted, _)| mounted.is_none());
        found.truncate(MAX_VOLUMES);
    }
    Ok(found
        .into_iter()
        .map(|(mounted, device)| volume(root, &device, mounted))
        .collect())
}

fn volume(root: &Root, device: &Device, mounted: Option<Mounted>) -> Volume {
    let content = device.content(root);
    let name = match content.uuid {
        Some(uuid) => format!("{}({uuid})", device.path),
        None => device.path.clone(),
    };
    let is_lvm = content.kind.as_deref() == Some("LVM2_member");
    let free = mounted
        .as_ref()
        .and_then(|mounted| free(root, device, mounted));
    let (kind, point) = mounted
        .map(|mounted| (mounted.kind, escape_octal(&mounted.point)))
        .unzip();
    Volume {
        name,
        size: device.size,
        free,
        // What LVM's own commands, and the Go agent, call it. What is free in it only LVM's metadata tell.
        file_system: if is_lvm {
            Some("lvm2".to_owned())
        } else {
            kind.or(content.kind)
        },
        mount_point: if is_lvm {
            Some("[LVM]".to_owned())
        } else {
            point
        },
        disk: device.disk.clone(),
    }
}

/// What the file system there says, if it is the right one and does not have to be waited for.
fn free(root: &Root, device: &Device, mounted: &Mounted) -> Option<u64> {
    if !mounted.has_free || !mounted.is_reachable || !QUICK.contains(&mounted.kind.as_str()) {
        return None;
    }
    // Only the path is walked: nothing is opened that an automounter, say, would take for a use.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = File::from(
        rustix::fs::open(
            mounts::path(root, &mounted.point).ok()?,
            flags,
            Mode::empty(),
        )
        .ok()?,
    );
    // With a root of its own the agent may not see all mounts of the system, but the directory below instead.
    let number = rustix::fs::fstat(&place).ok()?.st_dev;
    let is_there = match (rustix::fs::major(number), rustix::fs::minor(number)) {
        // The number of a subvolume stands nowhere else; all that can be told is that it is none of a block device.
        (major, _) if mounted.kind == "btrfs" => major == 0,
        number => number == device.number,
    };
    let status = rustix::fs::fstatvfs(&place).ok()?;
    is_there.then(|| status.f_bavail.saturating_mul(status.f_frsize))
}

/// Takes what a look found in the place of what was known. Whether there is something to tell; free space that moved a
/// little is not, unless `is_full`.
pub fn update(known: &mut Vec<Volume>, mut found: Vec<Volume>, is_full: bool) -> bool {
    for volume in &mut found {
        let before = known
            .iter()
            .find(|before| before.name == volume.name)
            .and_then(|before| before.free);
        if let (false, Some(before), Some(now)) = (is_full, before, volume.free) {
            if now.abs_diff(before) < volume.size / NEWS {
                volume.free = Some(before);
            }
        }
    }
    let is_news = *known != found;
    *known = found;
    is_news
}

#[cfg(test)]
mod tests;
