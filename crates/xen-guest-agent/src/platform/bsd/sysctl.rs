//! Values of FreeBSD's sysctl(3).

use std::io::{self, ErrorKind};

use super::bytes::{array_at, until_nul};
use crate::guest::Memory;

/// Returns a text. The kernel ends most texts, but not all, with a NUL.
pub fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(until_nul(value)).into_owned()
}

/// Returns a number of four or eight bytes that is not negative.
pub fn number(value: &[u8]) -> Option<u64> {
    match value.len() {
        4 => array_at(value, 0).map(|bytes| u32::from_ne_bytes(bytes).into()),
        8 => array_at(value, 0).map(u64::from_ne_bytes),
        _ => None,
    }
}

/// Whether the value of `kern.vm_guest` tells that the kernel runs on Xen.
pub fn is_xen(vm_guest: &[u8]) -> bool {
    until_nul(vm_guest) == b"xen"
}

/// Returns the VIF number in the value of `dev.xn.<unit>.xenstore_path`, such as `device/vif/0`.
pub fn vif_number(xenstore_path: &[u8]) -> Option<u32> {
    text(xenstore_path)
        .strip_prefix("device/vif/")?
        .parse()
        .ok()
}

/// Returns the size of memory and how much of it is available: free, inactive and laundry pages, and
/// the part of ZFS's cache, the ARC, above its minimum. The kernel must write some of these pages
/// first.
///
/// `read` returns the value of a name, or `None` if the kernel does not know the name.
///
/// # Errors
/// The error of `read`, or the name whose value is missing or cannot be true.
pub fn memory(mut read: impl FnMut(&str) -> io::Result<Option<Vec<u8>>>) -> io::Result<Memory> {
    let mut optional = |name: &str| -> io::Result<Option<u64>> {
        let invalid = || io::Error::new(ErrorKind::InvalidData, format!("{name}: invalid value"));
        let Some(value) = read(name)? else {
            return Ok(None);
        };
        number(&value).map(Some).ok_or_else(invalid)
    };
    let mut required = |name: &str| {
        let missing = || io::Error::new(ErrorKind::NotFound, format!("{name}: no such value"));
        optional(name)?.ok_or_else(missing)
    };

    let total = required("hw.physmem")? / 1024;
    if total == 0 {
        let message = "hw.physmem: no memory";
        return Err(io::Error::new(ErrorKind::InvalidData, message));
    }
    let page_size = required("hw.pagesize")?;
    let mut pages = required("vm.stats.vm.v_free_count")?;
    pages = pages.saturating_add(required("vm.stats.vm.v_inactive_count")?);
    pages = pages.saturating_add(optional("vm.stats.vm.v_laundry_count")?.unwrap_or(0));

    // The ARC is in none of the numbers of pages. It keeps its minimum size.
    let arc = match optional("kstat.zfs.misc.arcstats.size")? {
        Some(size) => {
            let min = optional("kstat.zfs.misc.arcstats.c_min")?.unwrap_or(size);
            size.saturating_sub(min) / 1024
        }
        None => 0,
    };

    let available = pages.saturating_mul(page_size / 1024).saturating_add(arc);
    Ok(Memory {
        total,
        available: available.min(total),
    })
}
