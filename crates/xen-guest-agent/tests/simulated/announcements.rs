//! Write order and announcements. xapi rereads a guest only when a node below `attr`, `control`,
//! `feature` or `xenserver/attr` changes, so nodes that it caches must be written before such a
//! node.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use xen_guest_agent::guest::{Device, Guest};
use xen_guest_agent::schema::Name;
use xen_guest_agent::schema::topology::Filter;
use xenstore::wire::MessageKind;
use xenstore::{ErrorCode, Path, Permissions};

use crate::harness::{DOMAIN, Harness};
use crate::sample_guests::{self, address, distribution, interface};
use crate::server_faults::Refusal;
use crate::stale_nodes;
use crate::xapi_reader::GuestMetrics;

/// Nodes that xapi caches but does not watch.
const CACHED: [&str; 7] = [
    "data/os_distro",
    "data/os_name",
    "data/os_majorver",
    "data/os_minorver",
    "data/os_uname",
    "data/host_name_dns",
    "data/domain",
];

const WATCHED: [&str; 4] = ["attr/", "control/", "feature/", "xenserver/attr/"];

/// A harness that checks the requests of each step.
struct Observed {
    harness: Harness,
    /// Whether a cached node has changed without a later write to a watched node.
    is_unannounced: bool,
}

impl Observed {
    fn new(guest: Guest, schema: Name) -> Self {
        Observed {
            harness: Harness::with_schema(guest, schema),
            is_unannounced: false,
        }
    }

    /// Runs `act`, publishes, checks the requests, and returns the number of changes of cached
    /// nodes.
    fn step(&mut self, what: &str, act: impl FnOnce(&mut Harness)) -> usize {
        let mut there: BTreeSet<String> = self.harness.tree().into_keys().collect();
        act(&mut self.harness);
        pass_five_seconds(&mut self.harness);
        let mut changes = 0;
        let requests = self.harness.take_requests();
        for (kind, path) in &requests {
            // A write that the server rejects changes no node.
            let is_rejected = self.harness.refusals().any(|refusal| {
                refusal.kind.is_none_or(|refused| refused == *kind)
                    && Path::new(path.as_str())
                        .unwrap()
                        .is_at_or_below(&refusal.path)
            });
            let is_cached = CACHED.contains(&path.as_str()) && !is_rejected;
            match *kind {
                MessageKind::WRITE => {
                    for (end, _) in path.match_indices('/') {
                        let above = &path[..end];
                        assert!(
                            there.contains(above) || !is_address(above),
                            "{what}: {path} before {above}"
                        );
                    }
                    there.insert(path.clone());
                    if WATCHED.iter().any(|start| path.starts_with(start)) {
                        self.is_unannounced = false;
                    }
                }
                MessageKind::RM => there.retain(|node| {
                    !Path::new(node.as_str())
                        .unwrap()
                        .is_at_or_below(path.as_str())
                }),
                _ => continue,
            }
            if is_cached {
                self.is_unannounced = true;
                changes += 1;
            }
        }
        assert!(
            !self.is_unannounced,
            "{what}: no watched node is written after a cached node changed: {requests:?}"
        );
        changes
    }

    fn change(&mut self, what: &str, act: impl FnOnce(&mut Guest)) -> usize {
        self.step(what, |harness| {
            harness.agent.update(|guest| {
                act(guest);
                true
            });
        })
    }
}

/// Whether readers take the node for an address. Such a node must never exist without a value.
fn is_address(path: &str) -> bool {
    let mut end = path.rsplit('/');
    end.next().is_some_and(|slot| slot.parse::<u32>().is_ok())
        && matches!(end.next(), Some("ipv4" | "ipv6"))
}

/// Publishes pending changes immediately, and deferred ones within five seconds.
fn pass_five_seconds(harness: &mut Harness) {
    harness.settle();
    harness.pass(Duration::from_secs(5));
}

fn debian() -> Guest {
    sample_guests::all().remove(0).guest
}

#[test]
fn initial_publication_writes_unwatched_nodes_before_watched_ones() {
    for sample in sample_guests::all() {
        let mut harness = Harness::with_schema(sample.guest, Name::Std);
        harness.connect();
        let writes = harness
            .take_requests()
            .into_iter()
            .filter(|(kind, _)| *kind == MessageKind::WRITE);
        let paths: Vec<_> = writes.map(|(_, path)| path).collect();
        let first_watched = paths
            .iter()
            .position(|path| !path.starts_with("data/"))
            .unwrap();
        // Services and the date are watched themselves, and no reader waits for volumes.
        let free = ["data/service/", "data/updated", "data/volumes/"];
        let is_free = |path: &&String| free.iter().any(|start| path.starts_with(start));
        let late = paths[first_watched..]
            .iter()
            .find(|path| path.starts_with("data/") && !is_free(path));
        assert_eq!(late, None, "{}: {paths:?}", sample.name);
    }
}

type Alter = fn(&mut Guest);

#[test]
fn every_change_is_announced() {
    let mut observed = Observed::new(debian(), Name::Std);
    assert_eq!(observed.step("first publication", Harness::connect), 7);
    let changes: [(&str, usize, Alter); 14] = [
        ("kernel", 1, |guest| {
            guest.kernel = "6.1.0-19-amd64".to_owned();
        }),
        ("minor", 2, |guest| {
            let distribution = guest.distribution.as_mut().unwrap();
            distribution.minor = Some("6".to_owned());
            distribution.name = "Debian GNU/Linux 12.6".to_owned();
        }),
        ("upgrade", 5, |guest| {
            guest.distribution = Some(distribution("ubuntu-22.04"));
            guest.kernel = "5.15.0-91-generic".to_owned();
        }),
        ("rolling", 4, |guest| {
            guest.distribution = Some(distribution("arch"));
        }),
        ("unknown", 2, |guest| guest.distribution = None),
        ("known", 4, |guest| {
            guest.distribution = Some(distribution("talos"));
        }),
        ("host name", 1, |guest| {
            guest.host_name = Some("web2.example.org".to_owned());
        }),
        ("domain", 1, |guest| {
            guest.host_name = Some("web2.example.net".to_owned());
        }),
        ("no domain", 1, |guest| {
            guest.host_name = Some("web2".to_owned());
        }),
        ("no host name", 1, |guest| guest.host_name = None),
        ("memory", 0, |guest| {
            guest.memory.as_mut().unwrap().available /= 2;
        }),
        ("address added", 0, |guest| {
            guest
                .interfaces
                .get_mut(&2)
                .unwrap()
                .addresses
                .push(address("192.0.2.77/24"));
        }),
        ("addresses gone", 0, |guest| {
            guest.interfaces.get_mut(&2).unwrap().addresses.clear();
        }),
        ("balloon driver gone", 0, |guest| guest.balloon = false),
    ];
    for (what, copied, alter) in changes {
        assert_eq!(observed.change(what, alter), copied, "{what}");
    }
}

#[test]
fn restored_nodes_are_announced() {
    let mut observed = Observed::new(debian(), Name::Std);
    observed.step("first publication", Harness::connect);
    let changed = observed.step("a foreign write", |harness| {
        harness.write("data/os_name", "x");
    });
    assert_eq!(changed, 1);
    for path in ["data/host_name_dns", "data/os_uname", "data/os_minorver"] {
        let changed = observed.step(path, |harness| {
            harness.remove(path);
            harness.agent.compare();
        });
        assert_eq!(changed, 1, "{path}");
    }
    let changed = observed.step("resume into an empty tree", |harness| {
        for path in ["data", "attr", "feature", "control"] {
            harness.remove(path);
        }
        harness
            .server
            .store_mut()
            .introduce_guest(DOMAIN, xenstore::embedded::Toolstack::Xapi);
        harness.server.store_mut().resume(DOMAIN);
    });
    assert_eq!(changed, 7);
    let changed = observed.step("resume", |harness| {
        harness.server.store_mut().resume(DOMAIN);
    });
    assert_eq!(changed, 0);
}

#[test]
fn resume_is_announced_without_changes() {
    // xapi has forgotten the guest and may miss the first event, so the date and a watched node are
    // written.
    let mut harness = Harness::with_schema(debian(), Name::Std);
    harness.connect();
    harness.take_requests();
    harness.server.store_mut().resume(DOMAIN);
    pass_five_seconds(&mut harness);
    let requests = harness
        .take_requests()
        .into_iter()
        .filter(|(kind, _)| *kind == MessageKind::WRITE);
    let paths: Vec<_> = requests.map(|(_, path)| path).collect();
    assert_eq!(paths, ["attr/PVAddons/Installed", "data/updated"]);
}

#[test]
fn schema_change_is_announced() {
    let mut observed = Observed::new(debian(), Name::Std);
    observed.step("first publication", Harness::connect);
    assert_eq!(
        observed.step("rfc", |harness| harness.restart_with(Name::Rfc)),
        7
    );
    assert_eq!(
        observed.step("std", |harness| harness.restart_with(Name::Std)),
        7
    );
    assert_eq!(
        observed.step("std again", |harness| harness.restart_with(Name::Std)),
        0
    );
    for schema in [Name::Rfc, Name::Std] {
        let set = |harness: &mut Harness| harness.agent.set_schema(schema, Filter::default());
        assert_eq!(observed.step("without a restart", set), 7, "{schema:?}");
    }
}

#[test]
fn replaced_nodes_of_earlier_agents_are_announced() {
    for (name, nodes) in stale_nodes::AGENTS {
        for schema in [Name::Std, Name::Rfc] {
            let mut observed = Observed::new(debian(), schema);
            for (path, value) in nodes {
                observed.harness.write(path, value);
            }
            let changed = observed.step(name, Harness::connect);
            assert!(changed > 0 || schema == Name::Rfc, "{name}");
        }
    }
}

#[test]
fn publication_interrupted_by_disconnect_or_kill_is_announced() {
    for is_killed in [false, true] {
        let mut losses = 0;
        for served in 0..30 {
            let mut observed = Observed::new(debian(), Name::Std);
            observed.step("first publication", Harness::connect);
            observed.harness.disconnect_after(served);
            observed.step("host name", |harness| {
                harness.agent.update(|guest| {
                    guest.host_name = Some("other".to_owned());
                    true
                });
                harness.agent.update(|guest| {
                    guest.kernel = "6.9".to_owned();
                    true
                });
                harness.settle();
                losses += usize::from(harness.has_disconnected());
                if is_killed {
                    harness.cancel_disconnect();
                    harness.restart_with(Name::Std);
                }
            });
        }
        assert!((3..30).contains(&losses), "{losses}");
    }
}

#[test]
fn failed_announcement_is_repeated() {
    for code in [ErrorCode::EIO, ErrorCode::EACCES] {
        let mut harness = Harness::with_schema(debian(), Name::Std);
        harness.connect();
        let path = "attr/PVAddons/Installed";
        let is_announced = |harness: &mut Harness| {
            let requests = harness.take_requests();
            let place = |path: &str| {
                requests
                    .iter()
                    .rposition(|request| *request == (MessageKind::WRITE, path.to_owned()))
            };
            (
                place("data/os_uname").is_some(),
                place("attr/PVAddons/Installed").is_some(),
                place("data/updated").is_some(),
            )
        };
        let kinds = [MessageKind::WRITE, MessageKind::RM].map(Some);
        harness.set_refusals(kinds.map(|kind| Refusal::of(kind, path, code.clone())));
        harness.take_requests();
        harness.agent.update(|guest| {
            guest.kernel = "6.9".to_owned();
            true
        });
        pass_five_seconds(&mut harness);
        assert_eq!(is_announced(&mut harness), (true, true, true));

        // A failed announcement alone causes no further writes.
        harness.agent.update(|_| true);
        pass_five_seconds(&mut harness);
        assert_eq!(is_announced(&mut harness), (false, false, false));
        harness.clear_refusals();
        harness.agent.retry_failed_writes();
        pass_five_seconds(&mut harness);
        assert_eq!(is_announced(&mut harness), (false, true, true));
        harness.agent.update(|_| true);
        pass_five_seconds(&mut harness);
        assert_eq!(is_announced(&mut harness), (false, false, false));
    }
}

#[test]
fn resume_is_announced_after_a_disconnect() {
    let mut losses = 0;
    for served in 0..10 {
        let mut harness = Harness::with_schema(debian(), Name::Std);
        harness.connect();
        harness.take_requests();
        harness.server.store_mut().resume(DOMAIN);
        harness.disconnect_after(served);
        pass_five_seconds(&mut harness);
        losses += usize::from(harness.has_disconnected());
        let requests = harness.take_requests();
        let writes = requests
            .iter()
            .filter(|(kind, _)| *kind == MessageKind::WRITE)
            .map(|(_, path)| path.as_str());
        assert_eq!(
            writes.collect::<Vec<_>>(),
            ["attr/PVAddons/Installed", "data/updated"],
            "after {served}"
        );
    }
    assert_eq!(losses, 10);
}

#[test]
fn node_over_quota_is_announced_once_it_fits() {
    let mut observed = Observed::new(debian(), Name::Std);
    observed.step("first publication", Harness::connect);
    refuse(&mut observed.harness, "data/os_name");
    observed.change("two nodes changed, one over quota", |guest| {
        guest.distribution = Some(distribution("rocky-9"));
        guest.kernel = "5.14.0".to_owned();
    });

    // The write order is different while the quota is reached.
    let one_more = |guest: &mut Guest| guest.host_name = Some("short.example.org".to_owned());
    assert_eq!(observed.change("a node changed over quota", one_more), 1);
    observed.harness.clear_refusals();
    assert_eq!(
        observed.step("quota freed", |harness| harness.agent.compare()),
        1
    );
    assert_eq!(
        observed.harness.nodes()["data/os_name"],
        "Rocky Linux 9.3 (Blue Onyx)"
    );
}

#[test]
fn denied_removal_is_announced_once() {
    let mut harness = Harness::with_schema(
        Guest {
            distribution: Some(distribution("arch")),
            ..debian()
        },
        Name::Std,
    );
    harness.write("data/os_minorver", "1");
    let of_the_host = Permissions::readable_by_all(0);
    let path = format!("/local/domain/{DOMAIN}/data/os_minorver");
    harness
        .server
        .store_mut()
        .set_permissions(path, &of_the_host)
        .unwrap();
    harness.connect();
    pass_five_seconds(&mut harness);
    harness.take_requests();
    harness.agent.update(|_| true);
    pass_five_seconds(&mut harness);
    assert_eq!(harness.take_requests(), []);
}

fn refuse(harness: &mut Harness, path: &str) {
    harness.set_refusals([Refusal::of_writes(path, ErrorCode::ENOSPC)]);
}

/// An event in the life of a guest.
#[derive(Clone, Debug)]
enum Step {
    Distribution(Option<&'static str>),
    Kernel(&'static str),
    HostName(Option<&'static str>),
    AddAddress(u32, &'static str),
    DropAddress(u32),
    IsUp(u32, bool),
    Gone(u32),
    Memory(u64),
    Removed(&'static str),
    Written(&'static str),
    Compare,
    Resume,
    Restart(Name),
    Loss(usize),
    Killed(usize, &'static str),
    QuotaFull(Option<&'static str>),
    Time(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let some = |texts: &'static [&'static str]| prop::sample::select(texts);
    let system = || some(&["debian-12", "ubuntu-22.04", "arch", "centos-6", "talos"]);
    let host_name = || some(&["a", "b.example.org", "b.example.net"]);
    let ip = || {
        some(&[
            "10.0.0.1/24",
            "10.0.0.2/24 secondary",
            "2001:db8::1/64",
            "fe80::1/64",
        ])
    };
    let index = || 2..5_u32;
    let ours = || {
        some(&[
            "data/os_name",
            "data/host_name_dns",
            "attr/vif",
            "attr/vif/0/ipv4/0",
            "attr/PVAddons",
            "data/os",
        ])
    };
    prop_oneof![
        3 => prop::option::weighted(0.9, system()).prop_map(Step::Distribution),
        2 => some(&["5.4", "6.1", "6.6"]).prop_map(Step::Kernel),
        3 => prop::option::weighted(0.9, host_name()).prop_map(Step::HostName),
        4 => (index(), ip()).prop_map(|(index, ip)| Step::AddAddress(index, ip)),
        2 => index().prop_map(Step::DropAddress),
        2 => (index(), any::<bool>()).prop_map(|(index, is_up)| Step::IsUp(index, is_up)),
        1 => index().prop_map(Step::Gone),
        2 => (1..9_u64).prop_map(Step::Memory),
        2 => ours().prop_map(Step::Removed),
        1 => ours().prop_map(Step::Written),
        1 => Just(Step::Compare),
        1 => Just(Step::Resume),
        1 => prop::sample::select(&[Name::Std, Name::Rfc][..]).prop_map(Step::Restart),
        1 => (0..20_usize).prop_map(Step::Loss),
        1 => (0..9_usize, host_name()).prop_map(|(served, name)| Step::Killed(served, name)),
        // An announcement over the quota follows when there is space.
        1 => prop::option::of(some(&["data", "data/os_name", "attr/vif"])).prop_map(Step::QuotaFull),
        1 => (0..700_u64).prop_map(Step::Time),
    ]
}

fn take(harness: &mut Harness, step: &Step) {
    match *step {
        Step::Removed(path) => harness.remove(path),
        Step::Written(path) => harness.write(path, "foreign"),
        Step::Compare => harness.agent.compare(),
        Step::Resume => harness.server.store_mut().resume(DOMAIN),
        Step::Restart(schema) => harness.restart_with(schema),
        Step::Loss(served) => harness.disconnect_after(served),
        Step::Killed(served, host_name) => {
            harness.agent.update(|guest| {
                guest.host_name = Some(host_name.to_owned());
                true
            });
            harness.disconnect_after(served);
            harness.settle();
            harness.cancel_disconnect();
            harness.restart_with(Name::Std);
        }
        Step::QuotaFull(Some(path)) => refuse(harness, path),
        Step::QuotaFull(None) => harness.clear_refusals(),
        Step::Time(seconds) => {
            harness.settle();
            harness.pass(Duration::from_secs(seconds));
        }
        _ => {}
    }
    harness.agent.update(|guest| {
        change_guest(guest, step);
        true
    });
}

fn change_guest(guest: &mut Guest, step: &Step) {
    match *step {
        Step::Distribution(system) => guest.distribution = system.map(distribution),
        Step::Kernel(release) => release.clone_into(&mut guest.kernel),
        Step::HostName(name) => guest.host_name = name.map(str::to_owned),
        Step::AddAddress(index, ip) => {
            let new = || interface(index, "eth", Device::Vif(index - 2), "").1;
            let addresses = &mut guest.interfaces.entry(index).or_insert_with(new).addresses;
            if !addresses.contains(&address(ip)) {
                addresses.push(address(ip));
            }
        }
        Step::DropAddress(index) => {
            if let Some(interface) = guest.interfaces.get_mut(&index) {
                interface.addresses.pop();
            }
        }
        Step::IsUp(index, is_up) => {
            if let Some(interface) = guest.interfaces.get_mut(&index) {
                interface.is_up = is_up;
            }
        }
        Step::Gone(index) => drop(guest.interfaces.remove(&index)),
        Step::Memory(part) => guest.memory.as_mut().unwrap().available = 1000 * part,
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn random_events_are_announced_and_end_in_the_expected_tree(steps in prop::collection::vec(step(), 1..25)) {
        let mut observed = Observed::new(debian(), Name::Std);
        observed.step("first publication", Harness::connect);
        for step in steps {
            let what = format!("{step:?}");
            observed.step(&what, |harness| take(harness, &step));
        }
        observed.step("all faults ended", |harness| {
            harness.clear_faults();
            harness.restart_with(Name::Std);
        });
        let mut fresh = Harness::with_schema(observed.harness.agent.guest().clone(), Name::Std);
        fresh.connect();

        // An address may have another slot, because slots depend on the past.
        let read = |harness: &Harness| {
            let mut read = GuestMetrics::read(&harness.tree());
            let networks = std::mem::take(&mut read.networks);
            let device = |key: &str| key.split('/').next().unwrap().to_owned();
            let addresses: BTreeSet<_> = networks.into_iter().map(|(key, value)| (device(&key), value)).collect();
            (read, addresses)
        };
        prop_assert_eq!(read(&observed.harness), read(&fresh));
        prop_assert_eq!(observed.step("nothing happens", |harness| harness.agent.compare()), 0);
    }
}
