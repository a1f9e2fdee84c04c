//! Random guests, faults and conflicts must end in the expected tree.
//!
//! `PLANS=100000` sets the number of plans. `SEED=<number>` repeats the plan of a failure and, with
//! `--nocapture`, prints each event.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use xen_guest_agent::guest::{Device, Distribution, Guest, Mac, Memory};
use xenstore::DomId;
use xenstore::ErrorCode;
use xenstore::embedded::{Fault, Model, Toolstack};
use xenstore::wire::MessageKind;

use crate::harness::{Harness, address, guest, interface, meaning};
use crate::log;
use crate::server_faults::Refusal;

/// Default number of plans.
const PLANS: u64 = 2000;

/// Foreign nodes between those of the agent.
const FOREIGN: [&str; 4] = [
    "data/ts",
    "attr/os/hotfixes",
    "data/service/web/url",
    "control/x",
];

const ADDRESSES: [&str; 8] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "192.0.2.7",
    "2001:db8::1",
    "2001:db8::2",
    "fd00::1",
    "fe80::1",
];

const NODES: [&str; 18] = [
    "attr/PVAddons",
    "attr/PVAddons/Installed",
    "attr/PVAddons/MajorVersion",
    "attr/eth0/ip",
    "attr/vif",
    "attr/vif/0",
    "attr/vif/0/ipv4",
    "attr/vif/0/ipv4/0",
    "attr/vif/0/ipv4/0/prefix",
    "attr/vif/0/name",
    "attr/vif/1/ipv6/1",
    "attr/vif/7/ipv4/0",
    "data/host_name_dns",
    "data/os_name",
    "data/updated",
    "data/volumes/0/name",
    "feature/hotplug/vif",
    "xenserver/attr/net-sriov-vf/0/ipv4/0",
];

/// Paths whose requests may fail. No path depends on the slot of an address.
const REFUSED: [&str; 12] = [
    "attr",
    "attr/PVAddons",
    "attr/PVAddons/Installed",
    "attr/vif",
    "attr/vif/0/ipv4",
    "attr/vif/1",
    "control",
    "data",
    "data/meminfo_free",
    "data/os_name",
    "feature/hotplug/vif",
    "xenserver",
];

/// Pseudo-random numbers (splitmix64).
struct Rng(u64);

impl Rng {
    fn random(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(self.random() % u64::from(limit)).unwrap()
    }

    fn one_in(&mut self, chances: u32) -> bool {
        self.below(chances) == 0
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.random()).unwrap() % choices.len()].clone()
    }
}

struct Plan {
    rng: Rng,
    harness: Harness,
    toolstack: Toolstack,
    functions: BTreeMap<u32, Mac>,
    foreign: BTreeSet<&'static str>,
    is_verbose: bool,
    /// Whether a write was denied that is retried only on demand.
    was_refused: bool,
}

impl Plan {
    fn new(seed: u64, is_verbose: bool) -> Self {
        let mut rng = Rng(seed);
        let toolstack = rng.of(&[Toolstack::Xapi, Toolstack::Libxl]);
        let mut guest = guest();
        guest
            .interfaces
            .insert(3, interface(Device::Vif(1), &["10.0.0.3", "2001:db8::2"]));
        let mut function = interface(Device::Physical, &["192.0.2.7"]);
        function.mac = Some(mac(0));
        guest.interfaces.insert(4, function);
        guest.balloon = rng.one_in(2);
        let model = rng.of(&[
            Model::CXenstored4_17,
            Model::CXenstored4_22,
            Model::Oxenstored4_17,
        ]);
        let mut harness = Harness::with_model(model, toolstack, guest);
        harness.is_device = rng.one_in(2);
        harness.comparison = Some(harness.now + Duration::from_secs(60));
        if harness.is_device {
            harness.store().inject(Fault::watch_replies_without_id());
        }
        let (functions, foreign) = (BTreeMap::new(), BTreeSet::new());
        let mut plan = Plan {
            rng,
            harness,
            toolstack,
            functions,
            foreign,
            is_verbose,
            was_refused: false,
        };

        // Guests of libxl may not write this node.
        plan.was_refused |= toolstack == Toolstack::Libxl;
        plan
    }

    fn trace(&self, what: impl FnOnce() -> String) {
        if self.is_verbose {
            eprintln!("{:>10.3} {}", self.harness.now.as_secs_f64(), what());
        }
    }

    fn update(&mut self, update: impl FnOnce(&mut Guest)) {
        self.harness.agent.update(|guest| {
            update(guest);
            true
        });
    }

    /// Changes the guest.
    fn change(&mut self) {
        let (choice, index) = (self.rng.below(6), self.rng.of(&[2, 2, 3, 4]));
        match choice {
            0 => {
                let name = self.rng.of(&[None, Some("web1"), Some("web2.example.org")]);
                self.update(|guest| guest.host_name = name.map(str::to_owned));
            }
            1 => {
                let available = u64::from(self.rng.below(1000));
                let memory = Some(Memory {
                    total: 1000,
                    available,
                });
                self.update(|guest| guest.memory = memory);
            }
            2 => {
                let os = Distribution {
                    id: "debian".to_owned(),
                    name: self.rng.of(&["Debian 12", "Debian 13"]).to_owned(),
                    major: Some("12".to_owned()),
                    minor: self.rng.of(&[None, Some("5".to_owned())]),
                    version: None,
                };
                let distribution = self.rng.of(&[None, Some(os.clone()), Some(os)]);
                self.update(|guest| guest.distribution = distribution);
            }
            _ => {
                let mut addresses = ADDRESSES.to_vec();
                addresses.retain(|_| self.rng.one_in(2));
                let is_up = !self.rng.one_in(6);
                self.update(|guest| {
                    if let Some(interface) = guest.interfaces.get_mut(&index) {
                        interface.addresses = addresses.iter().map(|ip| address(ip)).collect();
                        interface.is_up = is_up;
                    }
                });
            }
        }
        self.trace(|| format!("the guest changes ({choice}, {index})"));
    }

    /// Changes nodes as another client or the toolstack.
    fn interfere(&mut self) {
        match self.rng.below(6) {
            0 | 1 => {
                let node = self.rng.of(&NODES);
                self.trace(|| format!("a foreign client removes {node}"));
                self.harness.remove(node);
            }
            2 | 3 => {
                let node = self.rng.of(&NODES);
                self.trace(|| format!("a foreign client writes {node}"));
                self.harness.write(node, "nonsense");
                let path = format!("{}/{node}", self.harness.home());

                // Nodes that belong to the toolstack keep their owner.
                let owner = xenstore::Permissions::owner_only(self.harness.domain);
                let mut path = path.as_str();
                while path.len() > self.harness.home().len() && !self.is_owned_by_toolstack(path) {
                    self.harness.store().set_permissions(path, &owner).unwrap();
                    path = path.rsplit_once('/').unwrap().0;
                }
            }
            4 => {
                let node = self.rng.of(&FOREIGN);
                self.trace(|| format!("a foreign client writes its own {node}"));
                self.harness.write(node, "theirs");
                self.foreign.insert(node);
            }
            _ => {
                let id = self.rng.below(2);
                let mac = self.rng.of(&[None, Some(mac(0)), Some(mac(1))]);
                self.trace(|| format!("virtual function {id} is {mac:?}"));
                match mac {
                    Some(mac) => self.functions.insert(id, mac),
                    None => self.functions.remove(&id),
                };
                self.write_functions();
            }
        }
    }

    /// Whether the toolstack created the node, so that it keeps its owner.
    fn is_owned_by_toolstack(&self, path: &str) -> bool {
        let node = &path[self.harness.home().len() + 1..];
        !node.contains('/') || node == "xenserver/attr"
    }

    fn write_functions(&mut self) {
        self.harness.remove("xenserver/device/net-sriov-vf");
        for (id, mac) in self.functions.clone() {
            self.harness.write(
                &format!("xenserver/device/net-sriov-vf/{id}/mac"),
                &mac.to_string(),
            );
        }
    }

    /// Starts or ends a fault.
    fn disturb(&mut self) {
        match self.rng.below(9) {
            0 | 1 => {
                let kind = self.rng.of(&[
                    None,
                    Some(MessageKind::WRITE),
                    Some(MessageKind::WRITE),
                    Some(MessageKind::RM),
                    Some(MessageKind::READ),
                    Some(MessageKind::DIRECTORY),
                    Some(MessageKind::WATCH),
                ]);
                let names = [
                    "EACCES", "EACCES", "EPERM", "ENOSPC", "EQUOTA", "E2BIG", "EIO", "EINVAL",
                    "EBUSY", "ENEW",
                ];
                let code = ErrorCode::from(self.rng.of(&names));
                let path = self.rng.of(&REFUSED);
                self.was_refused |= matches!(code, ErrorCode::EACCES | ErrorCode::EPERM);
                self.trace(|| format!("{kind:?} {path} is {code}"));
                self.harness.refuse(Refusal::of(kind, path, code));
            }
            2 | 3 => {
                self.trace(|| "nothing is refused".to_owned());
                self.harness.clear_refusals();
            }
            4 => {
                let is_full = !self.harness.is_quota_full();
                self.trace(|| format!("quota full: {is_full}"));
                self.harness.fill_quota(is_full);
            }
            5 => {
                let nodes = self.rng.of(&[20, 40, 60, 1000]);
                self.trace(|| format!("quota {nodes}"));
                self.harness.store().quotas.nodes = nodes;
            }
            6 => {
                let after = usize::try_from(self.rng.below(80)).unwrap();
                self.trace(|| format!("the connection is lost after {after} requests"));
                self.harness.disconnect_after(after);
            }
            _ => {
                let hold = !self.harness.holds_replies();
                self.trace(|| format!("replies are held: {hold}"));
                self.harness.hold_replies(hold);
            }
        }
    }

    /// Migrates the domain, which gets a new tree.
    fn move_domain(&mut self) {
        let from = self.harness.domain;
        let next = DomId::new(from.get() % 30_000 + 1);
        let to = self.rng.of(&[from, next]);
        self.trace(|| format!("domain {from} becomes {to}"));
        self.harness.store().introduce_guest(to, self.toolstack);
        self.harness.domain = to;
        self.write_functions();
        self.foreign.clear();
        if from == to {
            self.harness.store().resume(to);
        } else {
            self.harness.server.migrate(from, to);
            self.harness.store().destroy_guest(from);
        }
        self.harness.cancel_disconnect();
    }

    fn step(&mut self) {
        match self.rng.below(20) {
            0..=5 => self.change(),
            6..=9 => self.interfere(),
            10..=13 => self.disturb(),
            14 if self.rng.one_in(3) => self.move_domain(),
            15 if self.rng.one_in(3) => {
                self.trace(|| "the agent is restarted".to_owned());
                self.harness.restart();
            }
            _ => {}
        }
        let now = self.harness.now;
        match self.rng.below(8) {
            0 => {}
            1 => self.harness.server.process(),
            2 => self.harness.agent.on_readable(now),
            3 => self
                .harness
                .agent
                .advance(now, std::time::SystemTime::UNIX_EPOCH + now),
            4 => self.harness.settle(),
            5 | 6 => {
                let time = Duration::from_millis(self.rng.random() % 3000);
                self.harness.pass(time);
            }
            _ => {
                let time = Duration::from_millis(self.rng.random() % 300_000);
                self.harness.pass(time);
            }
        }
    }

    fn run(mut self) {
        log::take();
        self.harness.connect();
        let steps = 5 + self.rng.below(30);
        for _ in 0..steps {
            self.step();
        }
        self.trace(|| "the faults end".to_owned());
        let remaining = self.remain();

        // This time covers two comparisons and the delay of conflicts.
        self.harness.pass(Duration::from_secs(1300));
        self.check(&remaining);
        let lines = log::take();
        let most = usize::try_from(steps).unwrap() * 6 + 12;
        assert!(
            lines.len() <= most,
            "{} lines of the log in {steps} steps: {lines:#?}",
            lines.len()
        );
    }

    /// Ends all faults except some denials, and returns the denied paths.
    fn remain(&mut self) -> Vec<&'static str> {
        let keeps = self.rng.one_in(3);
        self.harness.clear_faults();
        self.harness.store().quotas.nodes = 1000;
        let mut remaining = Vec::new();
        if keeps {
            remaining = vec![self.rng.of(&REFUSED), self.rng.of(&REFUSED)];
            let refusal = |path: &&str| Refusal::of_writes(path, ErrorCode::EACCES);
            self.harness.set_refusals(remaining.iter().map(refusal));
            self.was_refused = true;
        }
        self.trace(|| format!("still denied: {remaining:?}"));
        if self.toolstack == Toolstack::Libxl {
            remaining.extend(["control", "xenserver"]);
        }
        if self.was_refused {
            self.harness.settle();
            self.harness.agent.retry_failed_writes();
            self.harness.agent.compare();
        }
        remaining
    }

    fn check(&mut self, remaining: &[&str]) {
        let is_refused = |path: &str| {
            remaining.iter().any(|top| {
                path.strip_prefix(top)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        let (mut expected, mut published) = (
            self.harness.expected(&self.functions),
            self.harness.published(),
        );
        for nodes in [&mut expected, &mut published] {
            nodes.retain(|path, _| !is_refused(path));
        }
        assert_eq!(meaning(&published), meaning(&expected));
        for node in &self.foreign {
            assert_eq!(self.harness.read(node).as_deref(), Some("theirs"), "{node}");
        }
        // A quiet guest sends no request until the next comparison.
        self.harness.comparison = None;
        let requests = self.harness.all_requests();
        self.harness.pass(Duration::from_secs(500));
        assert_eq!(
            self.harness.all_requests(),
            requests,
            "requests of a quiet guest"
        );
    }
}

fn mac(last: u8) -> Mac {
    Mac([0, 0x16, 0x3e, 0, 1, last])
}

#[test]
fn random_fault_plans_end_in_the_expected_tree() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect("a number"))
    };
    if let Some(seed) = number("SEED") {
        return Plan::new(seed, true).run();
    }
    let start = Instant::now();
    let plans = number("PLANS").unwrap_or(PLANS);
    for seed in 0..plans {
        let ended = std::panic::catch_unwind(|| Plan::new(seed, false).run());
        if let Err(panic) = ended {
            eprintln!(
                "repeat this plan: SEED={seed} cargo test -p xen-guest-agent --test simulated faults -- --nocapture"
            );
            std::panic::resume_unwind(panic);
        }
    }
    let rate = u128::from(plans) * 1000 / start.elapsed().as_millis().max(1);
    println!("{plans} plans, {rate} in a second");
}
