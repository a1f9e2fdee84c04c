//! What the agent costs the host: requests over an hour, of a guest that rests and of one that does not.

use std::fs;
use std::path::Path;
use std::time::Duration;

use xen_guest_agent::agent::News;
use xen_guest_agent::collect::network::{self, VifNumbers};
use xen_guest_agent::collect::root::Root;
use xen_guest_agent::collect::{Collectors, PERIOD};
use xen_guest_agent::guest::Device;
use xen_guest_agent::schema::Name;
use xen_guest_agent::schema::reach::Filter;
use xenstore::embedded::Toolstack;
use xenstore::wire::Kind;

use crate::world::{DOMAIN, World, address, addresses, guest, interface};

const HOUR: Duration = Duration::from_secs(3600);
const TOTAL: u64 = 1_000_000;

/// The agent with collectors that look at files.
struct Machine {
    world: World,
    collectors: Collectors,
    root: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/sys/kernel")).unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/os-release"), "ID=debian\nVERSION_ID=12\nPRETTY_NAME=\"Debian 12\"\n").unwrap();
        set_host_name(root.path(), "web1");
        set_memory(root.path(), TOTAL / 2);
        let mut world = World::unconnected(Toolstack::Xapi, guest());
        let network = network::Settings { mode: network::Mode::Off, ..network::Settings::default() };
        let (files, guest) = (Root::new(root.path()), &mut world.agent.guest);
        let mut collectors = Collectors::open(files, VifNumbers::Index, network, PERIOD, guest, world.now).unwrap();
        collectors.spread(DOMAIN, world.now);
        world.connect();
        Machine { world, collectors, root }
    }

    /// Lets time pass; returns how often the agent woke up for a look.
    fn pass(&mut self, time: Duration) -> usize {
        let (end, mut looks) = (self.world.now + time, 0);
        loop {
            let next = self.collectors.deadline();
            if next > end {
                self.world.pass(end.saturating_sub(self.world.now));
                return looks;
            }
            self.world.pass(next.saturating_sub(self.world.now));
            let look = self.collectors.look(&mut self.world.agent.guest, self.world.now);
            if look.has_news {
                self.world.agent.on_news(News::All);
            }
            if look.is_full {
                self.world.agent.compare();
            }
            self.world.settle();
            looks += 1;
        }
    }
}

fn set_memory(root: &Path, available: u64) {
    fs::write(root.join("proc/meminfo"), format!("MemTotal: {TOTAL} kB\nMemAvailable: {available} kB\n")).unwrap();
}

fn set_host_name(root: &Path, name: &str) {
    fs::write(root.join("proc/sys/kernel/hostname"), format!("{name}\n")).unwrap();
}

#[test]
fn an_idle_hour_is_six_comparisons() {
    let mut machine = Machine::new();
    machine.pass(HOUR);
    assert_eq!(machine.world.server.store().watches(DOMAIN), 6, "eight at most");
    let (writes, all) = (machine.world.requests(Kind::WRITE), machine.world.all_requests());
    assert_eq!(machine.pass(HOUR), 60);
    assert_eq!(machine.world.requests(Kind::WRITE) - writes, 6 * 2, "memory, every ten minutes");
    let all = machine.world.all_requests() - all;
    println!("{all} requests in an idle hour");
    assert!(all <= 6 * 20, "{all} requests in an idle hour");
    // The first comparison after something was published is of all.
    machine.world.set_address(9);
    machine.world.settle();
    let before = machine.world.all_requests();
    machine.pass(PERIOD * 10);
    let first = machine.world.all_requests() - before;
    println!("{first} requests to compare all");
    assert!(first <= 60, "{first} requests");
}

#[test]
fn after_a_long_sleep_all_is_compared_and_nothing_made_up_for_many_times() {
    let mut machine = Machine::new();
    machine.pass(HOUR);
    let requests = machine.world.all_requests();
    machine.pass(PERIOD * 10);
    let one_comparison = machine.world.all_requests() - requests;
    // A month, of which the agent knows when it wakes up.
    machine.world.now += Duration::from_secs(30 * 86400);
    machine.world.write("data/host_name_dns", "theirs");
    let requests = machine.world.all_requests();
    machine.pass(Duration::from_secs(1));
    assert_eq!(machine.world.read("data/host_name_dns").as_deref(), Some("web1"));
    // The name, the date before and after it, and the node that says so.
    let requests = machine.world.all_requests() - requests;
    assert!(requests <= one_comparison + 4, "{requests} requests, and {one_comparison} for a comparison");
    assert_eq!(machine.pass(HOUR), 60);
    machine.world.agent.guest.interfaces.get_mut(&2).unwrap().addresses.push(address("10.0.0.3"));
    machine.world.agent.on_news(News::Network);
    machine.world.pass(Duration::ZERO);
    assert_eq!(machine.world.read("attr/vif/0/ipv4/2").as_deref(), Some("10.0.0.3"));
}

#[test]
fn memory_is_written_once_a_minute_when_it_moves_by_a_hundredth() {
    let mut machine = Machine::new();
    machine.pass(HOUR);
    for (step, expected) in [(TOTAL / 100, 60 + 6), (TOTAL / 100 - 1, 30 + 9)] {
        let writes = machine.world.requests(Kind::WRITE);
        let mut available = TOTAL / 4;
        for _ in 0..60 {
            available += step;
            set_memory(machine.root.path(), available);
            machine.pass(PERIOD);
        }
        let writes = machine.world.requests(Kind::WRITE) - writes;
        assert!(writes <= expected, "{writes} writes for steps of {step}");
        assert_eq!(machine.world.read("data/meminfo_free"), Some((available).to_string()));
    }
}

#[test]
fn an_address_that_flaps_for_an_hour_is_five_writes_a_second() {
    let mut world = World::new(Toolstack::Xapi);
    world.pass(Duration::from_secs(60));
    let before = world.all_requests();
    let pause = Duration::from_millis(20);
    for number in 0..180_000_u32 {
        world.set_address(u8::try_from(number % 2).unwrap());
        if world.agent.deadline().is_some_and(|deadline| deadline <= world.now + pause) {
            world.pass(pause);
        } else {
            world.now += pause;
        }
    }
    let requests = world.all_requests() - before;
    assert!((15_000..=20 + 5 * 3600 + 1).contains(&requests), "{requests} requests");
    world.set_address(77);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.read("attr/vif/0/ipv4/0").as_deref(), Some("10.0.1.77"));
}

#[test]
fn a_host_name_that_flaps_is_held_back_too() {
    let mut machine = Machine::new();
    machine.pass(Duration::from_secs(60));
    let writes = machine.world.requests(Kind::WRITE);
    for number in 0..3600 {
        // An odd number of names, since every second look would see the same otherwise.
        for part in 0..3 {
            set_host_name(machine.root.path(), &format!("web{}", (number + part) % 7));
            if machine.collectors.on_host_name(&mut machine.world.agent.guest) {
                machine.world.agent.on_news(News::All);
            }
            machine.world.settle();
        }
        machine.pass(Duration::from_millis(100));
    }
    let writes = machine.world.requests(Kind::WRITE) - writes;
    // No date, the name, the date, and the node that says so.
    assert!(writes <= 4 * (20 + 5 * 360 + 1) + 2 * 7 && writes > 4 * 1000, "{writes} writes");
    machine.pass(Duration::from_secs(1));
    let name = fs::read_to_string(machine.root.path().join("proc/sys/kernel/hostname")).unwrap();
    assert_eq!(machine.world.read("data/host_name_dns").as_deref(), Some(name.trim()));
}

/// An agent on a device, whose requests are done one by one, and the nodes of the domain without it.
fn world_of_a_device() -> (World, usize) {
    let mut world = World::unconnected(Toolstack::Xapi, guest());
    world.is_device = true;
    let nodes = world.server.store().owned_nodes(DOMAIN);
    world.connect();
    (world, nodes)
}

/// Has all published, and returns how many nodes the domain had at most.
fn most_nodes(world: &mut World) -> usize {
    let mut most = 0;
    for _ in 0..20_000 {
        world.agent.advance(world.now, std::time::SystemTime::UNIX_EPOCH + world.now);
        world.server.process();
        most = most.max(world.server.store().owned_nodes(DOMAIN));
        world.agent.on_readable(world.now);
        if world.agent.is_published() {
            return most;
        }
    }
    panic!("it takes too long");
}

#[test]
fn the_budget_is_kept_while_addresses_move_to_another_vif() {
    let (mut world, others) = world_of_a_device();
    world.agent.guest.interfaces.insert(3, interface(Device::Vif(1), &[]));
    world.set_addresses(addresses(300));
    world.pass(Duration::from_secs(5));
    let all = std::mem::take(&mut world.agent.guest.interfaces.get_mut(&2).unwrap().addresses);
    world.agent.guest.interfaces.get_mut(&3).unwrap().addresses = all;
    world.agent.on_news(News::Network);
    let most = most_nodes(&mut world);
    assert!((others + 600..=others + 700).contains(&most), "{most} nodes, {others} of them others'");
    assert_eq!(world.read("attr/vif/1/ipv4/299").as_deref(), Some("10.1.1.50"));
}

#[test]
fn the_budget_is_kept_while_the_schema_changes() {
    let (mut world, others) = world_of_a_device();
    world.agent.set_node_budget(60);
    world.set_addresses(addresses(12));
    world.pass(Duration::from_secs(5));
    assert_eq!(world.agent.left_out().count(), 0);
    world.agent.set_schema(Name::Rfc, Filter::default());
    let most = most_nodes(&mut world);
    assert!((others + 40..=others + 60).contains(&most), "{most} nodes, {others} of them others'");
}
