//! The agent for an hour in a guest that is never at rest. `SOAK_SECONDS` makes it longer or shorter, `SOAK_SEED` another.
//!
//! Addresses come and go, links go down and up, memory moves, the system changes, dom0 removes nodes, the domain is resumed,
//! connections break, xenstored stands still, and the agent is told to read its settings from time to time. Throughout, what
//! is published is soon the truth, and memory and descriptors stay as they are.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "all of this is test code")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use system_tests::{Agent, Bed, Collector, Daemon, Profile, Toolstack};

/// Others' changes are put right at once as long as there is no quarrel: ten of them, and then one in two minutes.
const AT_ONCE: u32 = 9;
const QUARREL: Duration = Duration::from_secs(125);

/// Kinds of deeds.
const KINDS: u64 = 19;

/// What memory may come to more than at first, in KiB.
const GROWTH: u64 = 48;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// What stays as it is all the time.
fn lasting(mut nodes: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let fleeting = ["data/meminfo_free", "data/os_name", "data/updated", "unique-domain-id"];
    nodes.retain(|path, _| !path.starts_with("attr/vif/") && !fleeting.contains(&path.as_str()));
    nodes
}

/// Private memory in KiB, and open descriptors.
fn figures(agent: &Agent) -> (u64, usize) {
    let rollup = agent.proc("smaps_rollup");
    // Not Private_Dirty, which has the pages of a binary, too, as long as they are not on disk.
    let own = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")?.strip_suffix("kB")?.trim().parse().ok());
    (own.unwrap(), fs::read_dir(Path::new("/proc").join(agent.id().to_string()).join("fd")).unwrap().count())
}

/// Numbers that a seed stands for (xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
#[ignore = "needs root and xenstored, takes an hour"]
fn memory_and_descriptors_stay_as_they_are_and_the_tree_is_right() {
    let length = Duration::from_secs(number("SOAK_SECONDS", 3600));
    let seed = number("SOAK_SEED", 1);
    println!("SOAK_SEED={seed}");
    let mut dice = Dice(seed | 1 << 40);
    let mut bed = Bed::new(Daemon::C, Toolstack::Xapi, Collector::Netlink, &["lan", "wan"]);
    let mut command = bed.command(Profile::Release);
    command.args(["--memory-period", "5"]);
    // What glibc keeps for itself of freed memory grows for an hour, to some 100 KiB.
    command.env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");
    let mut agent = Agent::spawn(command, &bed.root.join("log"));
    let before = lasting(bed.await_truth());
    let server = Pid::from_raw(i32::try_from(bed.store.pid()).unwrap()).unwrap();
    let (start, mut others, mut deeds, mut checks, mut losses) = (Instant::now(), 0, 0, 0, 0);
    let mut available = 512 * 1024;
    let mut system = "Debian GNU/Linux 12 (bookworm)".to_owned();
    let mut first = None;
    let mut most = (0, 0);
    while start.elapsed() < length {
        let link = ["lan", "wan"][usize::try_from(dice.below(2)).unwrap()];
        let address = format!("10.{}.0.{}/24", dice.below(3), dice.below(8) + 1);
        // At first each of them, so that what is allocated once is.
        match if deeds < 2 * KINDS { deeds % KINDS } else { dice.below(KINDS) } {
            0..=4 => drop(bed.network.ip(&format!("addr replace {address} dev {link}"))),
            5..=7 => drop(bed.network.ip(&format!("addr flush dev {link} to {address}"))),
            8 => drop(bed.network.ip(&format!("addr replace 2001:db8::{}/64 dev {link} nodad", dice.below(20)))),
            9 => {
                bed.network.ip(&format!("link set {link} down"));
                bed.network.ip(&format!("link set {link} up"));
            }
            10 => {
                available = dice.below(1024 * 1024);
                bed.root.set_memory(1024 * 1024, available);
            }
            11 => {
                kill_process(server, Signal::STOP).unwrap();
                bed.network.ip(&format!("addr replace {address} dev {link}"));
                sleep(Duration::from_millis(dice.below(400)));
                kill_process(server, Signal::CONT).unwrap();
            }
            12 => bed.guest.resume(),
            // An address in a hundred ways, and then as it was.
            13 => {
                let batch: String = (1..=50)
                    .flat_map(|last| ["add", "del"].map(|verb| format!("addr {verb} 10.9.0.{last}/32 dev {link}\n")))
                    .collect();
                bed.root.write("batch", &batch);
                bed.network.ip(&format!("-batch {}", bed.root.join("batch").display()));
            }
            14 => {
                bed.guest.hang_up();
                losses += 1;
            }
            15 => {
                system = format!("System {}", dice.below(5));
                bed.root.set_os_release(&format!("ID=debian\nPRETTY_NAME=\"{system}\"\nVERSION_ID=12\n"));
            }
            16 => agent.signal(Signal::HUP),
            _ if others < AT_ONCE || start.elapsed() > QUARREL * (others - AT_ONCE + 1) => {
                others += 1;
                let home = bed.guest.home();
                let nodes = ["attr/vif/0", "attr/vif/1/name", "attr/PVAddons/MajorVersion", "attr/vif"];
                let node = nodes[usize::try_from(dice.below(4)).unwrap()];
                // It may not be there: an interface that is down has no address.
                bed.dom0.remove(format!("{home}/{node}")).ok();
            }
            _ => {}
        }
        deeds += 1;
        sleep(Duration::from_millis(dice.below(500)));
        if dice.below(4) == 0 {
            let nodes = bed.await_truth();
            bed.await_nodes(|nodes| lasting(nodes.clone()) == before);
            checks += 1;
            // These are looked at every five seconds.
            if checks % 10 == 0 {
                bed.await_nodes(|nodes| {
                    let free = nodes.get("data/meminfo_free").and_then(|free| free.parse().ok());
                    let is_right = free.is_some_and(|free: u64| free.abs_diff(available) < 1024 * 1024 / 100);
                    is_right && nodes.get("data/os_name") == Some(&system)
                });
            }
            assert!(nodes.len() < 700, "{} nodes", nodes.len());
            assert!(agent.is_running(), "{}", agent.log());
        }
        let now = figures(&agent);
        most = (most.0.max(now.0), most.1.max(now.1));
        // What is allocated once has been by then.
        if first.is_none() && start.elapsed() > length / 3 {
            first = Some(most);
        }
    }
    bed.await_truth();
    bed.await_nodes(|nodes| lasting(nodes.clone()) == before);
    let requests = bed.guest.requests().total();
    let (first, last) = (first.expect("a third of the time passed"), figures(&agent));
    println!(
        "{deeds} deeds in {} s, {losses} of them a broken connection; {checks} checks, {requests} requests; private memory {} KiB \
         at most in the first third, {} in all, {} in the end; descriptors {}, {}, {}",
        start.elapsed().as_secs(),
        first.0,
        most.0,
        last.0,
        first.1,
        most.1,
        last.1
    );
    assert!(most.0 <= first.0 + GROWTH && most.1 <= first.1, "it grows");
    let log = agent.stop();
    let expected = ["was resumed", "trying again until it works", "connected to Xenstore", "settings were read"];
    let is_expected = |line: &&str| expected.iter().any(|text| line.contains(text));
    let unexpected: Vec<_> = log.lines().filter(|line| !is_expected(line)).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
}
