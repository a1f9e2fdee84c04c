//! Values of sysctl(3), some of which a running kernel returned.

use std::collections::BTreeMap;
use std::io;

use super::super::sysctl::{is_xen, memory, number, text, vif_number};
use super::capture::{FREEBSD_12, FREEBSD_13, from_hex, others};
use crate::guest::Memory;

type Values = BTreeMap<String, Vec<u8>>;

/// Returns the first value of each name that the kernel knows.
fn values(name: &str) -> Values {
    let values = others(name, "S").into_iter().rev();
    let values = values.filter(|fields| fields.len() == 6);
    values
        .map(|fields| (fields[1].clone(), from_hex(&fields[5])))
        .collect()
}

fn memory_of(values: &Values) -> io::Result<Memory> {
    memory(|name| Ok(values.get(name).cloned()))
}

#[test]
fn memory_of_running_kernels_is_known() {
    let expected = Memory {
        total: 0x1f17_d000 / 1024,
        available: 0x1_cf3b * 4,
    };
    assert_eq!(memory_of(&values(FREEBSD_12)).unwrap(), expected);
    let other = memory_of(&values(FREEBSD_13)).unwrap();
    assert!(other.available > 0 && other.available < other.total);
}

#[test]
fn inactive_pages_laundry_and_arc_are_available() {
    let mut values = values(FREEBSD_12);
    let set = |values: &mut Values, name: &str, value: &[u8]| {
        values.insert(name.to_owned(), value.to_vec());
        memory_of(values).unwrap().available
    };
    let free = 0x1_cf3b * 4;
    let pages = 10_u32.to_ne_bytes();
    assert_eq!(
        set(&mut values, "vm.stats.vm.v_inactive_count", &pages),
        free + 40
    );
    assert_eq!(
        set(&mut values, "vm.stats.vm.v_laundry_count", &pages),
        free + 80
    );
    assert_eq!(
        set(&mut values, "vm.stats.vm.v_active_count", &pages),
        free + 80
    );

    // Without its minimum, no part of the ARC counts.
    let arc = "kstat.zfs.misc.arcstats";
    let size = 3_145_728_u64.to_ne_bytes();
    assert_eq!(set(&mut values, &format!("{arc}.size"), &size), free + 80);
    let min = 1_048_576_u64.to_ne_bytes();
    assert_eq!(
        set(&mut values, &format!("{arc}.c_min"), &min),
        free + 80 + 2048
    );
    let min = 4_194_304_u64.to_ne_bytes();
    assert_eq!(set(&mut values, &format!("{arc}.c_min"), &min), free + 80);

    let size = u64::MAX.to_ne_bytes();
    let total = memory_of(&values).unwrap().total;
    assert_eq!(set(&mut values, &format!("{arc}.size"), &size), total);

    // FreeBSD before 12 has no laundry.
    values.remove("vm.stats.vm.v_laundry_count");
    values.remove("kstat.zfs.misc.arcstats.size");
    assert_eq!(memory_of(&values).unwrap().available, free + 40);
}

#[test]
fn missing_and_impossible_figures_are_errors() {
    let all = values(FREEBSD_12);
    for name in [
        "hw.physmem",
        "hw.pagesize",
        "vm.stats.vm.v_free_count",
        "vm.stats.vm.v_inactive_count",
    ] {
        let mut values = all.clone();
        values.remove(name);
        let error = memory_of(&values).unwrap_err().to_string();
        assert_eq!(error, format!("{name}: no such value"));
        values.insert(name.to_owned(), vec![1, 2, 3]);
        let error = memory_of(&values).unwrap_err().to_string();
        assert_eq!(error, format!("{name}: invalid value"));
    }
    let mut values = all;
    values.insert("hw.physmem".to_owned(), vec![0; 8]);
    assert!(memory_of(&values).is_err());
}

#[test]
fn texts_end_at_the_first_nul_or_with_the_value() {
    let values = values(FREEBSD_12);
    assert_eq!(text(&values["kern.hostname"]), "cap.example.org");
    assert_eq!(text(&values["kern.osrelease"]), "12.2-RELEASE");
    assert_eq!(text(&values["kern.domainname"]), "");
    assert_eq!(text(b"device/vif/0"), "device/vif/0");
    assert!(!is_xen(&values["kern.vm_guest"]));
    assert!(is_xen(b"xen\0"));
}

#[test]
fn numbers_have_four_or_eight_bytes() {
    assert_eq!(number(&7_u32.to_ne_bytes()), Some(7));
    assert_eq!(number(&u64::MAX.to_ne_bytes()), Some(u64::MAX));
    for len in [0, 1, 3, 5, 9] {
        assert_eq!(number(&vec![1; len]), None);
    }
}

#[test]
fn vif_number_is_the_last_part_of_its_path() {
    assert_eq!(vif_number(b"device/vif/0"), Some(0));
    assert_eq!(vif_number(b"device/vif/12\0"), Some(12));
    for path in [
        b"device/vbd/768".as_slice(),
        b"device/vif/",
        b"device/vif/x",
        b"backend/vif/1/0",
        b"",
    ] {
        assert_eq!(vif_number(path), None);
    }
}
