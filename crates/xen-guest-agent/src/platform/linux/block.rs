//! Block devices from sysfs, and their content from udev's database.

use std::fs;
use std::io;

use crate::root::Root;

/// Unit of `size` in sysfs in bytes, whatever the sector size of the disk is. The Go agent uses the
/// disk's sectors, which gives eight times the size for sectors of 4 KiB.
const SECTOR: u64 = 512;

/// Maximum depth of stacked devices (md, dm-crypt, LVM and its snapshots).
const DEPTH: u32 = 8;

/// Maximum size in bytes of an entry in udev's database.
const UDEV_MAX: usize = 64 * 1024;

/// Major and minor device number.
pub(super) type Number = (u32, u32);

/// A block device that has no partitions.
#[derive(Debug)]
pub(super) struct Device {
    /// Name in the kernel.
    pub(super) name: String,
    pub(super) number: Number,
    /// Path below `/dev` that users know.
    pub(super) path: String,
    /// Size in bytes.
    pub(super) size: u64,
    /// Virtual disk that this device is, or is a partition of.
    pub(super) disk: Option<String>,
}

/// Content of a device.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) uuid: Option<String>,
    /// Type of the content, in the words of blkid(8).
    pub(super) kind: Option<String>,
}

/// Returns the partitions of the guest's disks and the disks without partitions. The devices that
/// are stacked on them follow, if nothing is stacked on these in turn. Disks without medium,
/// removable disks, loop devices and memory are skipped.
pub(super) fn list(root: &Root) -> io::Result<Vec<Device>> {
    let mut found = Vec::new();
    let mut stacked = Vec::new();
    for name in names(root, "/sys/block")? {
        let disk = format!("/sys/block/{name}");
        let is_disk = root.exists(&format!("{disk}/device"));
        if !is_own(root, &disk, DEPTH)
            || (!is_disk && !names(root, &format!("{disk}/holders"))?.is_empty())
        {
            continue;
        }

        let virtual_disk = virtual_disk(root, &disk);
        let mut parts = names(root, &disk)?;
        parts.retain(|part| {
            part.starts_with(&name) && root.exists(&format!("{disk}/{part}/partition"))
        });
        let device = |path: &str, name| {
            Some(Device {
                disk: virtual_disk.clone(),
                ..device(root, path, name)?
            })
        };

        let list = if is_disk { &mut found } else { &mut stacked };
        if parts.is_empty() {
            list.extend(device(&disk, name));
        } else {
            list.extend(
                parts
                    .into_iter()
                    .filter_map(|part| device(&format!("{disk}/{part}"), part)),
            );
        }
    }
    found.extend(stacked);
    Ok(found)
}

/// Returns the names in a directory in natural order: `xvdb` before `xvdaa`, 2 before 10.
pub(super) fn names(root: &Root, directory: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.path(directory)?)? {
        names.extend(entry?.file_name().into_string());
    }
    names.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    Ok(names)
}

/// Whether a device is a disk of the guest, which has a bus and a driver, or is stacked on one.
fn is_own(root: &Root, device: &str, depth: u32) -> bool {
    if root.exists(&format!("{device}/partition")) {
        return is_own(root, &format!("{device}/.."), depth);
    }

    if root.exists(&format!("{device}/device")) {
        // A hidden device is one of several paths to an NVMe disk, which has a device of its own.
        let is = |flag| {
            root.text(&format!("{device}/{flag}"))
                .is_ok_and(|value| value == "1")
        };
        return !is("removable") && !is("hidden");
    }

    let slaves = names(root, &format!("{device}/slaves")).unwrap_or_default();
    depth > 0
        && slaves
            .iter()
            .any(|slave| is_own(root, &format!("/sys/class/block/{slave}"), depth - 1))
}

fn device(root: &Root, path: &str, name: String) -> Option<Device> {
    let attribute = |name: &str| root.text(&format!("{path}/{name}")).ok();
    let number = attribute("dev")?;
    let (major, minor) = number.split_once(':')?;
    let size = attribute("size")?
        .parse::<u64>()
        .ok()?
        .checked_mul(SECTOR)
        .filter(|size| *size > 0)?;

    let path = match attribute("dm/name") {
        Some(name) => format!("/dev/mapper/{}", escape_octal(name.as_bytes())),
        // The kernel replaces slashes in device names, because a file name cannot have them.
        None => format!("/dev/{}", escape_octal(name.replace('!', "/").as_bytes())),
    };

    Some(Device {
        name,
        number: (major.parse().ok()?, minor.parse().ok()?),
        path,
        size,
        disk: None,
    })
}

impl Device {
    /// Whether another device is stacked on this one.
    pub(super) fn has_holders(&self, root: &Root) -> bool {
        names(root, &format!("/sys/class/block/{}/holders", self.name))
            .is_ok_and(|holders| !holders.is_empty())
    }

    pub(super) fn content(&self, root: &Root) -> Content {
        let (major, minor) = self.number;
        let entry = root
            .read(&format!("/run/udev/data/b{major}:{minor}"), UDEV_MAX)
            .unwrap_or_default();

        let property = |name: &str| {
            let mut lines = entry.split(|byte| *byte == b'\n');
            let value = |line: &[u8]| {
                let value = line
                    .strip_prefix(b"E:")?
                    .strip_prefix(name.as_bytes())?
                    .strip_prefix(b"=")?;
                (!value.is_empty()).then(|| escape_octal(value))
            };
            lines.find_map(value)
        };

        Content {
            uuid: property("ID_FS_UUID"),
            kind: property("ID_FS_TYPE"),
        }
    }
}

/// Returns the bytes as printable ASCII. The backslash and every other byte become `\ooo`, as in
/// `/proc/self/mountinfo`.
pub(super) fn escape_octal(bytes: &[u8]) -> String {
    let mut escaped = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\\' | ..b' ' | 0x7f.. => {
                escaped.push('\\');
                escaped.extend([6, 3, 0].map(|shift| char::from(b'0' + (byte >> shift & 7))));
            }
            _ => escaped.push(char::from(*byte)),
        }
    }
    escaped
}

/// Returns the toolstack's name of a paravirtual disk. Drivers may use another name: `hda` is
/// `xvda` in a Linux guest.
fn virtual_disk(root: &Root, disk: &str) -> Option<String> {
    let node = root.text(&format!("{disk}/device/nodename")).ok()?;
    virtual_disk_name(node.strip_prefix("device/vbd/")?.parse().ok()?)
}

/// Decodes a number of xen-vbd-interface(7).
fn virtual_disk_name(number: u32) -> Option<String> {
    let (kind, disk, partition) = match (number >> 28, number >> 8) {
        (1, _) => ("xvd", number >> 8 & 0xf_ffff, number & 0xff),
        (0, 202) => ("xvd", number >> 4 & 0xf, number & 0xf),
        (0, 8) => ("sd", number >> 4 & 0xf, number & 0xf),
        (0, 3) => ("hd", number >> 6 & 1, number & 0x3f),
        (0, 22) => ("hd", (number >> 6 & 1) + 2, number & 0x3f),
        _ => return None,
    };

    // The letters count a to z, aa to zz, aaa and so on.
    let mut letters = Vec::new();
    let mut left = disk + 1;
    while left > 0 {
        left -= 1;
        letters.push(char::from(b'a' + u8::try_from(left % 26).ok()?));
        left /= 26;
    }

    let letters: String = letters.iter().rev().collect();
    Some(if partition == 0 {
        format!("{kind}{letters}")
    } else {
        format!("{kind}{letters}{partition}")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn virtual_disk_numbers_are_decoded() {
        for (number, name) in [
            (202 << 8, Some("xvda")),
            (202 << 8 | 15 << 4 | 2, Some("xvdp2")),
            (1 << 28 | 16 << 8, Some("xvdq")),
            (1 << 28 | 25 << 8, Some("xvdz")),
            (1 << 28 | 26 << 8 | 3, Some("xvdaa3")),
            (1 << 28 | 702 << 8, Some("xvdaaa")),
            (8 << 8 | 1 << 4, Some("sdb")),
            (768, Some("hda")),
            (3 << 8 | 1 << 6 | 1, Some("hdb1")),
            (5632, Some("hdc")),
            (22 << 8 | 1 << 6, Some("hdd")),
            (0, None),
            (2 << 28, None),
            (u32::MAX, None),
        ] {
            assert_eq!(virtual_disk_name(number).as_deref(), name, "{number}");
        }
    }

    #[test]
    fn bytes_are_escaped_in_octal() {
        for (bytes, expected) in [
            (&b"/mnt/a~"[..], "/mnt/a~"),
            (b"a\\b", "a\\134b"),
            (b"a\nb\x7f\xff", "a\\012b\\177\\377"),
            (b"a b", "a b"),
        ] {
            assert_eq!(escape_octal(bytes), expected);
        }
    }

    proptest! {
        #[test]
        fn octal_escapes_are_printable_and_unambiguous(one: Vec<u8>, other: Vec<u8>) {
            let text = escape_octal(&one);
            prop_assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text}");
            prop_assert_eq!(text == escape_octal(&other), one == other);
        }
    }
}
