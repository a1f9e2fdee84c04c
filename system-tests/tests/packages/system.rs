//! A booted Debian system in which packages are installed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use system_tests::{
    Booted, Collector, Daemon, Debian, TIMEOUT, Testbed, Toolstack, eventually,
    is_published_with_link_local, tree,
};
use xenstore::wire::MessageKind;
use xenstore::{Client, Transport};

/// Shell script that prints the files of the system with their type, mode, owner and content,
/// except those of the kernel and of the test, and the records of apt, dpkg, systemd and the
/// journal.
const LIST_FILES: &str = r#"
    list() {
        find / /run -xdev \( -path /root -o -path /srv -o -path /var/lib/apt -o -path /var/lib/dpkg \
            -o -path /var/cache/apt -o -path /var/log -o -path /run/log -o -path /run/systemd \
            -o -path /run/host -o -path /run/agetty.reload -o -path /var/cache/debconf \
            -o -path /run/xenstored \) -prune -o "$@"
    }
    list -printf '%p %y %m %u:%g %l\n'
    list -type f -print0 | xargs --null sha256sum
"#;

pub(crate) struct System {
    pub(crate) booted: Booted,
    pub(crate) testbed: Testbed,
}

impl System {
    /// Boots a system with a VIF, whose address is 192.0.2.2.
    pub(crate) fn new(debian: Debian) -> Self {
        System::with_packages(debian, &[])
    }

    /// Boots a system that has further packages of Debian.
    pub(crate) fn with_packages(debian: Debian, packages: &[&str]) -> Self {
        let testbed = Testbed::new(Daemon::C, Toolstack::Xapi, Collector::Netlink, &["eth0"]);
        testbed.network.ip("address add 192.0.2.2/24 dev eth0");
        System {
            booted: Booted::with_packages(debian, packages, &testbed),
            testbed,
        }
    }

    /// Installs packages as an administrator does, and returns the output of apt-get.
    #[track_caller]
    pub(crate) fn install(&self, packages: &[&Path]) -> String {
        let mut paths = String::new();
        for (number, package) in packages.iter().enumerate() {
            let file = format!("root/{number}.deb");
            fs::copy(package, self.booted.path(&file)).unwrap();
            paths.extend([" /", &file]);
        }
        self.booted
            .run(&format!("apt-get install --yes{paths} 2>&1"))
    }

    /// Whether dpkg considers the package installed.
    pub(crate) fn has_package(&self, package: &str) -> bool {
        let query = format!("dpkg-query --show --showformat='${{db:Status-Status}}' {package}");
        self.booted.try_run(&query).stdout == b"installed"
    }

    /// Returns a property of the agent's unit.
    #[track_caller]
    pub(crate) fn unit_property(&self, property: &str) -> String {
        let show = format!("systemctl show --value --property={property} xen-guest-agent.service");
        self.booted.run(&show).trim().to_owned()
    }

    /// Requires that the service runs, starts at boot, and has published everything. Returns the
    /// nodes.
    #[track_caller]
    pub(crate) fn require_service(&mut self) -> BTreeMap<String, String> {
        assert_eq!(
            self.unit_property("ActiveState"),
            "active",
            "{}",
            self.log()
        );
        assert_eq!(self.unit_property("UnitFileState"), "enabled");
        assert_eq!(self.unit_property("NRestarts"), "0", "{}", self.log());
        self.testbed.await_nodes(is_published_with_link_local);
        self.testbed.await_network()
    }

    /// Returns the journal of the agent.
    pub(crate) fn log(&self) -> String {
        self.booted
            .run("journalctl --unit=xen-guest-agent.service --output=cat")
    }

    /// Returns the time from the start of the agent until the tree is complete, while `act` starts
    /// the service.
    #[track_caller]
    pub(crate) fn time_to_publish(&mut self, act: impl FnOnce(&mut Self)) -> Duration {
        let mut client =
            Client::new(Transport::open_socket_at(self.testbed.store.socket()).unwrap());
        let home = self.testbed.guest.home();
        let failed = AtomicBool::new(false);
        let complete = thread::scope(|scope| {
            let observer = scope.spawn(|| {
                let is_complete = || {
                    is_published_with_link_local(&tree(&mut client, &home))
                        || failed.load(Ordering::Relaxed)
                };
                eventually(is_complete, TIMEOUT);
                uptime()
            });
            act(self);
            observer.join().unwrap()
        });
        let started: u64 = self
            .unit_property("ExecMainStartTimestampMonotonic")
            .parse()
            .unwrap();
        complete.saturating_sub(Duration::from_micros(started))
    }

    /// Returns the requests of the guest so far that changed its tree.
    pub(crate) fn changes(&self) -> u64 {
        let requests = self.testbed.guest.requests();
        [
            MessageKind::WRITE,
            MessageKind::RM,
            MessageKind::MKDIR,
            MessageKind::SET_PERMS,
        ]
        .map(|kind| requests.of(kind))
        .iter()
        .sum()
    }

    /// Returns all files of the system, one line for each.
    pub(crate) fn files(&self) -> BTreeSet<String> {
        self.booted
            .run(LIST_FILES)
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Requires that the lines of [`files`](Self::files) are those of `before`, except lines for
    /// which `is_exempt` returns `true`.
    #[track_caller]
    pub(crate) fn require_files(
        &self,
        before: &BTreeSet<String>,
        is_exempt: impl Fn(&str) -> bool,
    ) {
        let after = self.files();
        let changed: BTreeSet<_> = before
            .symmetric_difference(&after)
            .filter(|line| !is_exempt(line))
            .collect();
        assert!(changed.is_empty(), "{changed:#?}");
    }

    /// Requires that a shell script fails, and that its output contains `reason`.
    #[track_caller]
    pub(crate) fn require_refusal(&self, script: &str, reason: &str) {
        // The chosen status differs from those of nsenter and of a shell that cannot start.
        let output = self
            .booted
            .try_run(&format!("({script}) 2>&1 && exit; exit 9"));
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(9), "{script}:\n{text}");
        assert!(text.contains(reason), "{script}: no \"{reason}\":\n{text}");
    }
}

/// Time since this machine has started, which is the origin of systemd's monotonic times.
fn uptime() -> Duration {
    let text = fs::read_to_string("/proc/uptime").unwrap();
    let seconds = text.split(' ').next().unwrap();
    Duration::from_secs_f64(seconds.parse().unwrap())
}
