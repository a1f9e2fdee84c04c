//! Collectors: they fill a [`Guest`] from a platform, and decide what counts as a change and when
//! to poll.

pub mod distribution;
mod memory;
pub mod network;
pub mod os_release;
mod schedule;
pub mod services;
mod source_state;
mod volumes;

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{error, warn};
use rustix::event::PollFlags;
use xenstore::DomId;

use crate::guest::Guest;
use crate::platform::{Platform, System, clock, uname};
use crate::root::Root;
use crate::runtime_dir;
use crate::text::to_ascii;
use network::Network;
pub use schedule::DEFAULT_PERIOD;
use schedule::PollSchedule;
use source_state::SourceState;

/// Device, inode, size and time of change (seconds, nanoseconds). A replaced or rewritten file has
/// another fingerprint.
type Fingerprint = (u64, u64, u64, i64, i64);

/// Selection of facts to collect, and periods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Period of polls of memory, and of everything else that is not reported.
    pub memory_period: Duration,
    /// Source of the network's interfaces.
    pub network: network::Config,
    /// Whether every interface but loopback counts as a VIF of its own index. This helps to try the
    /// agent without Xen.
    pub all_interfaces: bool,
    /// Whether to collect volumes.
    pub volumes: bool,
    /// Directory of the administrator's services.
    pub services: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            memory_period: DEFAULT_PERIOD,
            network: network::Config::default(),
            all_interfaces: false,
            volumes: false,
            services: PathBuf::from(services::DIRECTORY),
        }
    }
}

/// A source that reports changes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Links and addresses.
    Network,
    /// The host name.
    HostName,
    /// The directory of services.
    Services,
}

/// Result of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// Whether the guest changed.
    pub changed: bool,
    /// Whether everything was polled. Then the store should be compared, too.
    pub is_full: bool,
}

/// The file with the distribution's name, which an upgrade replaces.
#[derive(Debug)]
struct ReleaseFile {
    /// Path below the root.
    name: &'static str,
    /// Path without links, for the agent.
    path: PathBuf,
    /// Fingerprint when the file was read.
    fingerprint: Option<Fingerprint>,
}

impl ReleaseFile {
    fn new(root: &Root, name: &'static str) -> Self {
        let path = root.path(name).unwrap_or_default();
        let fingerprint = fingerprint(&path);
        ReleaseFile {
            name,
            path,
            fingerprint,
        }
    }
}

/// Whether each source could be read at the last attempt.
#[derive(Debug)]
struct SourceStates {
    memory: SourceState,
    distribution: SourceState,
    host_name: SourceState,
    volumes: SourceState,
}

/// Collectors of one system and their open files.
#[derive(Debug)]
pub struct Collectors {
    platform: System,
    network: Network,
    release_file: Option<ReleaseFile>,
    states: SourceStates,
    has_volumes: bool,
    services: services::Directory,
    schedule: PollSchedule,
}

impl Collectors {
    /// Opens the sources and fills the guest. A source that cannot be read is logged and skipped.
    /// `runtime_dir` keeps the names of published services across restarts.
    ///
    /// # Errors
    /// The system's, if the network's source cannot be opened.
    pub fn open(
        platform: System,
        config: &Config,
        runtime_dir: Option<&Path>,
        guest: &mut Guest,
        now: Duration,
    ) -> io::Result<Self> {
        let network = Network::open(&platform, config.network, config.all_interfaces)?;
        let state =
            runtime_dir.map(|directory| runtime_dir::state_file(directory, runtime_dir::SERVICES));
        let directory = config.services.to_string_lossy();
        let services = services::Directory::open(&platform, &directory, state);
        let mut collectors = Collectors {
            platform,
            network,
            release_file: None,
            states: SourceStates {
                memory: SourceState::new("memory figures"),
                distribution: SourceState::new("distribution"),
                host_name: SourceState::new("host name"),
                volumes: SourceState::new("volumes"),
            },
            has_volumes: config.volumes,
            services,
            schedule: PollSchedule::new(config.memory_period, now),
        };

        guest.kernel = to_ascii(&uname::release());
        collectors.poll_all(guest);
        if guest.distribution.is_none() && !collectors.states.distribution.has_failed() {
            warn!("cannot determine the distribution: no os-release or release file found");
        }
        collectors.poll_volumes(guest, true);
        collectors.services.read(&mut guest.services);
        let Collectors {
            network, platform, ..
        } = &mut collectors;
        network.poll(platform, &mut guest.interfaces, now);
        Ok(collectors)
    }

    /// Applies another configuration. If the network's source cannot be opened, the old one stays.
    /// Volumes and services need a restart.
    pub fn reconfigure(&mut self, config: &Config, guest: &mut Guest, now: Duration) {
        let Config {
            memory_period,
            network,
            all_interfaces,
            volumes: _,
            services: _,
        } = config;
        self.schedule = PollSchedule::new(*memory_period, now);

        if self.network.is_configured_as(*network, *all_interfaces) {
            return;
        }
        match Network::open(&self.platform, *network, *all_interfaces) {
            Ok(opened) => self.network = opened,
            Err(error) => return error!("{error}; keeping the previous source of the network"),
        }
        // The new source reports all interfaces. Until then their nodes in the store stay.
        guest.interfaces.clear();
        self.network
            .poll(&self.platform, &mut guest.interfaces, now);
    }

    /// Moves polls to a time within the period that depends on the domain ID, so that the guests of
    /// a host do not all poll at once.
    pub fn stagger(&mut self, domain_id: DomId, now: Duration) {
        let first = self.schedule.stagger(domain_id, now);
        self.network.align(first);
    }

    /// Returns the time of the next [`poll`](Self::poll).
    pub fn deadline(&self) -> Duration {
        let next = self.schedule.next();
        [self.network.deadline(), self.services.deadline()]
            .into_iter()
            .flatten()
            .fold(next, Duration::min)
    }

    /// Polls everything that is due.
    pub fn poll(&mut self, guest: &mut Guest, now: Duration) -> Poll {
        self.services.resume(now);
        let network = self
            .network
            .poll(&self.platform, &mut guest.interfaces, now);
        let Some(is_full) = self.schedule.take_due(now) else {
            return Poll {
                changed: network,
                is_full: false,
            };
        };

        self.network.resync(is_full);
        let system = if is_full {
            self.poll_all(guest)
        } else {
            let memory = self.poll_memory(guest, false);
            self.poll_distribution(guest) | memory
        };
        let volumes = self.poll_volumes(guest, is_full);
        let services = self.services.poll(&mut guest.services, is_full);
        Poll {
            changed: network | system | volumes | services,
            is_full,
        }
    }

    /// Polls everything about the system itself, with newly opened files.
    fn poll_all(&mut self, guest: &mut Guest) -> bool {
        self.platform.reopen_files();
        self.release_file = None;
        let has_balloon = self.platform.has_balloon_driver();
        let balloon = std::mem::replace(&mut guest.balloon, has_balloon) != has_balloon;
        let memory = self.poll_memory(guest, true);
        let distribution = self.poll_distribution(guest);
        self.poll_host_name(guest) | memory | distribution | balloon
    }

    fn poll_memory(&mut self, guest: &mut Guest, is_full: bool) -> bool {
        let Some(memory) = self.states.memory.check(self.platform.memory()) else {
            return false;
        };
        let changed = guest
            .memory
            .is_none_or(|old| is_full || memory::has_changed(old, memory));
        if changed {
            guest.memory = Some(memory);
        }
        changed
    }

    fn poll_distribution(&mut self, guest: &mut Guest) -> bool {
        // Only a full poll resolves the path again, so that other polls need one system call.
        let root = self.platform.root();
        let mut file = match self.release_file.take() {
            Some(mut known) => {
                let now = fingerprint(&known.path);
                if now == known.fingerprint {
                    self.release_file = Some(known);
                    return false;
                }
                known.fingerprint = now;
                known
            }
            None => ReleaseFile::new(root, distribution::MAIN_FILE),
        };

        let result = distribution::read(root);
        let Some(found) = self.states.distribution.check(result) else {
            return false;
        };
        let (found, name) = found.map_or((None, distribution::MAIN_FILE), |(found, name)| {
            (Some(found), name)
        });
        if name != file.name {
            file = ReleaseFile::new(root, name);
        }
        self.release_file = Some(file);

        let found =
            found.or_else(|| distribution::from_kernel(&uname::system(), &uname::release()));
        let changed = guest.distribution != found;
        guest.distribution = found;
        changed
    }

    fn poll_host_name(&mut self, guest: &mut Guest) -> bool {
        let Some(name) = self.states.host_name.check(self.platform.host_name()) else {
            return false;
        };
        let name = name
            .map(|name| to_ascii(&name))
            .filter(|name| !name.is_empty());
        let changed = guest.host_name != name;
        guest.host_name = name;
        changed
    }

    fn poll_volumes(&mut self, guest: &mut Guest, is_full: bool) -> bool {
        if !self.has_volumes {
            return false;
        }
        let found = self.states.volumes.check(self.platform.volumes());
        found.is_some_and(|found| volumes::update(&mut guest.volumes, found, is_full))
    }

    /// Forgets withdrawn services, because their nodes have been removed.
    pub fn on_published(&mut self, guest: &mut Guest) {
        self.services.forget_withdrawn(&mut guest.services);
    }

    /// Returns all sources with their descriptors and the events to poll for.
    pub fn sources(&self) -> impl Iterator<Item = (Source, BorrowedFd<'_>, PollFlags)> {
        let network = self
            .network
            .fd()
            .map(|fd| (Source::Network, fd, PollFlags::IN));
        let host_name = self
            .platform
            .host_name_event()
            .map(|(fd, events)| (Source::HostName, fd, events));
        let services = self
            .services
            .watch()
            .map(|fd| (Source::Services, fd, PollFlags::IN));
        [network, host_name, services].into_iter().flatten()
    }

    /// Collects from a source that reported a change. Returns whether the guest changed.
    pub fn on_ready(&mut self, source: Source, guest: &mut Guest) -> bool {
        match source {
            Source::Network => self.network.on_readable(&mut guest.interfaces),
            Source::HostName => self.poll_host_name(guest),
            Source::Services => self.services.on_changed(&mut guest.services, clock::now()),
        }
    }

    /// Whether the interfaces have been complete once.
    pub fn is_synced(&self) -> bool {
        self.network.is_synced()
    }

    /// Returns the name of the network's source.
    pub fn network_source(&self) -> &'static str {
        self.network.source_name()
    }
}

fn fingerprint(path: &Path) -> Option<Fingerprint> {
    let status = fs::metadata(path).ok()?;
    Some((
        status.dev(),
        status.ino(),
        status.size(),
        status.ctime(),
        status.ctime_nsec(),
    ))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, write};

    use super::schedule::FULL_PERIOD;
    use super::*;
    use crate::guest::Memory;

    /// Configuration without network, which a test cannot control.
    fn config() -> Config {
        Config {
            network: network::Config {
                mode: network::Mode::Off,
                ..network::Config::default()
            },
            services: PathBuf::from("/etc/new/d"),
            ..Config::default()
        }
    }

    /// Makes a small system and its collectors.
    fn collectors(directory: &Path, guest: &mut Guest) -> Collectors {
        fs::create_dir_all(directory.join("proc/sys/kernel")).unwrap();
        fs::create_dir_all(directory.join("etc")).unwrap();
        write(directory.join("proc/sys/kernel/hostname"), "(none)\n").unwrap();
        write(directory.join("etc/os-release"), "ID=one\n").unwrap();
        set_memory(directory, 10_000, 5_000);
        open(directory, &config(), guest)
    }

    fn open(directory: &Path, config: &Config, guest: &mut Guest) -> Collectors {
        let platform = System::new(Root::new(directory));
        Collectors::open(platform, config, None, guest, Duration::ZERO).unwrap()
    }

    fn set_memory(directory: &Path, total: u64, available: u64) {
        write(
            directory.join("proc/meminfo"),
            format!("MemTotal: {total} kB\nMemAvailable: {available} kB\n"),
        )
        .unwrap();
    }

    #[test]
    fn memory_changes_by_one_percent_or_at_a_full_poll() {
        let (directory, mut guest) = (tempfile::tempdir().unwrap(), Guest::default());
        let mut collectors = collectors(directory.path(), &mut guest);
        let mut poll = |total, available| {
            set_memory(directory.path(), total, available);
            let now = collectors.deadline();
            collectors.poll(&mut guest, now)
        };
        let (unchanged, changed) = (
            Poll {
                changed: false,
                is_full: false,
            },
            Poll {
                changed: true,
                is_full: false,
            },
        );
        assert_eq!(poll(10_000, 5_099), unchanged);
        assert_eq!(poll(10_000, 4_901), unchanged);
        assert_eq!(poll(10_000, 4_900), changed);
        assert_eq!(poll(10_001, 4_900), changed);
        for _ in 5..10 {
            assert_eq!(poll(10_001, 4_901), unchanged);
        }
        assert_eq!(
            poll(10_001, 4_901),
            Poll {
                changed: true,
                is_full: true
            }
        );
        assert_eq!(
            guest.memory,
            Some(Memory {
                total: 10_001,
                available: 4_901
            })
        );
    }

    #[test]
    fn another_period_does_not_move_full_polls() {
        let (directory, mut guest) = (tempfile::tempdir().unwrap(), Guest::default());
        let mut collectors = collectors(directory.path(), &mut guest);
        let now = Duration::from_secs(5);
        // Each case has a period and the seconds at which polls are due. Each multiple of 600 is a
        // full poll.
        let cases: [(u64, &[u64]); 4] = [
            (200, &[200, 400, 600, 800, 1000, 1200, 1400]),
            (60, &[60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 660]),
            (1000, &[600, 1000, 1200, 1800, 2000]),
            (86_400, &[600, 1200, 1800]),
        ];
        for (period, polls) in cases {
            let config = Config {
                memory_period: Duration::from_secs(period),
                ..config()
            };
            collectors.reconfigure(&config, &mut guest, now);
            for seconds in polls {
                let moment = now + Duration::from_secs(*seconds);
                assert_eq!(collectors.deadline(), moment, "every {period} s");
                assert_eq!(
                    collectors.poll(&mut guest, moment).is_full,
                    seconds % 600 == 0,
                    "{seconds} s"
                );
            }
        }
    }

    #[test]
    fn after_a_long_sleep_there_is_one_full_poll_and_polls_keep_their_offset() {
        let (directory, mut guest) = (tempfile::tempdir().unwrap(), Guest::default());
        for period in [DEFAULT_PERIOD, DEFAULT_PERIOD * 60] {
            let mut collectors = collectors(directory.path(), &mut guest);
            let config = Config {
                memory_period: period,
                ..config()
            };
            collectors.reconfigure(&config, &mut guest, Duration::ZERO);
            collectors.stagger(DomId::new(7), Duration::ZERO);
            let first = collectors.deadline();
            let now = first + Duration::from_secs(8 * 3600 + 1234);
            assert!(collectors.poll(&mut guest, now).is_full);
            let mut polls = Vec::new();
            while collectors.deadline() < now + FULL_PERIOD {
                let next = collectors.deadline();
                assert!(next > now);
                let since = next.checked_sub(first).unwrap();
                assert_eq!(
                    since.as_nanos() % collectors.schedule.shorter_period().as_nanos(),
                    0,
                    "another offset in the period"
                );
                polls.push(collectors.poll(&mut guest, next).is_full);
            }
            let full = polls.iter().filter(|is_full| **is_full).count();
            assert_eq!(
                (polls.len(), full),
                (if period == DEFAULT_PERIOD { 10 } else { 1 }, 1),
                "{polls:?}"
            );
        }
    }

    #[test]
    fn distribution_upgrade_is_found_by_the_next_poll() {
        let (directory, mut guest) = (tempfile::tempdir().unwrap(), Guest::default());
        let mut collectors = collectors(directory.path(), &mut guest);
        write(directory.path().join("etc/new"), "ID=two\n").unwrap();
        fs::rename(
            directory.path().join("etc/new"),
            directory.path().join("etc/os-release"),
        )
        .unwrap();
        let poll = collectors.poll(&mut guest, DEFAULT_PERIOD);
        assert!(poll.changed);
        assert_eq!(
            guest
                .distribution
                .map(|distribution| distribution.id)
                .as_deref(),
            Some("two")
        );
    }

    #[test]
    fn release_file_behind_a_link_or_in_usr_lib_is_found_changed_by_the_next_poll() {
        for link in [
            Some("/usr/lib/os-release"),
            Some("../usr/lib/os-release"),
            None,
        ] {
            let (directory, mut guest) = (tempfile::tempdir().unwrap(), Guest::default());
            let at = |path: &str| directory.path().join(path);
            drop(collectors(directory.path(), &mut guest));
            fs::remove_file(at("etc/os-release")).unwrap();
            fs::create_dir_all(at("usr/lib")).unwrap();
            if let Some(target) = link {
                std::os::unix::fs::symlink(target, at("etc/os-release")).unwrap();
            }
            write(at("usr/lib/os-release"), "ID=two\n").unwrap();
            let mut collectors = open(directory.path(), &config(), &mut guest);
            for (minute, id) in (1..).zip(["three", "eleven"]) {
                write(at("usr/lib/os-release"), format!("ID={id}\n")).unwrap();
                assert!(
                    collectors.poll(&mut guest, DEFAULT_PERIOD * minute).changed,
                    "{link:?}"
                );
                assert_eq!(guest.distribution.as_ref().unwrap().id, id, "{link:?}");
            }
        }
    }

    #[test]
    fn source_that_cannot_be_read_keeps_its_facts_and_fails_alone() {
        let (directory, mut guest) = (tempfile::tempdir().unwrap(), Guest::default());
        let at = |path: &str| directory.path().join(path);
        let mut collectors = collectors(directory.path(), &mut guest);
        write(at("proc/sys/kernel/hostname"), "here\n").unwrap();
        assert!(collectors.poll(&mut guest, FULL_PERIOD).changed);
        let before = guest.clone();
        fs::remove_file(at("proc/sys/kernel/hostname")).unwrap();
        write(at("proc/meminfo"), "MemTotal: 0 kB\nMemAvailable: 0 kB\n").unwrap();
        for round in 2..5 {
            collectors.poll(&mut guest, FULL_PERIOD * round);
            assert_eq!(guest.memory, before.memory);
            assert_eq!(guest.host_name, before.host_name);
            let SourceStates {
                memory,
                host_name,
                distribution,
                ..
            } = &collectors.states;
            assert!(memory.has_failed() && host_name.has_failed());
            assert!(!distribution.has_failed());
        }
        write(at("proc/sys/kernel/hostname"), "there\n").unwrap();
        set_memory(directory.path(), 10_000, 1);
        assert!(collectors.poll(&mut guest, FULL_PERIOD * 5).changed);
        assert_eq!(guest.host_name.as_deref(), Some("there"));
        assert!(
            !collectors.states.memory.has_failed() && !collectors.states.host_name.has_failed()
        );
    }

    #[test]
    fn volumes_are_polled_if_enabled_and_services_without_a_watch() {
        let (directory, mut guest) = (tempfile::tempdir().unwrap(), Guest::default());
        let at = |path: &str| directory.path().join(path);
        let mut collectors = collectors(directory.path(), &mut guest);
        fs::create_dir_all(at("sys/block/xvda/device")).unwrap();
        fs::create_dir(at("proc/1")).unwrap();
        write(at("proc/1/mountinfo"), "").unwrap();
        write(at("sys/block/xvda/dev"), "202:0").unwrap();
        write(at("sys/block/xvda/size"), "2").unwrap();
        assert!(!collectors.poll(&mut guest, DEFAULT_PERIOD).changed);
        collectors = open(
            directory.path(),
            &Config {
                volumes: true,
                ..config()
            },
            &mut guest,
        );
        let size = |guest: &Guest| guest.volumes.iter().map(|volume| volume.size).sum::<u64>();
        assert_eq!(size(&guest), 1024);
        write(at("sys/block/xvda/size"), "4").unwrap();
        assert!(collectors.poll(&mut guest, DEFAULT_PERIOD * 2).changed);
        assert_eq!(size(&guest), 2048);
        fs::create_dir_all(at("etc/new/d")).unwrap();
        write(at("etc/new/d/web.conf"), "state = up").unwrap();
        assert!(collectors.poll(&mut guest, DEFAULT_PERIOD * 3).changed);
        assert_eq!(guest.services.facts.len(), 1);
        assert!(!collectors.poll(&mut guest, DEFAULT_PERIOD * 4).changed);
    }

    #[test]
    fn polls_of_consecutive_domains_are_spread_over_the_period() {
        let (directory, mut guest) = (tempfile::tempdir().unwrap(), Guest::default());
        let mut collectors = collectors(directory.path(), &mut guest);
        let now = Duration::from_secs(1234);
        let mut moments: Vec<_> = (1..=60)
            .map(|domain| {
                collectors.stagger(DomId::new(domain), now);
                let next = collectors.deadline();
                assert!(next > now && next <= now + DEFAULT_PERIOD);
                collectors.poll(&mut guest, next);
                assert_eq!(collectors.deadline(), next + DEFAULT_PERIOD);
                next.as_millis() % 60_000
            })
            .collect();
        moments.sort_unstable();
        let widest = moments
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap();
        assert!(
            widest < 3_000,
            "60 domains leave {widest} ms of the minute free"
        );
    }
}
