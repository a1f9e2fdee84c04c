//! Volumes: block devices of the guest, their content, where it is mounted and how much space is
//! free.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use rustix::fs::{Mode, OFlags};

use super::block::{self, Device, escape_octal};
use super::mounts::{self, Mounted, NON_BLOCKING};
use crate::guest::{MAX_VOLUMES, Volume};
use crate::root::Root;

/// Returns the volumes of the disks in the order of their names, then the ones that are stacked on
/// these. If there are too many, mounted ones come first.
pub(super) fn read(root: &Root) -> io::Result<Vec<Volume>> {
    let devices = block::list(root)?;
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
    // A physical volume that belongs to no active volume group has no device on top.
    let is_in_use = is_lvm && device.has_holders(root);
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
        // LVM's own commands and the Go agent use this name. Free space in it is known only to
        // LVM's metadata.
        file_system: if is_lvm {
            Some("lvm2".to_owned())
        } else {
            kind.or(content.kind)
        },
        mount_point: if is_in_use {
            Some("[LVM]".to_owned())
        } else {
            point
        },
        disk: device.disk.clone(),
    }
}

/// Returns the free space of a mounted file system if it is the expected one and answers without
/// waiting.
fn free(root: &Root, device: &Device, mounted: &Mounted) -> Option<u64> {
    if !mounted.has_free || !mounted.is_reachable || !NON_BLOCKING.contains(&mounted.kind.as_str())
    {
        return None;
    }

    // O_PATH does not open the directory, which an automounter would count as a use.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = File::from(
        rustix::fs::open(
            mounts::path(root, &mounted.point).ok()?,
            flags,
            Mode::empty(),
        )
        .ok()?,
    );

    // With another root the agent may not see all mounts of the system, but the directory below a
    // mount instead.
    let number = rustix::fs::fstat(&directory).ok()?.st_dev;
    let is_there = match (rustix::fs::major(number), rustix::fs::minor(number)) {
        // No file contains the device number of a btrfs subvolume. It has major number 0, unlike
        // the number of a block device.
        (major, _) if mounted.kind == "btrfs" => major == 0,
        number => number == device.number,
    };
    // Before Linux 3.12, fstatfs(2) refuses descriptors from O_PATH.
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let status = rustix::fs::fstatvfs(&directory)
        .or_else(|_| rustix::fs::statvfs(link))
        .ok()?;
    is_there.then(|| status.f_bavail.saturating_mul(status.f_frsize))
}

#[cfg(test)]
mod tests;
