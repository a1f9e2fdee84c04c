//! The agent against the embedded store, in one thread and in simulated time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "all of this is test code"
)]

mod announcements;
mod conflicts;
mod cost;
mod documented_nodes;
mod faults;
mod harness;
mod hostile_server;
mod log;
mod quota_and_denials;
mod rate_limits;
mod restart;
mod sample_guests;
mod snapshots;
mod stale_nodes;
mod status;
mod xapi_reader;

use std::time::Duration;

use xen_guest_agent::agent::Agent;
use xen_guest_agent::collect::services::Directory;
use xen_guest_agent::guest::{Device, Guest, Mac, Volume};
use xen_guest_agent::root::Root;
use xen_guest_agent::schema::topology::Filter;
use xen_guest_agent::schema::{Name, Schema};
use xenstore::embedded::{Refusal, Server, Store, Toolstack};
use xenstore::wire::Kind;
use xenstore::{ErrorCode, Path};

use harness::{DOMAIN, Harness, guest, interface};

#[test]
fn it_is_all_there_and_costs_nothing_more() {
    let mut harness = Harness::new(Toolstack::Xapi);
    assert_eq!(
        harness.read("attr/vif/0/ipv4/1").as_deref(),
        Some("10.0.0.2")
    );
    assert_eq!(
        harness.read("data/updated").as_deref(),
        Some("Thu Jan  1 00:01:40 1970")
    );
    let before = harness.server.store().requests(DOMAIN);
    harness.agent.update(|_| true);
    harness.pass(Duration::from_secs(30));
    assert_eq!(harness.server.store().requests(DOMAIN), before);
}

/// A guest with a virtual function, of which the toolstack tells.
fn with_function(toolstack: Toolstack) -> Harness {
    let mut guest = guest();
    let mut function = interface(Device::Physical, &["10.0.9.1"]);
    function.mac = Some(Mac([2, 0, 0, 0, 0, 9]));
    guest.interfaces.insert(3, function);
    Harness::unconnected(toolstack, guest)
}

const HOME: &str = "/local/domain/5";

const FUNCTION: &str = "/local/domain/5/xenserver/device/net-sriov-vf/4";

#[test]
fn a_virtual_function_is_known_before_anything_is_published() {
    let mut harness = with_function(Toolstack::Xapi);
    harness
        .server
        .store_mut()
        .write(format!("{FUNCTION}/mac"), "02:00:00:00:00:09")
        .unwrap();
    // An earlier run of the agent left it there, in another place than a new one would choose.
    let node = format!("{HOME}/xenserver/attr/net-sriov-vf/4/ipv4/3");
    harness.server.store_mut().write(&node, "10.0.9.1").unwrap();
    harness.connect();
    assert_eq!(
        harness
            .read("xenserver/attr/net-sriov-vf/4/ipv4/3")
            .as_deref(),
        Some("10.0.9.1")
    );
    assert_eq!(harness.requests(Kind::RM), 0, "it was taken for stale");
    harness.server.store_mut().remove(FUNCTION).unwrap();
    harness.settle();
    assert_eq!(harness.read("xenserver/attr/net-sriov-vf/4/ipv4/3"), None);
    // While it is read, it changes again.
    for last in [8, 9] {
        harness
            .server
            .store_mut()
            .write(format!("{FUNCTION}/mac"), format!("02:00:00:00:00:0{last}"))
            .unwrap();
        harness.agent.on_readable(harness.now);
    }
    harness.settle();
    assert_eq!(
        harness
            .read("xenserver/attr/net-sriov-vf/4/ipv4/0")
            .as_deref(),
        Some("10.0.9.1")
    );
}

#[test]
fn watched_nodes_are_put_right_and_the_agents_own_writes_are_not_taken_for_others() {
    let mut harness = Harness::new(Toolstack::Xapi);
    let reads = harness.requests(Kind::READ);
    for last in 1..10 {
        harness.set_address(last);
        harness.settle();
    }
    assert_eq!(
        harness.requests(Kind::READ),
        reads,
        "an echo was taken for somebody else"
    );
    for path in ["attr/vif", "data/os_name", "attr/PVAddons/MajorVersion"] {
        harness.remove(path);
        harness.server.process();
        harness.settle();
    }
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.9")
    );
    assert_eq!(
        harness.read("attr/PVAddons/MajorVersion").as_deref(),
        Some("1")
    );
}

#[test]
fn what_no_watch_covers_is_compared_and_memory_written_again() {
    let mut harness = Harness::new(Toolstack::Xapi);
    // The first comparison looks at what a watch covers, too, since all of it was just written.
    harness.agent.compare();
    harness.settle();
    harness.remove("data/host_name_dns");
    harness.write("feature/hotplug/vif", "0");
    harness.settle();
    assert_eq!(harness.read("data/host_name_dns"), None);
    harness.server.store_mut().keep_requests(true);
    harness.agent.compare();
    harness.settle();
    assert_eq!(harness.read("data/host_name_dns").as_deref(), Some("web1"));
    assert_eq!(harness.read("feature/hotplug/vif").as_deref(), Some("1"));
    let requests = harness.server.store_mut().take_requests();
    let written: Vec<_> = requests
        .iter()
        .filter(|request| request.kind == Kind::WRITE)
        .map(|request| &request.path)
        .collect();
    let of = |name: &str| {
        written
            .iter()
            .position(|path| path.ends_with(name))
            .unwrap_or_else(|| panic!("{written:?}"))
    };
    assert!(
        of("data/meminfo_free") < of("attr/PVAddons/Installed"),
        "{written:?}"
    );
    assert!(
        of("data/host_name_dns") < of("attr/PVAddons/Installed"),
        "a watched node is last: {written:?}"
    );
    assert!(
        requests
            .iter()
            .all(|request| !request.path.contains("attr/vif"))
    );
}

#[test]
fn a_resumed_domain_is_published_again_and_slots_are_kept() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.agent.update(|guest| {
        guest.interfaces.get_mut(&2).unwrap().addresses.remove(0);
        true
    });
    harness.settle();
    assert_eq!(
        (
            harness.read("attr/vif/0/ipv4/0"),
            harness.read("attr/vif/0/ipv4/1").as_deref()
        ),
        (None, Some("10.0.0.2"))
    );
    for path in ["data", "attr", "feature"] {
        harness.remove(path);
    }
    harness
        .server
        .store_mut()
        .introduce_guest(DOMAIN, Toolstack::Xapi);
    harness.server.store_mut().resume(DOMAIN);
    harness.server.process();
    harness.now += Duration::from_secs(1000);
    harness.settle();
    assert_eq!(
        harness.read("attr/vif/0/ipv4/1").as_deref(),
        Some("10.0.0.2")
    );
    assert_eq!(
        harness.read("data/updated").as_deref(),
        Some("Thu Jan  1 00:18:20 1970")
    );
}

#[test]
fn a_flapping_guest_is_held_back_and_right_in_the_end() {
    let mut harness = Harness::new(Toolstack::Xapi);
    let writes = harness.requests(Kind::WRITE);
    for millisecond in 0..10_000_u32 {
        harness.set_address(u8::try_from(millisecond % 250).unwrap());
        harness.pass(Duration::from_millis(1));
    }
    harness.set_address(250);
    harness.pass(Duration::from_secs(1));
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.250")
    );
    // A change of an address at its place is one write; its prefix stays.
    let publications = harness.requests(Kind::WRITE) - writes;
    assert!(
        (50..=80).contains(&publications),
        "{publications} publications"
    );
}

#[test]
fn a_refused_node_is_not_asked_for_again_before_a_resume_or_on_demand() {
    let mut harness = Harness::new(Toolstack::Libxl);
    harness.agent.update(|guest| {
        guest.balloon = true;
        true
    });
    harness.server.store_mut().keep_requests(true);
    for _ in 0..5 {
        harness.agent.update(|_| true);
        harness.pass(Duration::from_secs(700));
        harness.agent.compare();
        harness.settle();
    }
    let asked = |harness: &mut Harness| {
        let requests = harness.server.store_mut().take_requests();
        let writes = requests
            .iter()
            .filter(|request| request.kind == Kind::WRITE);
        writes
            .filter(|request| request.path.ends_with("feature-balloon"))
            .count()
    };
    assert_eq!(asked(&mut harness), 1);
    harness.server.store_mut().resume(DOMAIN);
    harness.server.process();
    harness.settle();
    assert_eq!(asked(&mut harness), 1);
    harness.agent.retry_refused();
    harness.settle();
    assert_eq!(asked(&mut harness), 1);
}

#[test]
fn another_schema_takes_the_place_of_the_first() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.agent.set_schema(Name::Rfc, Filter::default());
    harness.settle();
    assert_eq!(
        (
            harness.read("attr/vif/0/ipv4/0"),
            harness.read("data/net/2").as_deref()
        ),
        (None, Some("eth0"))
    );
    harness.agent.set_schema(
        Name::Std,
        Filter {
            without_interfaces: vec!["eth*".parse().unwrap()],
            ..Filter::default()
        },
    );
    harness.settle();
    assert_eq!(
        (harness.read("attr/vif/0/name"), harness.read("data/net/2")),
        (None, None)
    );
    harness.agent.set_schema(Name::Std, Filter::default());
    harness.settle();
    assert_eq!(
        harness.read("attr/vif/0/ipv4/1").as_deref(),
        Some("10.0.0.2")
    );
}

#[test]
fn a_full_quota_leaves_out_and_makes_up() {
    let mut harness = Harness::new(Toolstack::Xapi);
    let refusal = |code| Refusal {
        domain: DOMAIN,
        kind: Some(Kind::WRITE),
        path: Path::new("attr/vif").unwrap(),
        code,
    };
    harness.server.store_mut().faults.refuse = vec![refusal(ErrorCode::ENOSPC)];
    harness.set_address(7);
    harness.settle();
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        None,
        "what is refused is not left as it was"
    );
    harness.server.store_mut().faults.refuse.clear();
    harness.agent.compare();
    harness.settle();
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.7")
    );
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0/prefix").as_deref(),
        Some("24")
    );
}

#[test]
fn a_lost_connection_is_made_again_with_growing_pauses() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.server = Server::new({
        let mut store = Store::new();
        store.introduce_guest(DOMAIN, Toolstack::Xapi);
        store
    });
    harness.agent.on_readable(harness.now);
    assert!(harness.agent.connection().is_none() && !harness.agent.is_published());
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let deadline = harness.agent.deadline().unwrap();
        pauses.push(deadline.saturating_sub(harness.now).as_secs());
        assert!(!harness.agent.wants_connection(harness.now));
        harness.now = deadline;
        assert!(harness.agent.wants_connection(harness.now));
        harness.agent.connect(
            Err(xenstore::Error::NotFound("no socket".to_owned())),
            harness.now,
        );
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    harness.now = harness.agent.deadline().unwrap();
    harness.connect();
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.0.1")
    );
}

fn volume(name: &str, free: u64) -> Volume {
    Volume {
        name: name.to_owned(),
        size: 1 << 30,
        free: Some(free),
        file_system: Some("ext4".to_owned()),
        mount_point: Some(format!("/{name}")),
        disk: None,
    }
}

#[test]
fn a_volume_that_comes_or_goes_moves_no_other() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.write("data/volumes/9/name", "of a withdrawn agent");
    harness.agent.update(|guest| {
        guest.volumes = vec![volume("a", 1), volume("b", 2), volume("c", 3)];
        true
    });
    harness.agent.compare();
    harness.settle();
    assert_eq!(harness.read("data/volumes/2/free").as_deref(), Some("3"));
    assert_eq!(harness.read("data/volumes/9/name"), None);
    let changes = |harness: &mut Harness, volumes: Vec<Volume>| {
        harness.server.store_mut().keep_requests(true);
        harness.server.store_mut().take_requests();
        harness.agent.update(|guest| {
            guest.volumes = volumes;
            true
        });
        harness.settle();
        let requests = harness.server.store_mut().take_requests();
        requests
            .into_iter()
            .map(|request| (request.kind, request.path.replace("/local/domain/5", "")))
            .collect::<Vec<_>>()
    };
    let removed = changes(&mut harness, vec![volume("b", 2), volume("c", 3)]);
    assert_eq!(
        removed.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
        [Kind::RM],
        "{removed:?}"
    );
    let written = changes(&mut harness, vec![volume("b", 20), volume("c", 3)]);
    assert_eq!(written.len(), 1, "{written:?}");
    assert_eq!(harness.read("data/volumes/1/free").as_deref(), Some("20"));
    // Another agent finds all in its place.
    let guest = harness.agent.guest().clone();
    harness.agent = Agent::new(guest, Schema::default());
    let writes = harness.requests(Kind::WRITE) + harness.requests(Kind::RM);
    harness.connect();
    assert_eq!(
        harness.requests(Kind::WRITE) + harness.requests(Kind::RM),
        writes
    );
    assert_eq!(harness.read("data/volumes/2/name").as_deref(), Some("c"));
}

/// The agent with a directory of services.
struct Services {
    harness: Harness,
    home: tempfile::TempDir,
    directory: Directory,
}

impl Services {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("services.d")).unwrap();
        let mut services = Services {
            harness: Harness::new(Toolstack::Xapi),
            directory: Self::open(&home),
            home,
        };
        services.read();
        services
    }

    fn open(home: &tempfile::TempDir) -> Directory {
        Directory::open(
            Root::new(home.path()),
            "/services.d",
            Some(home.path().join("state")),
        )
    }

    fn set(&self, name: &str, text: Option<&str>) {
        let file = self.home.path().join("services.d").join(name);
        text.map_or_else(
            || std::fs::remove_file(&file),
            |text| std::fs::write(&file, text),
        )
        .unwrap();
    }

    fn read(&mut self) {
        let directory = &mut self.directory;
        self.harness
            .agent
            .update(|guest| directory.read(&mut guest.services));
        self.settle();
    }

    fn settle(&mut self) {
        self.harness.settle();
        assert!(self.harness.agent.is_published());
        let directory = &mut self.directory;
        self.harness.agent.update(|guest| {
            directory.forget_withdrawn(&mut guest.services);
            false
        });
    }

    /// What another program publishes.
    fn write(&mut self, path: &str, value: &str) {
        self.harness.write(&format!("data/service/{path}"), value);
    }

    /// The nodes below `data/service` that are there, of some.
    fn there(&self) -> Vec<&'static str> {
        let mut nodes = vec![
            "web",
            "web/port",
            "web/state",
            "db",
            "db/state",
            "db/old",
            "their",
            "their/state",
        ];
        nodes.retain(|node| self.harness.read(&format!("data/service/{node}")).is_some());
        nodes
    }

    fn restart(&mut self) {
        self.directory = Self::open(&self.home);
        let mut services = xen_guest_agent::guest::Services::default();
        self.directory.read(&mut services);
        self.harness.agent = Agent::new(
            Guest {
                services,
                ..guest()
            },
            Schema::default(),
        );
        self.harness.connect();
        self.settle();
    }
}

#[test]
fn services_come_and_go_and_those_of_others_stay() {
    let mut bed = Services::new();
    bed.write("their/state", "up");
    bed.set("web.conf", Some("state = up\nport = 80\n"));
    bed.read();
    assert_eq!(
        bed.harness.read("data/service/web/port").as_deref(),
        Some("80")
    );
    bed.set("web.conf", Some("port = 81\n"));
    let requests = bed.harness.server.store().requests(DOMAIN);
    bed.read();
    // A write and a removal.
    assert_eq!(bed.harness.server.store().requests(DOMAIN) - requests, 2);
    assert_eq!(
        bed.harness.read("data/service/web/port").as_deref(),
        Some("81")
    );
    assert_eq!(bed.there(), ["web", "web/port", "their", "their/state"]);
    bed.set("web.conf", None);
    bed.read();
    assert_eq!(bed.there(), ["their", "their/state"]);
    // It is another's now.
    bed.write("web/port", "82");
    bed.harness.agent.update(|_| true);
    bed.harness.agent.compare();
    bed.settle();
    bed.restart();
    assert_eq!(bed.there(), ["web", "web/port", "their", "their/state"]);
}

#[test]
fn services_that_went_while_the_agent_was_down_are_taken_back() {
    let mut bed = Services::new();
    bed.set("web.conf", Some("state = up\n"));
    bed.set("db.conf", Some("state = up\n"));
    bed.read();
    bed.write("their/state", "up");
    bed.write("db/old", "1");
    bed.set("web.conf", None);
    let writes = bed.harness.requests(Kind::WRITE);
    bed.restart();
    assert_eq!(bed.there(), ["db", "db/state", "their", "their/state"]);
    assert_eq!(
        bed.harness.requests(Kind::WRITE),
        writes,
        "what was right was written again"
    );
    bed.write("web/state", "another's");
    bed.restart();
    assert_eq!(
        bed.there(),
        ["web", "web/state", "db", "db/state", "their", "their/state"]
    );
}

#[test]
fn services_are_not_forgotten_before_they_are_gone() {
    let mut bed = Services::new();
    bed.set("web.conf", Some("state = up\n"));
    bed.read();
    bed.set("web.conf", None);
    // Down before it could do anything.
    let directory = &mut bed.directory;
    bed.harness.agent.update(|guest| {
        let changed = directory.read(&mut guest.services);
        assert!(changed);
        changed
    });
    assert!(!bed.harness.agent.is_published());
    bed.restart();
    assert_eq!(bed.there(), [""; 0]);
}

#[test]
fn services_are_published_again_after_a_resume() {
    let mut bed = Services::new();
    bed.set("web.conf", Some("state = up\n"));
    bed.read();
    bed.harness.remove("data");
    bed.harness
        .server
        .store_mut()
        .introduce_guest(DOMAIN, Toolstack::Xapi);
    bed.harness.server.store_mut().resume(DOMAIN);
    bed.harness.server.process();
    bed.settle();
    assert_eq!(bed.there(), ["web", "web/state"]);
    // And when somebody removed them, with the next comparison.
    bed.harness.remove("data/service");
    bed.harness.agent.compare();
    bed.settle();
    assert_eq!(bed.there(), ["web", "web/state"]);
}
