//! Sources that cannot be read for a while.

use std::fs;
use std::path::Path;
use std::time::Duration;

use xen_guest_agent::collect::{Collectors, Config, network};
use xen_guest_agent::guest::Guest;
use xen_guest_agent::platform::{Platform as _, System};
use xen_guest_agent::root::Root;

use crate::log;

const MINUTE: Duration = Duration::from_secs(60);

fn write(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn source_that_was_never_readable_is_logged_as_not_published() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config {
        network: network::Config {
            mode: network::Mode::Off,
            ..network::Config::default()
        },
        ..Config::default()
    };
    let mut guest = Guest::default();
    let platform = System::new(Root::new(directory.path()));
    log::take();

    Collectors::open(platform, &config, None, &mut guest, Duration::ZERO).unwrap();
    let lines = log::take();
    for source in ["memory figures", "host name"] {
        let end = format!("; not publishing {source}");
        let is_its = |line: &&String| line.starts_with("WARN: ") && line.ends_with(&end);
        assert_eq!(lines.iter().filter(is_its).count(), 1, "{lines:?}");
    }
}

#[test]
fn unreadable_source_is_logged_once_and_its_recovery_once() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let readable = [
        ("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 500 kB\n"),
        ("proc/sys/kernel/hostname", "web1\n"),
        ("etc/os-release", "ID=debian\n"),
        ("proc/1/mountinfo", ""),
    ];
    for (file, text) in readable {
        write(root, file, text);
    }
    fs::create_dir_all(root.join("sys/block")).unwrap();

    let config = Config {
        network: network::Config {
            mode: network::Mode::Off,
            ..network::Config::default()
        },
        volumes: true,
        ..Config::default()
    };
    let mut guest = Guest::default();
    let platform = System::new(Root::new(root));
    let mut collectors =
        Collectors::open(platform, &config, None, &mut guest, Duration::ZERO).unwrap();
    let known = guest.clone();
    let mut minutes = 0;
    let mut pass = |guest: &mut Guest, count: u32| {
        for _ in 0..count {
            minutes += 1;
            collectors.poll(guest, MINUTE * minutes);
        }
    };
    log::take();

    for _ in 0..2 {
        write(root, "proc/meminfo", "MemTotal: 0 kB\n");
        for file in ["proc/sys/kernel/hostname", "proc/1/mountinfo"] {
            fs::remove_file(root.join(file)).unwrap();
        }
        pass(&mut guest, 25);
        let lines = log::take();
        assert_eq!(lines.len(), 3, "{lines:?}");
        for source in ["volumes", "memory figures", "host name"] {
            let end = format!("; keeping the last known {source}");
            let is_its = |line: &&String| line.starts_with("WARN: ") && line.ends_with(&end);
            assert_eq!(lines.iter().filter(is_its).count(), 1, "{lines:?}");
        }
        assert_eq!(
            (guest.memory, &guest.host_name),
            (known.memory, &known.host_name)
        );

        for (file, text) in readable {
            write(root, file, text);
        }
        pass(&mut guest, 25);
        let mut lines = log::take();
        lines.sort();
        let recovered = ["host name", "memory figures", "volumes"];
        assert_eq!(
            lines,
            recovered.map(|source| format!("INFO: {source}: can be read again"))
        );
    }
}
