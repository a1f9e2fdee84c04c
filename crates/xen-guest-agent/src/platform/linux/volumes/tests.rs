use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use proptest::prelude::*;

use super::*;

/// Files of a system. Devices are in the same place in sysfs as on a real system, which has links
/// to them.
struct System {
    directory: tempfile::TempDir,
    mounts: String,
}

impl System {
    fn new() -> Self {
        let system = System {
            directory: tempfile::tempdir().unwrap(),
            mounts: String::new(),
        };
        for directory in ["sys/block", "sys/class/block", "proc/1"] {
            fs::create_dir_all(system.at(directory)).unwrap();
        }
        system
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join(path)
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    /// Adds a disk of 1 GiB on `bus` (a directory below `sys/devices`).
    fn disk(&self, name: &str, bus: &str, number: &str) -> &Self {
        let home = format!("sys/devices/{bus}/block/{name}");
        self.write(&format!("{home}/dev"), format!("{number}\n"));
        self.write(&format!("{home}/size"), "2097152\n");
        for directory in ["holders", "slaves", "queue"] {
            fs::create_dir_all(self.at(&format!("{home}/{directory}"))).unwrap();
        }
        if !bus.starts_with("virtual") {
            symlink("../..", self.at(&format!("{home}/device"))).unwrap();
        }
        symlink(
            format!("../devices/{bus}/block/{name}"),
            self.at(&format!("sys/block/{name}")),
        )
        .unwrap();
        symlink(
            format!("../../devices/{bus}/block/{name}"),
            self.at(&format!("sys/class/block/{name}")),
        )
        .unwrap();
        self
    }

    /// Adds a paravirtual disk.
    fn vbd(&self, name: &str, id: u32, number: &str) -> &Self {
        self.write(
            &format!("sys/devices/vbd-{id}/nodename"),
            format!("device/vbd/{id}\n"),
        );
        self.disk(name, &format!("vbd-{id}"), number)
    }

    fn partition(&self, disk: &str, name: &str, number: &str) -> &Self {
        self.write(&format!("sys/block/{disk}/{name}/partition"), "1\n");
        self.write(
            &format!("sys/block/{disk}/{name}/dev"),
            format!("{number}\n"),
        );
        self.write(&format!("sys/block/{disk}/{name}/size"), "1048576\n");
        fs::create_dir_all(self.at(&format!("sys/block/{disk}/{name}/holders"))).unwrap();
        let target = fs::canonicalize(self.at(&format!("sys/block/{disk}/{name}"))).unwrap();
        let target = target
            .strip_prefix(fs::canonicalize(self.directory.path()).unwrap())
            .unwrap()
            .to_owned();
        symlink(
            Path::new("/").join(target),
            self.at(&format!("sys/class/block/{name}")),
        )
        .unwrap();
        self
    }

    /// Adds a device that is stacked on others.
    fn stacked(&self, name: &str, number: &str, dm_name: Option<&str>, below: &[&str]) -> &Self {
        self.disk(name, "virtual", number);
        if let Some(dm_name) = dm_name {
            self.write(&format!("sys/block/{name}/dm/name"), format!("{dm_name}\n"));
        }
        for slave in below {
            let path = Root::new(self.directory.path())
                .path(&format!("/sys/class/block/{slave}"))
                .unwrap();
            fs::create_dir_all(path.join("holders")).unwrap();
            symlink("/nowhere", path.join("holders").join(name)).unwrap();
            symlink(
                "/nowhere",
                self.at(&format!("sys/block/{name}/slaves/{slave}")),
            )
            .unwrap();
        }
        self
    }

    fn udev(&self, number: &str, properties: &str) -> &Self {
        self.write(
            &format!("run/udev/data/b{number}"),
            format!("S:disk/by-id/x\nE:ID_BUS=xen\n{properties}\nG:systemd\n"),
        );
        self
    }

    /// Adds lines of mountinfo without its unused fields: id, parent, number, root, point, type,
    /// source.
    fn mount(&mut self, mounts: &[[&str; 7]]) -> &mut Self {
        for [id, parent, number, root, point, kind, source] in mounts {
            let more =
                format!("rw,relatime shared:1 master:2 - {kind} {source} rw,errors=remount-ro");
            writeln!(self.mounts, "{id} {parent} {number} {root} {point} {more}").unwrap();
        }
        self.write("proc/1/mountinfo", &self.mounts);
        self
    }

    fn read(&self) -> Vec<Volume> {
        read(&Root::new(self.directory.path())).unwrap()
    }

    fn shown(&self) -> Vec<String> {
        self.read().iter().map(shown).collect()
    }
}

fn shown(volume: &Volume) -> String {
    let text = |text: &Option<String>| text.as_deref().unwrap_or("-").to_owned();
    let Volume {
        name,
        size,
        free,
        file_system,
        mount_point,
        disk,
    } = volume;
    let free = if free.is_some() { "free" } else { "-" };
    format!(
        "{name} {} {free} {} {} {}",
        size >> 20,
        text(file_system),
        text(mount_point),
        text(disk)
    )
}

const ROOT: [&str; 7] = ["1", "0", "202:1", "/", "/", "ext4", "/dev/root"];

#[test]
fn partitions_are_listed_with_their_content() {
    let mut system = System::new();
    system.vbd("xvda", 768, "202:0");
    for (name, number) in [
        ("xvda1", "202:1"),
        ("xvda2", "202:2"),
        ("xvda10", "202:10"),
        ("xvda3", "202:3"),
    ] {
        system.partition("xvda", name, number);
    }
    system
        .vbd("xvdb", 51728, "202:16")
        .vbd("xvdaa", 268_442_112, "202:1232")
        .disk("sda", "pci0/host0", "8:0");
    // No volume group uses the physical volume xvda11.
    system.partition("xvda", "xvda11", "202:11");
    fs::create_dir_all(system.at("sys/block/xvda/xvda10/holders/dm-0")).unwrap();
    // This directory only looks like a partition.
    system.write("sys/block/xvda/xvda_stat/size", "1");
    system
        .udev("202:1", "E:ID_FS_UUID=6f3c-1\nE:ID_FS_TYPE=ext4")
        .udev(
            "202:2",
            "E:ID_FS_UUID=6f3c-2\nE:ID_FS_UUID_ENC=x\nE:ID_FS_TYPE=swap",
        )
        .udev("202:10", "E:ID_FS_UUID=\nE:ID_FS_TYPE=LVM2_member")
        .udev("202:11", "E:ID_FS_TYPE=LVM2_member")
        .udev("202:16", "E:ID_FS_TYPE=vfat\nE:ID_FS_UUID=\u{e9}\u{1}");
    system.mount(&[
        ROOT,
        [
            "2",
            "1",
            "202:16",
            "/",
            "/mnt/a\\040b\\134",
            "vfat",
            "/dev/xvdb",
        ],
    ]);
    assert_eq!(
        system.shown(),
        [
            "/dev/sda 1024 - - - -",
            "/dev/xvda1(6f3c-1) 512 - ext4 / hda",
            "/dev/xvda2(6f3c-2) 512 - swap - hda",
            "/dev/xvda3 512 - - - hda",
            "/dev/xvda10 512 - lvm2 [LVM] hda",
            "/dev/xvda11 512 - lvm2 - hda",
            "/dev/xvdb(\\303\\251\\001) 1024 - vfat /mnt/a b\\134 xvdb",
            "/dev/xvdaa 1024 - - - xvdaa",
        ]
    );
}

#[test]
fn foreign_and_removable_devices_are_left_out() {
    let mut system = System::new();
    system.mount(&[
        ROOT,
        ["2", "1", "7:0", "/", "/snap", "squashfs", "/dev/loop0"],
    ]);
    system
        .disk("loop0", "virtual", "7:0")
        .disk("zram0", "virtual2", "252:0")
        .disk("sr0", "pci0/host1", "11:0");
    system.write("sys/block/sr0/removable", "1\n");
    system
        .disk("nvme0c0n1", "pci0/nvme0", "259:1")
        .write("sys/block/nvme0c0n1/hidden", "1\n");
    system
        .vbd("xvdd", 51760, "202:48")
        .write("sys/block/xvdd/size", "0\n");
    system.stacked("dm-0", "254:0", Some("pool"), &["loop0"]);
    // This one is broken.
    system
        .disk("sdb", "pci0/host2", "8")
        .disk("sdc", "pci0/host3", "8:2")
        .write("sys/block/sdc/size", "many\n");
    assert_eq!(system.shown(), [""; 0]);
}

#[test]
fn stacked_devices_follow_the_disks() {
    let mut system = System::new();
    system
        .vbd("xvda", 51712, "202:0")
        .partition("xvda", "xvda1", "202:1")
        .partition("xvda", "xvda2", "202:2");
    system
        .vbd("xvdb", 51728, "202:16")
        .vbd("xvdc", 51744, "202:32")
        .disk("cciss!c0d0", "pci0/cciss", "104:0");
    system
        .stacked("dm-0", "254:0", Some("luks"), &["xvda2"])
        .udev("202:2", "E:ID_FS_TYPE=crypto_LUKS");
    system
        .stacked("dm-1", "254:1", Some("vg-root"), &["dm-0"])
        .udev("254:0", "E:ID_FS_TYPE=LVM2_member");
    system
        .stacked("dm-10", "254:10", Some("vg-a b"), &["dm-0"])
        .stacked("dm-2", "254:2", Some("vg-swap"), &["dm-0"]);
    system
        .stacked("md127", "9:127", None, &["xvdb", "xvdc"])
        .partition("md127", "md127p1", "259:0");
    system
        .udev("202:16", "E:ID_FS_TYPE=linux_raid_member")
        .udev("202:32", "E:ID_FS_TYPE=linux_raid_member");
    system.mount(&[
        ["1", "0", "254:1", "/", "/", "xfs", "/dev/mapper/vg-root"],
        ["2", "1", "259:0", "/", "/srv", "ext4", "/dev/md127p1"],
        ["3", "1", "202:1", "/", "/boot", "ext4", "/dev/xvda1"],
    ]);
    assert_eq!(
        system.shown(),
        [
            "/dev/xvda1 512 - ext4 /boot xvda",
            "/dev/xvda2 512 - crypto_LUKS - xvda",
            "/dev/xvdb 1024 - linux_raid_member - xvdb",
            "/dev/xvdc 1024 - linux_raid_member - xvdc",
            "/dev/cciss/c0d0 1024 - - - -",
            "/dev/mapper/vg-root 1024 - xfs / -",
            "/dev/mapper/vg-swap 1024 - - - -",
            "/dev/mapper/vg-a b 1024 - - - -",
            "/dev/md127p1 512 - ext4 /srv -",
        ]
    );
}

#[test]
fn mount_of_the_whole_file_system_with_the_shortest_path_is_published() {
    for (mounts, expected) in [
        (
            vec![
                ["2", "1", "202:1", "/sub", "/a", "ext4", "x"],
                ["3", "1", "202:1", "/", "/long", "ext4", "x"],
            ],
            "/long",
        ),
        (
            vec![
                ["2", "1", "202:1", "/", "/bb", "ext4", "x"],
                ["3", "1", "202:1", "/", "/a", "ext4", "x"],
            ],
            "/a",
        ),
        (
            vec![
                ["2", "1", "202:1", "/", "/b", "ext4", "x"],
                ["3", "1", "202:1", "/", "/a", "ext4", "x"],
            ],
            "/a",
        ),
        (
            vec![["2", "1", "202:1", "/x", "/etc/hosts", "ext4", "x"]],
            "/etc/hosts",
        ),
        (
            vec![["2", "1", "0:9", "/", "/a", "ext4", "/dev/xvda1"]],
            "-",
        ),
        (
            vec![
                ["2", "1", "202:1", "/", "relative", "ext4", "x"],
                ["3", "x", "202:1", "/", "/a", "ext4", "x"],
            ],
            "-",
        ),
    ] {
        let mut system = System::new();
        system
            .vbd("xvda", 51712, "202:0")
            .partition("xvda", "xvda1", "202:1");
        system.mount(&mounts);
        assert_eq!(
            system.read()[0].mount_point.as_deref().unwrap_or("-"),
            expected,
            "{mounts:?}"
        );
    }
}

#[test]
fn btrfs_without_a_valid_source_has_its_mount_point() {
    for (sources, expected) in [
        // Another mount of the same file system has a valid source.
        (["/dev/root", "/dev/xvda", "/dev/xvdb"], ["/", "/srv"]),
        // The link of the UUID is missing.
        (
            [
                "/dev/root",
                "/dev/disk/by-uuid/b-1",
                "/dev/disk/by-uuid/A-1",
            ],
            ["/srv", "/"],
        ),
        // Only one file system is left.
        (
            ["/dev/root", "/dev/root", "/dev/disk/by-uuid/b-1"],
            ["/", "/srv"],
        ),
        (["/dev/root", "/dev/root", "/dev/xvda"], ["/srv", "/"]),
        (["/dev/root", "/dev/root", "/dev/root"], ["-", "-"]),
    ] {
        let mut system = System::new();
        system
            .vbd("xvda", 51712, "202:0")
            .vbd("xvdb", 51728, "202:16");
        for path in ["a-1/devices/xvda", "b-1/devices/xvdb", "features/x"] {
            fs::create_dir_all(system.at(&format!("sys/fs/btrfs/{path}"))).unwrap();
        }
        let [root, home, srv] = sources;
        system.mount(&[
            ["1", "0", "0:30", "/@", "/", "btrfs", root],
            ["2", "1", "0:30", "/@home", "/home", "btrfs", home],
            ["3", "1", "0:31", "/", "/srv", "btrfs", srv],
        ]);
        let points: Vec<_> = system
            .read()
            .into_iter()
            .map(|volume| volume.mount_point.unwrap_or_else(|| "-".to_owned()))
            .collect();
        assert_eq!(points, expected, "{sources:?}");
    }
}

#[test]
fn first_device_of_a_btrfs_reports_free_space() {
    let mut system = System::new();
    for (name, id, number) in [
        ("xvda", 51712, "202:0"),
        ("xvdb", 51728, "202:16"),
        ("xvdc", 51744, "202:32"),
    ] {
        system
            .vbd(name, id, number)
            .udev(number, "E:ID_FS_TYPE=btrfs");
    }
    for path in [
        "one/devices/xvdc",
        "two/devices/xvda",
        "two/devices/xvdb",
        "features/x",
    ] {
        fs::create_dir_all(system.at(&format!("sys/fs/btrfs/{path}"))).unwrap();
    }
    fs::create_dir_all(system.at("dev/disk/by-uuid")).unwrap();
    system.write("dev/xvdb", "");
    symlink("../../xvdb", system.at("dev/disk/by-uuid/1")).unwrap();
    system.mount(&[
        ["1", "0", "0:30", "/@", "/", "btrfs", "/dev/disk/by-uuid/1"],
        [
            "2",
            "1",
            "0:30",
            "/@home",
            "/home",
            "btrfs",
            "/dev/disk/by-uuid/1",
        ],
        [
            "5",
            "1",
            "0:30",
            "/",
            "/mnt/top",
            "btrfs",
            "/dev/disk/by-uuid/1",
        ],
        ["3", "1", "0:31", "/", "/srv", "btrfs", "/dev/xvdc"],
        ["4", "1", "0:32", "/", "/mnt", "btrfs", "/dev/elsewhere"],
    ]);
    let expected = [
        "/dev/xvda 1024 - btrfs / xvda",
        "/dev/xvdb 1024 - btrfs / xvdb",
        "/dev/xvdc 1024 - btrfs /srv xvdc",
    ];
    assert_eq!(system.shown(), expected);
    let root = Root::new(system.directory.path());
    let mounted = mounts::find(&root, &block::list(&root).unwrap()).unwrap();
    let has_free: Vec<_> = mounted.values().map(|mounted| mounted.has_free).collect();
    assert_eq!(has_free, [true, false, true]);
}

/// Returns the number of the file system with the tests' files, so that mounts of this number can
/// report free space.
fn number_here(system: &System) -> String {
    let number = fs::metadata(system.directory.path()).unwrap().dev();
    format!(
        "{}:{}",
        rustix::fs::major(number),
        rustix::fs::minor(number)
    )
}

#[test]
fn free_space_is_read_only_without_waiting() {
    let usual = ["1", "0", "0:2", "/", "/", "ext4", "x"];
    for (case, kind, more, is_free) in [
        ("plain", "ext4", vec![usual], true),
        (
            "over others",
            "xfs",
            vec![usual, ["2", "1", "0:3", "/", "/mnt", "tmpfs", "x"]],
            true,
        ),
        (
            "another below",
            "ext4",
            vec![usual, ["2", "9", "0:3", "/", "/mnt/data/x", "nfs4", "x"]],
            true,
        ),
        (
            "another beside",
            "ext4",
            vec![usual, ["2", "1", "0:3", "/", "/mnt/da", "nfs4", "x"]],
            true,
        ),
        ("in user space", "fuseblk", vec![usual], false),
        ("of a cluster", "gfs2", vec![usual], false),
        (
            "on a network",
            "ext4",
            vec![["1", "0", "0:2", "/", "/", "nfs4", "x"]],
            false,
        ),
        (
            "below a network",
            "ext4",
            vec![usual, ["2", "1", "0:3", "/", "/mnt", "nfs4", "x"]],
            false,
        ),
        (
            "below an automounter",
            "ext4",
            vec![usual, ["2", "1", "0:3", "/", "/mnt", "autofs", "x"]],
            false,
        ),
        (
            "under a network",
            "ext4",
            vec![usual, ["2", "9", "0:3", "/", "/mnt/data", "nfs4", "x"]],
            false,
        ),
        (
            "under another",
            "ext4",
            vec![usual, ["2", "9", "0:3", "/", "/mnt/data", "ext4", "x"]],
            false,
        ),
        (
            "in a hidden directory",
            "ext4",
            vec![usual, ["2", "1", "0:3", "/", "/mnt", "tmpfs", "x"]],
            false,
        ),
        ("without a root", "ext4", vec![], false),
        (
            "with two roots",
            "ext4",
            vec![usual, ["2", "1", "0:3", "/", "/", "ext4", "x"]],
            false,
        ),
        (
            "in a circle",
            "ext4",
            vec![
                usual,
                ["2", "1", "0:3", "/", "/mnt/data", "xfs", "x"],
                ["1", "2", "0:4", "/", "/mnt/data", "xfs", "x"],
            ],
            false,
        ),
    ] {
        let mut system = System::new();
        let number = number_here(&system);
        fs::create_dir_all(system.at("mnt/data")).unwrap();
        system.vbd("xvda", 51712, &number);
        // This line follows its parent's, but it was mounted first.
        let parent = if ["over others", "below a network", "below an automounter"].contains(&case) {
            "2"
        } else {
            "1"
        };
        system.mount(&more);
        system.mount(&[["9", parent, &number, "/", "/mnt/data", kind, "/dev/xvda"]]);
        let volume = &system.read()[0];
        assert_eq!(volume.mount_point.as_deref(), Some("/mnt/data"), "{case}");
        assert_eq!(volume.free.is_some(), is_free, "{case}");
        if let Some(free) = volume.free {
            let status = rustix::fs::statvfs(system.directory.path()).unwrap();
            let now = status.f_bavail * status.f_frsize;
            assert!(free.abs_diff(now) < 1 << 30, "{case}: {free}, not {now}");
        }
    }
}

#[test]
fn free_space_of_another_file_system_is_not_read() {
    for (number, kind) in [("202:0", "ext4"), ("0:9", "btrfs")] {
        let mut system = System::new();
        if kind == "btrfs" && number_here(&system).starts_with("0:") {
            continue;
        }
        fs::create_dir_all(system.at("mnt")).unwrap();
        system.vbd("xvda", 51712, "202:0");
        system.mount(&[
            ["1", "0", "0:2", "/", "/", "ext4", "x"],
            ["2", "1", number, "/", "/mnt", kind, "/dev/xvda"],
        ]);
        let volume = &system.read()[0];
        assert_eq!(
            (volume.mount_point.as_deref(), volume.free),
            (Some("/mnt"), None),
            "{kind}"
        );
    }
}

#[test]
fn mounted_volumes_come_first_if_there_are_too_many() {
    let mut system = System::new();
    system.vbd("xvda", 51712, "202:0");
    for partition in 1..=30 {
        system.partition(
            "xvda",
            &format!("xvda{partition}"),
            &format!("202:{partition}"),
        );
    }
    system.mount(&[
        ["1", "0", "202:30", "/", "/", "xfs", "x"],
        ["2", "1", "202:29", "/", "/a", "xfs", "x"],
    ]);
    let names: Vec<_> = system
        .read()
        .into_iter()
        .map(|volume| volume.name)
        .collect();
    assert_eq!(names.len(), MAX_VOLUMES);
    assert_eq!(names[..3], ["/dev/xvda29", "/dev/xvda30", "/dev/xvda1"]);
}

#[test]
fn unreadable_system_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let error = read(&Root::new(directory.path())).unwrap_err();
    assert!(error.to_string().contains("/sys/block"), "{error}");
    let system = System::new();
    let error = read(&Root::new(system.directory.path())).unwrap_err();
    assert!(error.to_string().contains("/proc/1/mountinfo"), "{error}");
}

#[test]
fn volumes_of_this_machine_are_read() {
    read(&Root::default()).unwrap();
}

proptest! {
    #[test]
    fn read_never_panics_on_mountinfo(lines in "([0-9/a: \\\\\\-]{0,20}\n){0,10}", point in "/[ -~]{0,6}") {
        let mut system = System::new();
        system.vbd("xvda", 51712, "202:0");
        system.mounts = lines;
        system.mount(&[["2", "1", "202:0", "/", &point, "ext4", "x"], ROOT]);
        system.read();
    }
}
