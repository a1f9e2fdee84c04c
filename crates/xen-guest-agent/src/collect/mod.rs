//! Collectors: each turns one source of the system into part of a [`Guest`].

pub mod clock;
pub mod distribution;
pub mod host;
pub mod memory;
pub mod network;
pub mod os_release;
pub mod services;
pub mod volumes;

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use log::{error, warn};

use crate::guest::{Guest, Memory};
use crate::root::Root;
use host::HostName;
use memory::Meminfo;
use network::{Network, VifNumbers};

/// How often memory is looked at, and with it what nothing reports by itself, where no setting says otherwise.
pub const PERIOD: Duration = Duration::from_secs(60);

/// So often, all that is known is taken for new.
const FULL_PERIOD: Duration = Duration::from_secs(600);

/// Free memory is news when it moved by this part of the total.
const NEWS: u64 = 100;

/// The file that an upgrade of the distribution replaces.
const OS_RELEASE: &str = "/etc/os-release";

/// Device, inode, size and time of change (seconds, nanoseconds): a file that was replaced or rewritten has others.
type Stamp = (u64, u64, u64, i64, i64);

/// The collectors of one system, with what they keep open.
#[derive(Debug)]
pub struct Collectors {
    root: Root,
    numbers: VifNumbers,
    meminfo: Option<Meminfo>,
    host_name: Option<HostName>,
    network: Network,
    /// The file that tells the distribution, and what tells whether it must be read again.
    os_release: Option<(PathBuf, Option<Stamp>)>,
    /// Whether volumes are looked at.
    has_volumes: bool,
    services: Option<services::Directory>,
    period: Duration,
    next_look: Duration,
    /// The next look at all. Where the period divides the time between them, it is one of the others.
    next_full: Duration,
}

impl Collectors {
    /// Opens the sources, and takes a first look at all of them. What cannot be had is said in the log, and left out.
    ///
    /// # Errors
    /// Where the network cannot be seen.
    pub fn open(
        root: Root,
        numbers: VifNumbers,
        network: network::Settings,
        period: Duration,
        guest: &mut Guest,
        now: Duration,
    ) -> io::Result<Self> {
        let mut collectors = Collectors {
            meminfo: None,
            host_name: None,
            network: Network::open(root.clone(), numbers.clone(), network)?,
            os_release: None,
            has_volumes: false,
            services: None,
            root,
            numbers,
            period,
            next_look: Duration::ZERO,
            next_full: Duration::ZERO,
        };
        collectors.begin(now + collectors.step());
        guest.kernel = host::kernel();
        collectors.look_at_all(guest);
        if guest.distribution.is_none() {
            warn!("no file of this system tells which distribution it is");
        }
        collectors.network.look(&mut guest.interfaces, now);
        Ok(collectors)
    }

    /// Looks at volumes, too, from now on.
    pub fn add_volumes(&mut self, guest: &mut Guest) {
        self.has_volumes = true;
        self.look_at_volumes(guest, true);
    }

    /// Looks at the services of a directory, too, from now on.
    pub fn add_services(&mut self, services: services::Directory, guest: &mut Guest) {
        self.services.insert(services).read(&mut guest.services);
    }

    /// Opens the files anew, too: something else may stand there by now.
    fn look_at_all(&mut self, guest: &mut Guest) -> bool {
        self.meminfo = told(Meminfo::open(&self.root));
        self.host_name = told(HostName::open(&self.root));
        self.os_release = None;
        let balloon = host::has_balloon(&self.root);
        let has_balloon_news = std::mem::replace(&mut guest.balloon, balloon) != balloon;
        let memory = self.look_at_memory(guest, true);
        let distribution = self.look_at_distribution(guest);
        self.on_host_name(guest) | memory | distribution | has_balloon_news
    }

    /// The time between looks of the more frequent kind.
    fn step(&self) -> Duration {
        self.period.min(FULL_PERIOD)
    }

    /// Has looks from this moment on, which is the first. Of a period over ten minutes that is a look at all; the first of the
    /// period's own comes after it.
    fn begin(&mut self, first: Duration) {
        self.next_look = first + self.period.saturating_sub(FULL_PERIOD);
        self.next_full = first + FULL_PERIOD.saturating_sub(self.period);
    }

    /// Moves the looks to a moment of the minute that differs from domain to domain: a thousand guests that write at the
    /// same moment are a burden.
    pub fn spread(&mut self, domain_id: u16, now: Duration) {
        // By the golden ratio, neighbours come far apart however many they are.
        let moment = self.step() * (u32::from(domain_id) * 61_803 % 100_000) / 100_000;
        let first = network::next_after(moment, self.step(), now);
        self.begin(first);
        self.network.align(first);
    }

    /// Looks in another way from now on. A network that cannot be seen that way is looked at as it was.
    pub fn set(
        &mut self,
        network: network::Settings,
        period: Duration,
        guest: &mut Guest,
        now: Duration,
    ) {
        self.period = period;
        self.begin(now + self.step());
        if network == self.network.settings() {
            return;
        }
        match Network::open(self.root.clone(), self.numbers.clone(), network) {
            Ok(opened) => self.network = opened,
            Err(error) => return error!("{error}; the network is looked at as before"),
        }
        if network.mode == network::Mode::Off {
            guest.interfaces.clear();
        }
        self.network.look(&mut guest.interfaces, now);
    }

    /// When [`look`](Self::look) should be called.
    pub fn deadline(&self) -> Duration {
        let next = self.next_look.min(self.next_full);
        self.network
            .deadline()
            .map_or(next, |deadline| deadline.min(next))
    }

    /// Looks at what does not report by itself, as far as it is time to.
    pub fn look(&mut self, guest: &mut Guest, now: Duration) -> Look {
        let has_news = self.network.look(&mut guest.interfaces, now);
        let is_full = self.next_full <= now;
        if self.next_look > now && !is_full {
            return Look { has_news, is_full };
        }
        self.next_look = network::next_after(self.next_look, self.period, now);
        self.next_full = network::next_after(self.next_full, FULL_PERIOD, now);
        self.network.retry(is_full);
        let has_other_news = if is_full {
            self.look_at_all(guest)
        } else {
            let memory = self.look_at_memory(guest, false);
            self.look_at_distribution(guest) | memory
        };
        let volumes = self.look_at_volumes(guest, is_full);
        let services = self
            .services
            .as_mut()
            .is_some_and(|services| services.look(&mut guest.services, is_full));
        let has_news = has_news | has_other_news | volumes | services;
        Look { has_news, is_full }
    }

    fn look_at_memory(&self, guest: &mut Guest, is_full: bool) -> bool {
        let Some(memory) = self
            .meminfo
            .as_ref()
            .and_then(|meminfo| told(meminfo.read()))
        else {
            return false;
        };
        let is_news = is_full || guest.memory.is_none_or(|old| has_moved(old, memory));
        if is_news {
            guest.memory = Some(memory);
        }
        is_news
    }

    fn look_at_distribution(&mut self, guest: &mut Guest) -> bool {
        // Resolved only when all is looked at anew: in between, one system call must do.
        let known = self.os_release.take();
        let path = known.as_ref().map_or_else(
            || self.root.path(OS_RELEASE).unwrap_or_default(),
            |(path, _)| path.clone(),
        );
        let now = (path.clone(), stamp(&path));
        let is_same = known.as_ref() == Some(&now);
        self.os_release = Some(now);
        if is_same {
            return false;
        }
        let distribution = distribution::read(&self.root).or_else(host::distribution);
        let is_news = guest.distribution != distribution;
        guest.distribution = distribution;
        is_news
    }

    fn look_at_volumes(&self, guest: &mut Guest, is_full: bool) -> bool {
        if !self.has_volumes {
            return false;
        }
        let found = volumes::look(&self.root);
        // Not said every minute.
        let found = if is_full { told(found) } else { found.ok() };
        found.is_some_and(|found| volumes::update(&mut guest.volumes, found, is_full))
    }

    /// Takes what changed of services. Whether something changed.
    pub fn on_services(&mut self, guest: &mut Guest) -> bool {
        self.services
            .as_mut()
            .is_some_and(|services| services.read(&mut guest.services))
    }

    /// All is published: what is not any more need not be remembered.
    pub fn on_published(&mut self, guest: &mut Guest) {
        if let Some(services) = &mut self.services {
            services.forget_withdrawn(&mut guest.services);
        }
    }

    /// Reads the host name again. Whether it changed.
    pub fn on_host_name(&mut self, guest: &mut Guest) -> bool {
        let name = self.host_name.as_ref().and_then(HostName::read);
        let is_news = guest.host_name != name;
        if is_news {
            guest.host_name = name;
        }
        is_news
    }

    /// Takes what the network has to tell. Whether something changed.
    pub fn on_network(&mut self, guest: &mut Guest) -> bool {
        self.network.on_readable(&mut guest.interfaces)
    }

    /// Whether the network has told all there is, once. Until then, what is known of it is not whole.
    pub fn is_settled(&self) -> bool {
        self.network.is_settled()
    }

    /// How the network is looked at.
    pub fn network_source(&self) -> &'static str {
        self.network.source()
    }

    /// Readable when the network has something to tell, where it tells by itself.
    pub fn network(&self) -> Option<BorrowedFd<'_>> {
        self.network.fd()
    }

    /// Readable when services may have changed.
    pub fn services(&self) -> Option<BorrowedFd<'_>> {
        self.services.as_ref().and_then(services::Directory::watch)
    }

    /// Has something exceptional (`POLLPRI`) when the host name was set.
    pub fn host_name(&self) -> Option<BorrowedFd<'_>> {
        self.host_name
            .as_ref()
            .map(|host_name| host_name.file().as_fd())
    }
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether something changed that is worth telling.
    pub has_news: bool,
    /// Whether all was looked at, and the store should be too.
    pub is_full: bool,
}

fn has_moved(old: Memory, new: Memory) -> bool {
    old.total != new.total || old.available.abs_diff(new.available) >= new.total / NEWS
}

/// What is there, or none with a line in the log.
fn told<T>(result: io::Result<T>) -> Option<T> {
    result.inspect_err(|error| warn!("{error}")).ok()
}

fn stamp(path: &std::path::Path) -> Option<Stamp> {
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

    use super::*;

    fn collectors(directory: &std::path::Path, guest: &mut Guest) -> Collectors {
        fs::create_dir_all(directory.join("proc/sys/kernel")).unwrap();
        fs::create_dir_all(directory.join("etc")).unwrap();
        write(directory.join("proc/sys/kernel/hostname"), "(none)\n").unwrap();
        write(directory.join("etc/os-release"), "ID=one\n").unwrap();
        set_memory(directory, 10_000, 5_000);
        let network = network::Settings {
            mode: network::Mode::Off,
            ..network::Settings::default()
        };
        Collectors::open(
            Root::new(directory),
            VifNumbers::Index,
            network,
            PERIOD,
            guest,
            Duration::ZERO,
        )
        .unwrap()
    }

    fn set_memory(directory: &std::path::Path, total: u64, available: u64) {
        write(
            directory.join("proc/meminfo"),
            format!("MemTotal: {total} kB\nMemAvailable: {available} kB\n"),
        )
        .unwrap();
    }

    #[test]
    fn memory_is_news_when_it_moved_by_a_hundredth_or_ten_minutes_passed() {
        let (directory, mut guest) = (tempfile::tempdir().unwrap(), Guest::default());
        let mut collectors = collectors(directory.path(), &mut guest);
        let mut look = |total, available| {
            set_memory(directory.path(), total, available);
            let now = collectors.deadline();
            collectors.look(&mut guest, now)
        };
        let (quiet, news) = (
            Look {
                has_news: false,
                is_full: false,
            },
            Look {
                has_news: true,
                is_full: false,
            },
        );
        assert_eq!(look(10_000, 5_099), quiet);
        assert_eq!(look(10_000, 4_901), quiet);
        assert_eq!(look(10_000, 4_900), news);
        assert_eq!(look(10_001, 4_900), news);
        for _ in 5..10 {
            assert_eq!(look(10_001, 4_901), quiet);
        }
        assert_eq!(
            look(10_001, 4_901),
            Look {
                has_news: true,
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
    fn another_period_changes_how_often_memory_is_looked_at_but_not_when_all_is() {
        let (directory, mut guest) = (tempfile::tempdir().unwrap(), Guest::default());
        let mut collectors = collectors(directory.path(), &mut guest);
        let off = collectors.network.settings();
        let now = Duration::from_secs(5);
        // Seconds from now, and which of them is a look at all.
        let cases: [(u64, &[u64]); 4] = [
            (200, &[200, 400, 600, 800, 1000, 1200, 1400]),
            (60, &[60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 660]),
            (1000, &[600, 1000, 1200, 1800, 2000]),
            (86_400, &[600, 1200, 1800]),
        ];
        for (period, looks) in cases {
            collectors.set(off, Duration::from_secs(period), &mut guest, now);
            for seconds in looks {
                let moment = now + Duration::from_secs(*seconds);
                assert_eq!(collectors.deadline(), moment, "every {period} s");
                assert_eq!(
                    collectors.look(&mut guest, moment).is_full,
                    seconds % 600 == 0,
                    "{seconds} s"
                );
            }
        }
    }

    #[test]
    fn after_time_away_all_is_looked_at_once_and_the_rest_as_before() {
        let (directory, mut guest) = (tempfile::tempdir().unwrap(), Guest::default());
        for period in [PERIOD, PERIOD * 60] {
            let mut collectors = collectors(directory.path(), &mut guest);
            let off = collectors.network.settings();
            collectors.set(off, period, &mut guest, Duration::ZERO);
            collectors.spread(7, Duration::ZERO);
            let first = collectors.deadline();
            let now = first + Duration::from_secs(8 * 3600 + 1234);
            assert!(collectors.look(&mut guest, now).is_full);
            let mut looks = Vec::new();
            while collectors.deadline() < now + FULL_PERIOD {
                let next = collectors.deadline();
                assert!(next > now);
                let since = next.checked_sub(first).unwrap();
                assert_eq!(
                    since.as_nanos() % collectors.step().as_nanos(),
                    0,
                    "another moment of the minute"
                );
                looks.push(collectors.look(&mut guest, next).is_full);
            }
            let full = looks.iter().filter(|is_full| **is_full).count();
            assert_eq!(
                (looks.len(), full),
                (if period == PERIOD { 10 } else { 1 }, 1),
                "{looks:?}"
            );
        }
    }

    #[test]
    fn an_upgrade_of_the_distribution_is_seen_within_a_minute() {
        let (directory, mut guest) = (tempfile::tempdir().unwrap(), Guest::default());
        let mut collectors = collectors(directory.path(), &mut guest);
        write(directory.path().join("etc/new"), "ID=two\n").unwrap();
        fs::rename(
            directory.path().join("etc/new"),
            directory.path().join("etc/os-release"),
        )
        .unwrap();
        let look = collectors.look(&mut guest, PERIOD);
        assert!(look.has_news);
        assert_eq!(
            guest
                .distribution
                .map(|distribution| distribution.id)
                .as_deref(),
            Some("two")
        );
    }

    #[test]
    fn volumes_and_services_are_looked_at_where_they_are_wanted() {
        let (directory, mut guest) = (tempfile::tempdir().unwrap(), Guest::default());
        let at = |path: &str| directory.path().join(path);
        let mut collectors = collectors(directory.path(), &mut guest);
        fs::create_dir_all(at("sys/block/xvda/device")).unwrap();
        fs::create_dir(at("proc/1")).unwrap();
        write(at("proc/1/mountinfo"), "").unwrap();
        write(at("sys/block/xvda/dev"), "202:0").unwrap();
        write(at("sys/block/xvda/size"), "2").unwrap();
        assert!(!collectors.look(&mut guest, PERIOD).has_news);
        collectors.add_volumes(&mut guest);
        let size = |guest: &Guest| guest.volumes.iter().map(|volume| volume.size).sum::<u64>();
        assert_eq!(size(&guest), 1024);
        write(at("sys/block/xvda/size"), "4").unwrap();
        assert!(collectors.look(&mut guest, PERIOD * 2).has_news);
        assert_eq!(size(&guest), 2048);
        collectors.add_services(
            services::Directory::open(Root::new(directory.path()), "/etc/new/d", None),
            &mut guest,
        );
        fs::create_dir_all(at("etc/new/d")).unwrap();
        write(at("etc/new/d/web.conf"), "state = up").unwrap();
        assert!(collectors.look(&mut guest, PERIOD * 3).has_news);
        assert_eq!(guest.services.facts.len(), 1);
        assert!(!collectors.look(&mut guest, PERIOD * 4).has_news);
    }

    #[test]
    fn looks_are_a_minute_apart_and_spread_over_it() {
        let (directory, mut guest) = (tempfile::tempdir().unwrap(), Guest::default());
        let mut collectors = collectors(directory.path(), &mut guest);
        let now = Duration::from_secs(1234);
        let mut moments: Vec<_> = (1..=60)
            .map(|domain| {
                collectors.spread(domain, now);
                let next = collectors.deadline();
                assert!(next > now && next <= now + PERIOD);
                collectors.look(&mut guest, next);
                assert_eq!(collectors.deadline(), next + PERIOD);
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
