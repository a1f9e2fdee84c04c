//! Cost of the agent for the host: requests of an idle and of a busy guest.

use std::fs;
use std::path::Path;
use std::time::Duration;

use xen_guest_agent::collect::network;
use xen_guest_agent::collect::{Collectors, Config, DEFAULT_PERIOD, Source};
use xen_guest_agent::guest::Device;
use xen_guest_agent::platform::{Platform, System};
use xen_guest_agent::root::Root;
use xen_guest_agent::schema::Name;
use xen_guest_agent::schema::topology::Filter;
use xenstore::embedded::Toolstack;
use xenstore::wire::MessageKind;

use crate::harness::{DOMAIN, Harness, address, addresses, guest, interface};

const HOUR: Duration = Duration::from_secs(3600);
const TOTAL: u64 = 1_000_000;

/// An agent with collectors that read files.
struct Machine {
    harness: Harness,
    collectors: Collectors,
    root: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/sys/kernel")).unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(
            root.path().join("etc/os-release"),
            "ID=debian\nVERSION_ID=12\nPRETTY_NAME=\"Debian 12\"\n",
        )
        .unwrap();
        set_host_name(root.path(), "web1");
        set_memory(root.path(), TOTAL / 2);
        let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
        let network = network::Config {
            mode: network::Mode::Off,
            ..network::Config::default()
        };
        let config = Config {
            network,
            ..Config::default()
        };
        let mut collectors = None;
        let platform = System::new(Root::new(root.path()));
        harness.agent.update(|guest| {
            let opened = Collectors::open(platform, &config, None, guest, harness.now);
            collectors = Some(opened.unwrap());
            true
        });
        let mut collectors = collectors.unwrap();
        collectors.stagger(DOMAIN, harness.now);
        harness.connect();
        Machine {
            harness,
            collectors,
            root,
        }
    }

    /// Lets time pass, and returns how often the agent woke up to poll.
    fn pass(&mut self, time: Duration) -> usize {
        let (end, mut polls) = (self.harness.now + time, 0);
        loop {
            let next = self.collectors.deadline();
            if next > end {
                self.harness.pass(end.saturating_sub(self.harness.now));
                return polls;
            }
            self.harness.pass(next.saturating_sub(self.harness.now));
            let (now, mut is_full) = (self.harness.now, false);
            self.harness.agent.update(|guest| {
                let poll = self.collectors.poll(guest, now);
                is_full = poll.is_full;
                poll.changed
            });
            if is_full {
                self.harness.agent.compare();
            }
            self.harness.settle();
            polls += 1;
        }
    }
}

fn set_memory(root: &Path, available: u64) {
    fs::write(
        root.join("proc/meminfo"),
        format!("MemTotal: {TOTAL} kB\nMemAvailable: {available} kB\n"),
    )
    .unwrap();
}

fn set_host_name(root: &Path, name: &str) {
    fs::write(root.join("proc/sys/kernel/hostname"), format!("{name}\n")).unwrap();
}

#[test]
fn idle_hour_costs_six_comparisons() {
    let mut machine = Machine::new();
    machine.pass(HOUR);
    assert_eq!(
        machine.harness.server.store().watch_count(DOMAIN),
        6,
        "number of watches"
    );
    let (writes, all) = (
        machine.harness.requests(MessageKind::WRITE),
        machine.harness.all_requests(),
    );
    assert_eq!(machine.pass(HOUR), 60);
    assert_eq!(
        machine.harness.requests(MessageKind::WRITE) - writes,
        6 * 2,
        "memory, every ten minutes"
    );
    let all = machine.harness.all_requests() - all;
    println!("{all} requests in an idle hour");
    assert!(all <= 6 * 20, "{all} requests in an idle hour");

    // The first comparison after a publication covers all nodes.
    machine.harness.set_address(9);
    machine.harness.settle();
    let before = machine.harness.all_requests();
    machine.pass(DEFAULT_PERIOD * 10);
    let first = machine.harness.all_requests() - before;
    println!("{first} requests to compare all");
    assert!(first <= 60, "{first} requests");
}

#[test]
fn long_suspend_causes_one_comparison() {
    let mut machine = Machine::new();
    machine.pass(HOUR);
    let requests = machine.harness.all_requests();
    machine.pass(DEFAULT_PERIOD * 10);
    let one_comparison = machine.harness.all_requests() - requests;

    // The agent learns about this month only when it wakes up.
    machine.harness.now += Duration::from_secs(30 * 86400);
    machine.harness.write("data/host_name_dns", "theirs");
    let requests = machine.harness.all_requests();
    machine.pass(Duration::from_secs(1));
    assert_eq!(
        machine.harness.read("data/host_name_dns").as_deref(),
        Some("web1")
    );

    // The name, the date before and after it, and the announcement.
    let requests = machine.harness.all_requests() - requests;
    assert!(
        requests <= one_comparison + 4,
        "{requests} requests, and {one_comparison} for a comparison"
    );
    assert_eq!(machine.pass(HOUR), 60);
    machine.harness.agent.update(|guest| {
        guest
            .interfaces
            .get_mut(&2)
            .unwrap()
            .addresses
            .push(address("10.0.0.3"));
        true
    });
    machine.harness.pass(Duration::ZERO);
    assert_eq!(
        machine.harness.read("attr/vif/0/ipv4/2").as_deref(),
        Some("10.0.0.3")
    );
}

#[test]
fn memory_is_written_at_most_once_a_minute_if_changed_by_1_percent() {
    let mut machine = Machine::new();
    machine.pass(HOUR);
    for (step, expected) in [(TOTAL / 100, 60 + 6), (TOTAL / 100 - 1, 30 + 9)] {
        let writes = machine.harness.requests(MessageKind::WRITE);
        let mut available = TOTAL / 4;
        for _ in 0..60 {
            available += step;
            set_memory(machine.root.path(), available);
            machine.pass(DEFAULT_PERIOD);
        }
        let writes = machine.harness.requests(MessageKind::WRITE) - writes;
        assert!(writes <= expected, "{writes} writes for steps of {step}");
        assert_eq!(
            machine.harness.read("data/meminfo_free"),
            Some((available).to_string())
        );
    }
}

#[test]
fn flapping_address_is_limited_to_5_writes_per_second() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.pass(Duration::from_secs(60));
    let before = harness.all_requests();
    let pause = Duration::from_millis(20);
    for number in 0..180_000_u32 {
        // Three addresses, so that each publication finds another one than the last.
        harness.set_address(u8::try_from(number % 3).unwrap());
        if harness
            .agent
            .deadline()
            .is_some_and(|deadline| deadline <= harness.now + pause)
        {
            harness.pass(pause);
        } else {
            harness.now += pause;
        }
    }
    let requests = harness.all_requests() - before;
    assert!(
        (15_000..=20 + 5 * 3600 + 1).contains(&requests),
        "{requests} requests"
    );
    harness.set_address(77);
    harness.pass(Duration::from_secs(1));
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.77")
    );
}

#[test]
fn flapping_host_name_is_rate_limited() {
    let mut machine = Machine::new();
    machine.pass(Duration::from_secs(60));
    let writes = machine.harness.requests(MessageKind::WRITE);
    for number in 0..3600 {
        // With an even number of names, every second poll would see the same one.
        for part in 0..3 {
            set_host_name(machine.root.path(), &format!("web{}", (number + part) % 7));
            let collectors = &mut machine.collectors;
            machine
                .harness
                .agent
                .update(|guest| collectors.on_ready(Source::HostName, guest));
            machine.harness.settle();
        }
        machine.pass(Duration::from_millis(100));
    }
    let writes = machine.harness.requests(MessageKind::WRITE) - writes;

    // An empty date, the name, the date, and the announcement.
    assert!(
        writes <= 4 * (20 + 5 * 360 + 1) + 2 * 7 && writes > 4 * 1000,
        "{writes} writes"
    );
    machine.pass(Duration::from_secs(1));
    let name = fs::read_to_string(machine.root.path().join("proc/sys/kernel/hostname")).unwrap();
    assert_eq!(
        machine.harness.read("data/host_name_dns").as_deref(),
        Some(name.trim())
    );
}

/// An agent on a device, whose requests are sent one by one, and the number of nodes of the domain
/// without it.
fn device_testbed() -> (Harness, usize) {
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
    harness.is_device = true;
    let nodes = harness.server.store().node_count(DOMAIN);
    harness.connect();
    (harness, nodes)
}

/// Publishes everything, and returns the highest number of nodes of the domain on the way.
fn most_nodes(harness: &mut Harness) -> usize {
    let mut most = 0;
    for _ in 0..20_000 {
        harness
            .agent
            .advance(harness.now, std::time::SystemTime::UNIX_EPOCH + harness.now);
        harness.server.process();
        most = most.max(harness.server.store().node_count(DOMAIN));
        harness.agent.on_readable(harness.now);
        if harness.agent.is_published() {
            return most;
        }
    }
    panic!("publication did not complete");
}

#[test]
fn node_budget_holds_while_addresses_move_to_another_vif() {
    let (mut harness, others) = device_testbed();
    harness.agent.update(|guest| {
        guest.interfaces.insert(3, interface(Device::Vif(1), &[]));
        true
    });
    harness.set_addresses(addresses(300));
    harness.pass(Duration::from_secs(5));
    let all = harness.agent.guest().interfaces[&2].addresses.clone();
    harness.agent.update(|guest| {
        guest.interfaces.get_mut(&2).unwrap().addresses.clear();
        true
    });
    harness.agent.update(|guest| {
        guest.interfaces.get_mut(&3).unwrap().addresses = all;
        true
    });
    let most = most_nodes(&mut harness);
    assert!(
        (others + 600..=others + 700).contains(&most),
        "{most} nodes, {others} of them foreign"
    );
    assert_eq!(
        harness.read("attr/vif/1/ipv4/299").as_deref(),
        Some("10.1.1.50")
    );
}

#[test]
fn node_budget_holds_while_the_schema_changes() {
    let (mut harness, others) = device_testbed();
    harness.agent.set_node_budget(60);
    harness.set_addresses(addresses(12));
    harness.pass(Duration::from_secs(5));
    assert_eq!(harness.unpublished().count(), 0);
    harness.agent.set_schema(Name::Rfc, Filter::default());
    let most = most_nodes(&mut harness);
    assert!(
        (others + 40..=others + 60).contains(&most),
        "{most} nodes, {others} of them foreign"
    );
}

/// Number of links, for the process that runs under valgrind, and of changes.
const LINKS: &str = "TEST_LINKS";
const CHANGES: &str = "TEST_CHANGES";

/// Changes the address of a VIF with many macvlans, each of which has an address.
#[test]
#[ignore = "needs valgrind, and is run by cost_of_a_change_is_linear_in_the_number_of_links"]
fn change_with_many_links() {
    let number = |name| std::env::var(name).map_or(1, |value| value.parse().unwrap());
    let mut links = guest();
    for (index, ip) in (3..).zip(addresses(number(LINKS))) {
        let mut link = interface(Device::Virtual, &[]);
        (link.parent, link.addresses) = (Some(2), vec![ip]);
        links.interfaces.insert(index, link);
    }
    let mut harness = Harness::unconnected(Toolstack::Xapi, links);
    harness.connect();
    let begin = std::time::Instant::now();
    let changes = u8::try_from(number(CHANGES)).unwrap();
    for last in 10..10 + changes {
        harness.set_address(last);
        harness.pass(Duration::from_secs(1));
    }
    println!("{:?}", begin.elapsed() / u32::from(changes));
}

/// Returns the number of instructions of [`change_with_many_links`].
fn instructions(links: u32, changes: u32) -> u64 {
    let output = std::process::Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "cost::change_with_many_links",
            "--include-ignored",
        ])
        .args(["--test-threads", "1"])
        .env(LINKS, links.to_string())
        .env(CHANGES, changes.to_string())
        .output()
        .unwrap_or_else(|error| panic!("valgrind: {error}: install valgrind"));
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, count) = count.unwrap_or_else(|| panic!("no count: {text}"));
    count.trim().parse().unwrap()
}

#[test]
#[ignore = "needs valgrind"]
fn cost_of_a_change_is_linear_in_the_number_of_links() {
    let per_change = |links| (instructions(links, 3) - instructions(links, 1)) / 2;
    let (few, many) = (per_change(1000), per_change(4000));
    println!("{few} instructions per change with 1000 links, {many} with 4000");
    assert!(
        many * 10 <= few * 45,
        "{few} with 1000 links, {many} with 4000"
    );
}
