//! Name and version of the distribution, in the form that readers of Xenstore expect.
//!
//! Readers compare names byte by byte with those of xe-guest-utilities. These are the `ID` of
//! os-release, except `oracle`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

use rustix::io::Errno;

use crate::collect::os_release;
use crate::guest::Distribution;
use crate::root::Root;
use crate::text::to_ascii;

/// Maximum size of a release file in bytes. Real files have less than 2 KiB.
const FILE_MAX: usize = 64 * 1024;

/// File that almost every system has.
pub const MAIN_FILE: &str = "/etc/os-release";

/// Candidates in order. FreeBSD generates the file in `/var/run` at boot. `/etc/os-release` is a
/// link to it, which an administrator may have removed.
const OS_RELEASE: [&str; 3] = [MAIN_FILE, "/usr/lib/os-release", "/var/run/os-release"];

/// Files with one line such as `CentOS release 5.11 (Final)`. The file of a derivative precedes the
/// file of its origin.
const RELEASE_LINE: [&str; 10] = [
    "/etc/asianux-release",
    "/etc/turbo-release",
    "/etc/neokylin-release",
    "/etc/oracle-release",
    "/etc/enterprise-release",
    "/etc/centos-release",
    "/etc/redhat-release",
    "/etc/system-release",
    "/etc/gentoo-release",
    "/etc/slackware-version",
];

const SUSE_RELEASE: &str = "/etc/SuSE-release";
const LSB_RELEASE: &str = "/etc/lsb-release";

/// Members of the Red Hat family by `ID` or `ID_LIKE`. Some releases of Oracle Linux 7 have no
/// `ID_LIKE`.
const RED_HAT: [&str; 4] = ["rhel", "fedora", "centos", "ol"];

/// Members of the SUSE family. SLES 12 has no `ID_LIKE`.
const SUSE: [&str; 4] = ["suse", "opensuse", "sles", "sled"];

/// Release files of a system. A file that cannot be read counts as missing. The first error that is
/// not about the file itself, such as EMFILE or EIO, is kept.
struct Files<'a> {
    root: &'a Root,
    error: RefCell<Option<io::Error>>,
}

/// Reads the release files under `root`. Returns the distribution and the file that names it, or
/// `None` if there is none.
///
/// # Errors
/// The system's, unless the error means that a file is missing or unsuitable.
pub fn read(root: &Root) -> io::Result<Option<(Distribution, &'static str)>> {
    let files = Files {
        root,
        error: RefCell::default(),
    };
    let found = find(&files);
    files.error.into_inner().map_or(Ok(found), Err)
}

fn find(files: &Files<'_>) -> Option<(Distribution, &'static str)> {
    let from_os_release = |path| from_os_release(files, &os_release::parse(&files.bytes(path)?));
    let from_release_line = |path| from_release_line(&files.first_line(path)?);

    let os_release = OS_RELEASE.into_iter();
    let mut os_release = os_release.filter_map(|path| Some((from_os_release(path)?, path)));
    let release_line = RELEASE_LINE.into_iter();
    let mut release_line = release_line.filter_map(|path| Some((from_release_line(path)?, path)));

    os_release
        .next()
        .or_else(|| release_line.next())
        .or_else(|| Some((from_suse_release(files)?, SUSE_RELEASE)))
        .or_else(|| Some((from_lsb_release(files)?, LSB_RELEASE)))
        .or_else(|| from_bare_version(files))
}

/// Derives the distribution from the kernel's name and release (`uname -s`, `uname -r`). NetBSD and
/// OpenBSD have no release files, and pfSense does not generate FreeBSD's. Returns `None` for
/// Linux, which does not name the distribution.
pub fn from_kernel(system: &str, release: &str) -> Option<Distribution> {
    // Examples are 14.0-CURRENT of FreeBSD and 10.0_STABLE of NetBSD.
    let version = release.split(['-', '_']).next().and_then(Version::parse);
    (system != "Linux").then(|| Distribution::new(system, &format!("{system} {release}"), version))
}

impl Distribution {
    fn new(id: &str, name: &str, version: Option<Version>) -> Self {
        let (whole, major, minor) = version.map_or((None, None, None), |v| {
            (Some(v.whole), Some(v.major), v.minor)
        });
        Distribution {
            id: to_ascii(id).to_ascii_lowercase(),
            name: to_ascii(name),
            version: whole.map(|text| to_ascii(&text)),
            major,
            minor,
        }
    }
}

/// A version that begins with a number.
struct Version {
    whole: String,
    major: String,
    minor: Option<String>,
}

impl Version {
    /// Returns `None` if the text does not begin with a number. Arch's containers have
    /// `VERSION_ID=TEMPLATE_VERSION_ID`.
    fn parse(text: &str) -> Option<Self> {
        let text = to_ascii(text);
        // Talos has v1.7.0, Kylin has V10.
        let whole = text.strip_prefix(['v', 'V']).unwrap_or(&text);
        let (major, rest) = number(whole)?;
        let minor = rest
            .strip_prefix('.')
            .and_then(number)
            .map(|(minor, _)| minor.to_owned());
        Some(Version {
            whole: whole.to_owned(),
            major: major.to_owned(),
            minor,
        })
    }

    /// Adds `minor` if the version has no minor number.
    fn with_minor(mut self, minor: Option<&str>) -> Self {
        if let (None, Some(minor)) = (&self.minor, minor) {
            self.whole = format!("{}.{minor}", self.major);
            self.minor = Some(minor.to_owned());
        }
        self
    }

    /// Adds the minor number 0, which the first releases of Red Hat and SUSE leave out.
    fn or_zero(mut self) -> Self {
        self.minor.get_or_insert_with(|| "0".to_owned());
        self
    }
}

/// Splits the text after its leading digits.
fn number(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at_checked(end)
        .filter(|(digits, _)| !digits.is_empty())
}

fn from_os_release(files: &Files<'_>, fields: &BTreeMap<String, String>) -> Option<Distribution> {
    let get = |key| field(fields, key);
    let (id, name) = (get("ID"), get("NAME"));
    let pretty = get("PRETTY_NAME").or_else(|| match (&name, get("VERSION")) {
        (Some(name), Some(version)) => Some(format!("{name} {version}")),
        _ => name.clone(),
    });

    if id.is_none() && pretty.is_none() {
        // The file is empty, so another one may be better.
        return None;
    }

    // os-release(5) defines this default. Deepin 20 writes its ID with a capital letter.
    let id = id
        .unwrap_or_else(|| "linux".to_owned())
        .to_ascii_lowercase();

    let like = get("ID_LIKE").unwrap_or_default().to_ascii_lowercase();
    let version = get("VERSION_ID")
        .and_then(|text| Version::parse(&text))
        .map(|v| complete(files, v, &id, &like));

    Some(Distribution::new(
        if id == "ol" { "oracle" } else { &id },
        pretty.as_deref().unwrap_or(&id),
        version,
    ))
}

/// Adds the minor number that `VERSION_ID` lacks, from the distribution's own file.
fn complete(files: &Files<'_>, version: Version, id: &str, like: &str) -> Version {
    if version.minor.is_some() {
        return version;
    }
    let family = |members: &[&str]| {
        members.contains(&id) || like.split_whitespace().any(|word| members.contains(&word))
    };
    let (red_hat, suse) = (family(&RED_HAT), family(&SUSE));

    // A file that is left from another release does not count.
    let fits = |own: &Version| own.minor.is_some() && own.major == version.major;
    let own = if id == "debian" || id == "raspbian" {
        // Derivatives of Debian also have this file, with Debian's version.
        files
            .first_line("/etc/debian_version")
            .and_then(|line| Version::parse(&line))
            .filter(fits)
    } else if red_hat {
        // CentOS 7 has "7.9.2009", Amazon Linux 2023 has "2023.6.20250107".
        let versions = [
            "/etc/centos-release",
            "/etc/system-release",
            "/etc/redhat-release",
        ]
        .iter();
        versions
            .filter_map(|path| release_version(&files.first_line(path)?))
            .find(fits)
    } else if suse {
        files
            .contents(SUSE_RELEASE)
            .and_then(|text| suse_version(&text))
            .filter(fits)
    } else {
        None
    };

    own.unwrap_or_else(|| {
        if red_hat || suse {
            version.or_zero()
        } else {
            version
        }
    })
}

fn from_release_line(line: &str) -> Option<Distribution> {
    let lower = line.to_ascii_lowercase();
    let id = match lower.split_whitespace().next()? {
        _ if lower.starts_with("red hat enterprise") => "rhel",
        "red" => "redhat",
        // Oracle Linux up to 5.5 has "Enterprise Linux Enterprise Linux Server release 5.5
        // (Carthage)".
        "enterprise" => "oracle",
        "amazon" => "amzn",
        "greatturbo" => "turbo",
        first => first,
    };

    let version = release_version(line);

    // These two do not belong to the Red Hat family.
    let version = if matches!(id, "gentoo" | "slackware") {
        version
    } else {
        version.map(Version::or_zero)
    };

    Some(Distribution::new(id, line, version))
}

/// Finds the version in a line such as "Red Hat Enterprise Linux AS release 4 (Nahant Update 8)".
fn release_version(line: &str) -> Option<Version> {
    let version = line.split_whitespace().find_map(Version::parse)?;
    // Red Hat counts updates, Asianux service packs.
    let update = ["Update", " SP"].iter().find_map(|word| {
        let (_, rest) = line.split_once(word)?;
        number(rest.trim_start())
    });
    Some(version.with_minor(update.map(|(digits, _)| digits)))
}

fn from_suse_release(files: &Files<'_>) -> Option<Distribution> {
    let text = files.contents(SUSE_RELEASE)?;
    let line = first(&text)?;
    let lower = line.to_ascii_lowercase();
    let id = match lower.split_whitespace().next()? {
        // xe-guest-utilities uses this name for the Desktop edition, too.
        _ if lower.starts_with("suse linux enterprise") => "sles",
        first => first,
    };
    let version = suse_version(&text).or_else(|| release_version(&line));
    Some(Distribution::new(id, &line, version.map(Version::or_zero)))
}

/// Parses `/etc/SuSE-release`, which has lines such as `VERSION = 11` and `PATCHLEVEL = 3`.
fn suse_version(text: &str) -> Option<Version> {
    let get = |key: &str| {
        let (_, value) = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .find(|(name, _)| name.trim() == key)?;
        Version::parse(value)
    };
    Some(get("VERSION")?.with_minor(get("PATCHLEVEL").map(|level| level.major).as_deref()))
}

/// Reads `/etc/lsb-release`, which Ubuntu before 12.04 and its derivatives have. Red Hat's file of
/// that name does not name the distribution.
fn from_lsb_release(files: &Files<'_>) -> Option<Distribution> {
    let fields = os_release::parse(&files.bytes(LSB_RELEASE)?);
    let get = |key| field(&fields, key);
    let id = get("DISTRIB_ID")?;
    let release = get("DISTRIB_RELEASE");
    let name = get("DISTRIB_DESCRIPTION").unwrap_or_else(|| match &release {
        Some(release) => format!("{id} {release}"),
        None => id.clone(),
    });
    Some(Distribution::new(
        &id,
        &name,
        release.and_then(|text| Version::parse(&text)),
    ))
}

/// Reads files that hold only a version, or nothing at all (Arch).
fn from_bare_version(files: &Files<'_>) -> Option<(Distribution, &'static str)> {
    let of = |path, id, name| {
        let line = files.first_line(path)?;
        let version = Version::parse(&line);
        Some((
            Distribution::new(id, &format!("{name} {line}"), version),
            path,
        ))
    };
    of("/etc/debian_version", "debian", "Debian GNU/Linux")
        .or_else(|| of("/etc/alpine-release", "alpine", "Alpine Linux"))
        .or_else(|| {
            let path = "/etc/arch-release";
            let arch = |_| (Distribution::new("arch", "Arch Linux", None), path);
            files.bytes(path).map(arch)
        })
}

fn field(fields: &BTreeMap<String, String>, key: &str) -> Option<String> {
    fields
        .get(key)
        .map(|value| to_ascii(value))
        .filter(|value| !value.is_empty())
}

impl Files<'_> {
    fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        match self.root.read(path, FILE_MAX) {
            Ok(bytes) => Some(bytes),
            Err(error) if is_missing_or_unsuitable(&error) => {
                log::debug!("{error}");
                None
            }
            Err(error) => {
                self.error.borrow_mut().get_or_insert(error);
                None
            }
        }
    }

    fn contents(&self, path: &str) -> Option<String> {
        Some(String::from_utf8_lossy(&self.bytes(path)?).into_owned())
    }

    fn first_line(&self, path: &str) -> Option<String> {
        first(&self.contents(path)?)
    }
}

/// Whether the file is missing or unsuitable, so that the next candidate counts.
fn is_missing_or_unsuitable(error: &io::Error) -> bool {
    // The kind FilesystemLoop is unstable, so the kinds are compared.
    let is_loop = error.kind() == io::Error::from(Errno::LOOP).kind();
    is_loop
        || matches!(
            error.kind(),
            ErrorKind::NotFound
                | ErrorKind::NotADirectory
                | ErrorKind::IsADirectory
                | ErrorKind::PermissionDenied
                | ErrorKind::InvalidInput
                | ErrorKind::InvalidData
        )
}

fn first(text: &str) -> Option<String> {
    text.lines()
        .next()
        .map(to_ascii)
        .filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    fn data() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/os")
    }

    /// Makes a root with these files.
    fn root(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        for (path, contents) in files {
            let path = directory.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents).unwrap();
        }
        let root = Root::new(directory.path());
        (directory, root)
    }

    fn shown(found: &Distribution) -> [&str; 5] {
        let [version, major, minor] =
            [&found.version, &found.major, &found.minor].map(|text| text.as_deref().unwrap_or("-"));
        [&found.id, &found.name, version, major, minor]
    }

    #[rustfmt::skip]
    const KNOWN: [(&str, [&str; 5]); 62] = [
        ("almalinux-9", ["almalinux", "AlmaLinux 9.6 (Sage Margay)", "9.6", "9", "6"]),
        ("alpine-2", ["alpine", "Alpine Linux 2.1.6", "2.1.6", "2", "1"]),
        ("alpine-3.19", ["alpine", "Alpine Linux v3.19", "3.19.8", "3", "19"]),
        ("alpine-edge", ["alpine", "Alpine Linux edge", "3.21_alpha20250108", "3", "21"]),
        ("amazon-2", ["amzn", "Amazon Linux 2", "2", "2", "0"]),
        ("amazon-2018.03", ["amzn", "Amazon Linux AMI 2018.03", "2018.03", "2018", "03"]),
        ("amazon-2023", ["amzn", "Amazon Linux 2023.6.20250107", "2023.6.20250107", "2023", "6"]),
        ("arch", ["arch", "Arch Linux", "-", "-", "-"]),
        ("arch-container", ["arch", "Arch Linux", "-", "-", "-"]),
        ("arch-old", ["arch", "Arch Linux", "-", "-", "-"]),
        ("asianux-4", ["asianux", "Asianux Server 4 (Hiranya SP2)", "4.2", "4", "2"]),
        ("centos-5", ["centos", "CentOS release 5.11 (Final)", "5.11", "5", "11"]),
        ("centos-6", ["centos", "CentOS release 6.10 (Final)", "6.10", "6", "10"]),
        ("centos-7", ["centos", "CentOS Linux 7 (Core)", "7.9.2009", "7", "9"]),
        ("centos-stream-9", ["centos", "CentOS Stream 9", "9", "9", "0"]),
        ("debian-12", ["debian", "Debian GNU/Linux 12 (bookworm)", "12.5", "12", "5"]),
        ("debian-6", ["debian", "Debian GNU/Linux 6.0.10", "6.0.10", "6", "0"]),
        ("debian-testing", ["debian", "Debian GNU/Linux bookworm/sid", "-", "-", "-"]),
        ("devuan-5", ["devuan", "Devuan GNU/Linux 5 (daedalus)", "5", "5", "-"]),
        ("dragonfly-6.4", ["dragonfly", "DragonFlyBSD 6.4-SYNTH", "6.4", "6", "4"]),
        ("fedora-41", ["fedora", "Fedora Linux 41 (Forty One)", "41", "41", "0"]),
        ("fedora-core-3", ["fedora", "Fedora Core release 3 (Heidelberg)", "3", "3", "0"]),
        ("flatcar", ["flatcar", "Flatcar Container Linux by Kinvolk 3815.2.0 (Oklo)", "3815.2.0", "3815", "2"]),
        ("freebsd-14", ["freebsd", "FreeBSD 14.1-RELEASE", "14.1", "14", "1"]),
        ("gentoo", ["gentoo", "Gentoo Linux", "2.15", "2", "15"]),
        ("gentoo-old", ["gentoo", "Gentoo Base System release 2.0.3", "2.0.3", "2", "0"]),
        ("kali", ["kali", "Kali GNU/Linux Rolling", "2025.4", "2025", "4"]),
        ("linuxmint-22", ["linuxmint", "Linux Mint 22", "22", "22", "-"]),
        ("neokylin-6", ["neokylin", "NeoKylin Linux Advanced Server release 6.5 (Berryllium)", "6.5", "6", "5"]),
        ("nixos-24.05", ["nixos", "NixOS 24.05 (Uakari)", "24.05", "24", "05"]),
        ("opensuse-11.4", ["opensuse", "openSUSE 11.4 (x86_64)", "11.4", "11", "4"]),
        ("opensuse-leap-15.6", ["opensuse-leap", "openSUSE Leap 15.6", "15.6", "15", "6"]),
        ("opensuse-tumbleweed", ["opensuse-tumbleweed", "openSUSE Tumbleweed", "20240823", "20240823", "0"]),
        ("opnsense", ["freebsd", "FreeBSD 14.2-RELEASE", "14.2", "14", "2"]),
        ("oracle-5", ["oracle", "Enterprise Linux Enterprise Linux Server release 5.5 (Carthage)", "5.5", "5", "5"]),
        ("oracle-6", ["oracle", "Oracle Linux Server release 6.10", "6.10", "6", "10"]),
        ("oracle-8", ["oracle", "Oracle Linux Server 8.9", "8.9", "8", "9"]),
        ("oracle-9", ["oracle", "Oracle Linux Server 9.4", "9.4", "9", "4"]),
        ("raspbian-12", ["raspbian", "Raspbian GNU/Linux 12 (bookworm)", "12.9", "12", "9"]),
        ("rhel-3", ["rhel", "Red Hat Enterprise Linux AS release 3 (Taroon Update 8)", "3.8", "3", "8"]),
        ("rhel-4", ["rhel", "Red Hat Enterprise Linux AS release 4 (Nahant Update 8)", "4.8", "4", "8"]),
        ("rhel-6", ["rhel", "Red Hat Enterprise Linux Server release 6.10 (Santiago)", "6.10", "6", "10"]),
        ("rhel-7.5", ["rhel", "Red Hat Enterprise Linux Server 7.5 (Maipo)", "7.5", "7", "5"]),
        ("rhel-9.4", ["rhel", "Red Hat Enterprise Linux 9.4 (Plow)", "9.4", "9", "4"]),
        ("rocky-8", ["rocky", "Rocky Linux 8", "8", "8", "0"]),
        ("rocky-9", ["rocky", "Rocky Linux 9.3 (Blue Onyx)", "9.3", "9", "3"]),
        ("scientific-6", ["scientific", "Scientific Linux release 6.5 (Carbon)", "6.5", "6", "5"]),
        ("slackware-13.37", ["slackware", "Slackware 13.37.0", "13.37.0", "13", "37"]),
        ("slackware-15.0", ["slackware", "Slackware 15.0 x86_64", "15.0", "15", "0"]),
        ("sles-11", ["sles", "SUSE Linux Enterprise Server 11 (x86_64)", "11.3", "11", "3"]),
        ("sles-12", ["sles", "SUSE Linux Enterprise Server 12", "12.0", "12", "0"]),
        ("sles-12-sp5", ["sles", "SUSE Linux Enterprise Server 12 SP5", "12.5", "12", "5"]),
        ("sles-15", ["sles", "SUSE Linux Enterprise Server 15", "15", "15", "0"]),
        ("sles-15-sp5", ["sles", "SUSE Linux Enterprise Server 15 SP5", "15.5", "15", "5"]),
        ("sles-9", ["sles", "SUSE LINUX Enterprise Server 9 (i586)", "9.3", "9", "3"]),
        ("talos", ["talos", "Talos (v1.7.0)", "1.7.0", "1", "7"]),
        ("truenas-scale", ["debian", "Debian GNU/Linux 12 (bookworm)", "12.2", "12", "2"]),
        ("turbo-12", ["turbo", "GreatTurbo Enterprise Server release 12.2 (Theseus)", "12.2", "12", "2"]),
        ("ubuntu-10.04", ["ubuntu", "Ubuntu 10.04.4 LTS", "10.04", "10", "04"]),
        ("ubuntu-22.04", ["ubuntu", "Ubuntu 22.04.4 LTS", "22.04", "22", "04"]),
        ("ubuntu-24.04", ["ubuntu", "Ubuntu 24.04.1 LTS", "24.04", "24", "04"]),
        ("void", ["void", "Void Linux", "-", "-", "-"]),
    ];

    #[test]
    fn known_distributions_are_recognised() {
        let mut there: Vec<_> = fs::read_dir(data())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort();
        assert_eq!(there, KNOWN.map(|(directory, _)| directory));
        for (directory, expected) in KNOWN {
            let (found, _) = read(&Root::new(data().join(directory)))
                .unwrap()
                .unwrap_or_else(|| panic!("{directory}: nothing"));
            assert_eq!(shown(&found), expected, "{directory}");
        }
    }

    #[test]
    fn unusual_os_release_files_are_read() {
        for (text, expected) in [
            (
                "ID=kylin\nVERSION_ID=\"V10\"\nNAME=Kylin\nVERSION=\"V10 (SP1)\"",
                ["kylin", "Kylin V10 (SP1)", "10", "10", "-"],
            ),
            // Newer releases of TrueNAS have an os-release of their own.
            (
                "ID=\"TrueNAS SCALE\"\nVERSION_ID=\"25.10.1\"\nPRETTY_NAME=\"TrueNAS SCALE/Debian 12 (bookworm)\"",
                [
                    "truenas scale",
                    "TrueNAS SCALE/Debian 12 (bookworm)",
                    "25.10.1",
                    "25",
                    "10",
                ],
            ),
            (
                "ID=Deepin\nVERSION_ID=20.9",
                ["deepin", "deepin", "20.9", "20", "9"],
            ),
            ("NAME=Something", ["linux", "Something", "-", "-", "-"]),
            ("ID=x\nPRETTY_NAME=\"\"\nNAME=X", ["x", "X", "-", "-", "-"]),
            ("ID=ol\nVERSION_ID=\"7\"", ["oracle", "ol", "7", "7", "0"]),
            (
                "ID=nodistro\nVERSION_ID=\"nodistro.0\"",
                ["nodistro", "nodistro", "-", "-", "-"],
            ),
            ("ID=x\nVERSION_ID=5.x", ["x", "x", "5.x", "5", "-"]),
            (
                "ID=x\nNAME=\"\u{e4}\u{f6}\u{1} X\"",
                ["x", "? X", "-", "-", "-"],
            ),
        ] {
            let (_directory, root) = root(&[("/etc/os-release", text.as_bytes())]);
            assert_eq!(shown(&read(&root).unwrap().unwrap().0), expected, "{text}");
        }
    }

    #[test]
    fn kernel_name_is_the_fallback() {
        for (system, release, expected) in [
            (
                "FreeBSD",
                "14.0-CURRENT",
                ["freebsd", "FreeBSD 14.0-CURRENT", "14.0", "14", "0"],
            ),
            ("NetBSD", "9.3", ["netbsd", "NetBSD 9.3", "9.3", "9", "3"]),
            (
                "NetBSD",
                "10.0_STABLE",
                ["netbsd", "NetBSD 10.0_STABLE", "10.0", "10", "0"],
            ),
            (
                "OpenBSD",
                "7.4",
                ["openbsd", "OpenBSD 7.4", "7.4", "7", "4"],
            ),
        ] {
            assert_eq!(
                shown(&from_kernel(system, release).unwrap()),
                expected,
                "{release}"
            );
        }
        assert_eq!(from_kernel("Linux", "6.1.0-18-amd64"), None);
    }

    #[test]
    fn minor_of_another_major_is_ignored() {
        for (release, version, minor) in [
            ("8.4.2105", "8.4.2105", "4"),
            ("8", "8", "0"),
            ("9.1", "8", "0"),
        ] {
            let (_directory, root) = root(&[
                ("/etc/os-release", b"ID=centos\nVERSION_ID=8\n"),
                (
                    "/etc/centos-release",
                    b"CentOS Linux release 7.9.2009 (Core)\n",
                ),
                (
                    "/etc/system-release",
                    format!("CentOS Linux release {release}\n").as_bytes(),
                ),
            ]);
            let found = read(&root).unwrap().unwrap().0;
            assert_eq!(
                (found.version.as_deref(), found.minor.as_deref()),
                (Some(version), Some(minor)),
                "{release}"
            );
        }
    }

    #[test]
    fn unreadable_os_release_falls_back_to_other_files() {
        const GOOD: (&str, &[u8]) = ("/usr/lib/os-release", b"ID=good\n");
        type Make = fn(&Path);
        let bad: [(&str, Make); 8] = [
            ("missing", |_| ()),
            ("directory", |path| fs::create_dir(path).unwrap()),
            ("dangling", |path| symlink("/nowhere", path).unwrap()),
            ("loop", |path| symlink("os-release", path).unwrap()),
            ("absolute", |path| {
                symlink("/usr/lib/os-release", path).unwrap();
            }),
            ("empty", |path| fs::write(path, "").unwrap()),
            ("huge", |path| {
                fs::File::create(path).unwrap().set_len(1 << 30).unwrap();
            }),
            ("fifo", |path| {
                use rustix::fs::{CWD, FileType, Mode};
                rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
            }),
        ];
        for (what, make) in bad {
            let (directory, root) = root(&[GOOD, ("/etc/hostname", b"")]);
            make(&directory.path().join("etc/os-release"));
            assert_eq!(
                read(&root).unwrap().map(|(found, _)| found.id).as_deref(),
                Some("good"),
                "{what}"
            );
            fs::remove_file(directory.path().join("usr/lib/os-release")).unwrap();
            assert_eq!(read(&root).unwrap(), None, "{what}");
        }
    }

    #[test]
    fn empty_files_give_no_distribution() {
        for (path, text) in [
            ("/etc/os-release", "VERSION_ID=1\n"),
            ("/etc/redhat-release", "\n"),
            ("/etc/SuSE-release", "\u{1}\nVERSION = 11\n"),
            ("/etc/lsb-release", "LSB_VERSION=1.4\n"),
            ("/etc/debian_version", ""),
        ] {
            let (_directory, root) = root(&[(path, text.as_bytes())]);
            assert_eq!(read(&root).unwrap(), None, "{path}");
        }
    }

    #[test]
    fn system_errors_do_not_count_as_missing_files() {
        for (errno, is_kept) in [
            (Errno::NOENT, false),
            (Errno::NOTDIR, false),
            (Errno::ISDIR, false),
            (Errno::LOOP, false),
            (Errno::ACCESS, false),
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::IO, true),
            (Errno::NOMEM, true),
            (Errno::STALE, true),
        ] {
            let error = io::Error::from(errno);
            let error = io::Error::new(error.kind(), error.to_string());
            assert_eq!(!is_missing_or_unsuitable(&error), is_kept, "{error}");
        }
    }

    #[test]
    fn absolute_links_are_followed_inside_the_root() {
        let (directory, root) = root(&[
            ("/nix/store/x-etc/etc/os-release", b"ID=nixos\n"),
            ("/etc/hostname", b""),
        ]);
        symlink("/nix/store/x-etc/etc", directory.path().join("etc/static")).unwrap();
        symlink(
            "/etc/static/os-release",
            directory.path().join("etc/os-release"),
        )
        .unwrap();
        assert_eq!(read(&root).unwrap().unwrap().0.id, "nixos");
    }

    const FILES: [&str; 5] = [
        "/etc/os-release",
        "/etc/lsb-release",
        "/etc/redhat-release",
        "/etc/SuSE-release",
        "/etc/debian_version",
    ];

    const STARTS: [&str; 14] = [
        "",
        "ID=",
        "NAME=",
        "PRETTY_NAME=\"",
        "VERSION=",
        "VERSION_ID=",
        "ID_LIKE=",
        "ID=sles\nVERSION_ID=",
        "DISTRIB_ID=",
        "DISTRIB_RELEASE=",
        "VERSION = ",
        "PATCHLEVEL = ",
        "X release ",
        "1 Update ",
    ];

    fn line() -> impl Strategy<Value = Vec<u8>> {
        let rest = prop_oneof![
            any::<Vec<u8>>(),
            "[v0-9.\"]{0,300}".prop_map(String::into_bytes),
            ".*".prop_map(String::into_bytes),
        ];
        (prop::sample::select(&STARTS[..]), rest)
            .prop_map(|(start, rest)| [start.as_bytes(), &rest, b"\n"].concat())
    }

    proptest! {
        #[test]
        fn any_file_gives_printable_text(
            path in prop::sample::select(&FILES[..]),
            text in prop::collection::vec(line(), 0..6).prop_map(|lines| lines.concat()),
        ) {
            let (_directory, root) = root(&[(path, &text), ("/etc/arch-release", b"")]);
            let found = read(&root).unwrap().unwrap().0;
            let versions = [found.version, found.major.clone(), found.minor.clone()];
            for text in [found.id, found.name].into_iter().chain(versions.into_iter().flatten()) {
                prop_assert!((1..=255).contains(&text.len()), "{:?}", text);
                prop_assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{:?}", text);
            }
            for number in [found.major, found.minor].into_iter().flatten() {
                prop_assert!(number.bytes().all(|byte| byte.is_ascii_digit()), "{:?}", number);
            }
        }
    }
}
