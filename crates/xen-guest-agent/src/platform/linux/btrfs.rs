//! Devices of mounted btrfs file systems, each of which may use several devices.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::block::{Device, Number, names};
use crate::root::Root;

/// A btrfs in sysfs.
struct FileSystem {
    uuid: String,
    devices: Vec<String>,
}

/// Returns the devices of each file system. `sources` has the sources of its mounts by the device
/// number of the file system.
pub(super) fn devices(
    root: &Root,
    sources: &BTreeMap<Number, BTreeSet<Vec<u8>>>,
    devices: &[Device],
) -> BTreeMap<Number, Vec<Number>> {
    if sources.is_empty() {
        return BTreeMap::new();
    }
    let mut file_systems = file_systems(root);
    let mut found: BTreeMap<Number, Vec<String>> = BTreeMap::new();
    let mut unknown = Vec::new();
    for (number, sources) in sources {
        let device = sources
            .iter()
            .find_map(|source| device_of(root, source, devices));
        let position = file_systems.iter().position(|file_system| {
            device.is_some_and(|device| file_system.devices.contains(&device.name))
                || sources
                    .iter()
                    .any(|source| is_uuid(source, &file_system.uuid))
        });
        match (position, device) {
            (Some(position), _) => {
                drop(found.insert(*number, file_systems.swap_remove(position).devices));
            }
            (None, Some(device)) => drop(found.insert(*number, vec![device.name.clone()])),
            (None, None) => unknown.push(*number),
        }
    }

    // A source such as /dev/root names no device. If only one mount and one file system remain,
    // they belong together.
    if let ([number], [file_system]) = (unknown.as_slice(), file_systems.as_slice()) {
        found.insert(*number, file_system.devices.clone());
    }

    let numbers_of = |names: Vec<String>| {
        let devices = devices.iter();
        let members = devices.filter(|device| names.contains(&device.name));
        members.map(|device| device.number).collect()
    };
    found
        .into_iter()
        .map(|(number, names)| (number, numbers_of(names)))
        .collect()
}

/// Returns the file systems that are mounted anywhere.
fn file_systems(root: &Root) -> Vec<FileSystem> {
    let uuids = names(root, "/sys/fs/btrfs").unwrap_or_default();
    let file_systems = uuids.into_iter().filter_map(|uuid| {
        let devices = names(root, &format!("/sys/fs/btrfs/{uuid}/devices")).ok()?;
        Some(FileSystem { uuid, devices })
    });
    file_systems.collect()
}

/// Whether a source is a link of udev with the UUID of a file system. The link itself may be
/// missing.
fn is_uuid(source: &[u8], uuid: &str) -> bool {
    source
        .strip_prefix(b"/dev/disk/by-uuid/")
        .is_some_and(|name| name.eq_ignore_ascii_case(uuid.as_bytes()))
}

/// Finds the device of a path by its name or by the target of udev's link.
fn device_of<'a>(root: &Root, source: &[u8], devices: &'a [Device]) -> Option<&'a Device> {
    let source = std::str::from_utf8(source)
        .ok()
        .filter(|source| source.starts_with("/dev/"))?;
    let target = root.path(source).and_then(fs::canonicalize).ok();
    let name = target
        .as_deref()
        .and_then(Path::file_name)
        .and_then(OsStr::to_str);
    devices
        .iter()
        .find(|device| device.path == source || name == Some(&device.name))
}
