//! Long-running test in a guest that never rests: one hour, or `SOAK_SECONDS`. `SOAK_SEED` selects
//! another sequence of events.
//!
//! Addresses, links, memory and the distribution change, dom0 removes nodes, the domain is resumed,
//! connections break, xenstored hangs, and the agent rereads its settings. The published nodes must
//! be correct soon after each event, and the agent may leak neither memory nor descriptors.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};
use xenstore::Nodes;

use rustix::process::{Pid, Signal, kill_process};
use system_tests::{Agent, Collector, Daemon, Profile, Testbed, Toolstack};

/// Allowed growth of private memory, in KiB: half of the initial memory in a minute, a fifth in an
/// hour.
const GROWTH: u64 = 96;

/// Total memory of the guest, in KiB.
const MEMORY: u64 = 1024 * 1024;

/// Number of event kinds, including one that does nothing.
const KINDS: u64 = 19;

/// Number of removals that may follow one another at once, and the time between later ones. The
/// agent's limit, 20 repairs at once and then one every two minutes, delays none of these repairs.
const RESTORED_IMMEDIATELY: u32 = 9;
const RESTORE_INTERVAL: Duration = Duration::from_secs(125);

/// Nodes that dom0 removes. Some may be missing, because an interface that is down has no address.
const REMOVED: [&str; 4] = [
    "attr/vif/0",
    "attr/vif/1/name",
    "attr/PVAddons/MajorVersion",
    "attr/vif",
];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// Pseudo-random numbers (xorshift64).
struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

struct Soak {
    testbed: Testbed,
    agent: Agent,
    rng: Rng,
    start: Instant,
    /// Published nodes that no event changes.
    lasting: BTreeMap<String, String>,
    available: u64,
    system: String,
    removals: u32,
    losses: u32,
    checks: u32,
}

impl Soak {
    fn begin(seed: u64) -> Self {
        let mut testbed = Testbed::new(
            Daemon::C,
            Toolstack::Xapi,
            Collector::Netlink,
            &["lan", "wan"],
        );
        let mut command = testbed.command(Profile::Release);
        command.args(["--memory-period", "5"]);

        // The per-thread cache of glibc grows slowly and would hide a leak.
        command.env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");
        let agent = Agent::spawn(command, &testbed.root.join("log"));
        let lasting = lasting(testbed.await_network());
        Soak {
            testbed,
            agent,
            rng: Rng(seed | 1 << 40),
            start: Instant::now(),
            lasting,
            available: MEMORY / 2,
            system: "Debian GNU/Linux 12 (bookworm)".to_owned(),
            removals: 0,
            losses: 0,
            checks: 0,
        }
    }

    fn act(&mut self, kind: u64) {
        let (testbed, rng) = (&mut self.testbed, &mut self.rng);
        let link = rng.one_of(&["lan", "wan"]);
        let address = format!("10.{}.0.{}/24", rng.below(3), rng.below(8) + 1);
        match kind {
            0..=4 => drop(
                testbed
                    .network
                    .ip(&format!("addr replace {address} dev {link}")),
            ),
            5..=7 => drop(
                testbed
                    .network
                    .ip(&format!("addr flush dev {link} to {address}")),
            ),
            8 => drop(testbed.network.ip(&format!(
                "addr replace 2001:db8::{}/64 dev {link} nodad",
                rng.below(20)
            ))),
            9 => {
                testbed.network.ip(&format!("link set {link} down"));
                testbed.network.ip(&format!("link set {link} up"));
            }
            10 => {
                self.available = rng.below(MEMORY);
                testbed.root.set_memory(MEMORY, self.available);
            }
            11 => {
                let server = Pid::from_raw(i32::try_from(testbed.store.pid()).unwrap()).unwrap();
                kill_process(server, Signal::STOP).unwrap();
                testbed
                    .network
                    .ip(&format!("addr replace {address} dev {link}"));
                sleep(Duration::from_millis(rng.below(400)));
                kill_process(server, Signal::CONT).unwrap();
            }
            12 => testbed.guest.resume(),
            // Adds and removes 50 addresses.
            13 => {
                let batch: String = (1..=50)
                    .flat_map(|last| {
                        ["add", "del"]
                            .map(|verb| format!("addr {verb} 10.9.0.{last}/32 dev {link}\n"))
                    })
                    .collect();
                testbed.root.write("batch", &batch);
                testbed
                    .network
                    .ip(&format!("-batch {}", testbed.root.join("batch").display()));
            }
            14 => {
                testbed.guest.hang_up();
                self.losses += 1;
            }
            15 => {
                self.system = format!("System {}", rng.below(5));
                let text = format!(
                    "ID=debian\nPRETTY_NAME=\"{}\"\nVERSION_ID=12\n",
                    self.system
                );
                testbed.root.set_os_release(&text);
            }
            16 => self.agent.signal(Signal::HUP),
            17 if self.removals < RESTORED_IMMEDIATELY
                || self.start.elapsed()
                    > RESTORE_INTERVAL * (self.removals - RESTORED_IMMEDIATELY + 1) =>
            {
                self.removals += 1;
                testbed
                    .dom0
                    .remove(format!("{}/{}", testbed.guest.home(), rng.one_of(&REMOVED)))
                    .ok();
            }
            _ => {}
        }
    }

    /// Waits until all nodes are correct.
    fn check(&mut self) {
        let nodes = self.testbed.await_network();
        self.testbed
            .await_nodes(|nodes| lasting(nodes.clone()) == self.lasting);
        // The agent polls these every five seconds.
        if self.checks % 10 == 0 {
            self.testbed.await_nodes(|nodes| {
                let free = nodes
                    .get("data/meminfo_free")
                    .and_then(|free| free.parse().ok());
                free.is_some_and(|free: u64| free.abs_diff(self.available) < MEMORY / 100)
                    && nodes.get("data/os_name") == Some(&self.system)
            });
        }
        assert!(nodes.len() < 700, "{} nodes", nodes.len());
        assert!(self.agent.is_running(), "{}", self.agent.log());
        self.checks += 1;
    }

    /// Returns the private memory in KiB and the number of open descriptors.
    fn figures(&self) -> (u64, usize) {
        let rollup = self.agent.proc("smaps_rollup");

        // `Private_Dirty` also counts pages of a binary that is not on disk yet.
        let mut own = rollup
            .lines()
            .filter_map(|line| line.strip_prefix("Anonymous:")?.strip_suffix("kB"));
        let descriptors = Path::new("/proc")
            .join(self.agent.id().to_string())
            .join("fd");
        (
            own.next().unwrap().trim().parse().unwrap(),
            fs::read_dir(descriptors).unwrap().count(),
        )
    }
}

/// Removes the nodes that events change.
fn lasting(mut nodes: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let fleeting = [
        "data/meminfo_free",
        "data/os_name",
        "data/updated",
        "unique-domain-id",
    ];
    nodes.retain(|path, _| !path.starts_with("attr/vif/") && !fleeting.contains(&path.as_str()));
    nodes
}

#[test]
#[ignore = "needs root and xenstored, takes an hour"]
fn memory_and_descriptors_do_not_leak_and_the_tree_stays_correct() {
    let length = Duration::from_secs(number("SOAK_SECONDS", 3600));
    let seed = number("SOAK_SEED", 1);
    println!("SOAK_SEED={seed}");
    let mut soak = Soak::begin(seed);
    let (mut events, mut first, mut most) = (0, None, (0, 0));
    while soak.start.elapsed() < length {
        // Each kind of event happens twice at first, so that one-time allocations are done.
        let kind = if events < 2 * KINDS {
            events % KINDS
        } else {
            soak.rng.below(KINDS)
        };
        soak.act(kind);
        events += 1;
        sleep(Duration::from_millis(soak.rng.below(500)));
        if soak.rng.below(4) == 0 {
            soak.check();
        }
        let now = soak.figures();
        most = (most.0.max(now.0), most.1.max(now.1));
        if first.is_none() && soak.start.elapsed() > length / 3 {
            first = Some(most);
        }
    }
    soak.check();
    let (first, last) = (first.expect("a third of the time passed"), soak.figures());
    println!(
        "{events} events in {} s, {} of them a broken connection; {} checks, {} requests; private memory {} KiB at most in the \
         first third, {} in all, {} in the end; descriptors {}, {}, {}",
        soak.start.elapsed().as_secs(),
        soak.losses,
        soak.checks,
        soak.testbed.guest.requests().total(),
        first.0,
        most.0,
        last.0,
        first.1,
        most.1,
        last.1
    );
    assert!(most.0 <= first.0 + GROWTH && most.1 <= first.1, "it grows");
    let log = soak.agent.stop();
    let expected = [
        "was resumed",
        "trying again until it works",
        "connected to Xenstore",
        "settings reloaded",
    ];
    let is_expected = |line: &&str| expected.iter().any(|text| line.contains(text));
    let unexpected: Vec<_> = log.lines().filter(|line| !is_expected(line)).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
}
