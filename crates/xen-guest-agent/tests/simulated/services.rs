//! Services from files.

use xen_guest_agent::agent::Agent;
use xen_guest_agent::collect::services::Directory;
use xen_guest_agent::guest::Guest;
use xen_guest_agent::platform::{Platform, System};
use xen_guest_agent::root::Root;
use xen_guest_agent::schema::Schema;
use xenstore::embedded::Toolstack;
use xenstore::wire::MessageKind;

use crate::harness::{DOMAIN, Harness, guest};

/// An agent with a directory of services.
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
            &System::new(Root::new(home.path())),
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

    /// Writes a service node as another program.
    fn write(&mut self, path: &str, value: &str) {
        self.harness.write(&format!("data/service/{path}"), value);
    }

    /// Returns the nodes below `data/service` that exist, from a fixed list.
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
fn services_are_published_and_removed_and_foreign_ones_kept() {
    let mut services = Services::new();
    services.write("their/state", "up");
    services.set("web.conf", Some("state = up\nport = 80\n"));
    services.read();
    assert_eq!(
        services.harness.read("data/service/web/port").as_deref(),
        Some("80")
    );
    services.set("web.conf", Some("port = 81\n"));
    let requests = services.harness.server.store().request_count(DOMAIN);
    services.read();

    // One write and one removal.
    assert_eq!(
        services.harness.server.store().request_count(DOMAIN) - requests,
        2
    );
    assert_eq!(
        services.harness.read("data/service/web/port").as_deref(),
        Some("81")
    );
    assert_eq!(
        services.there(),
        ["web", "web/port", "their", "their/state"]
    );
    services.set("web.conf", None);
    services.read();
    assert_eq!(services.there(), ["their", "their/state"]);

    // The service belongs to another program now.
    services.write("web/port", "82");
    services.harness.agent.update(|_| true);
    services.harness.agent.compare();
    services.settle();
    services.restart();
    assert_eq!(
        services.there(),
        ["web", "web/port", "their", "their/state"]
    );
}

#[test]
fn services_removed_while_agent_was_stopped_are_withdrawn() {
    let mut services = Services::new();
    services.set("web.conf", Some("state = up\n"));
    services.set("db.conf", Some("state = up\n"));
    services.read();
    services.write("their/state", "up");
    services.write("db/old", "1");
    services.set("web.conf", None);
    let writes = services.harness.requests(MessageKind::WRITE);
    services.restart();
    assert_eq!(services.there(), ["db", "db/state", "their", "their/state"]);
    assert_eq!(
        services.harness.requests(MessageKind::WRITE),
        writes,
        "a correct node was written again"
    );
    services.write("web/state", "another's");
    services.restart();
    assert_eq!(
        services.there(),
        ["web", "web/state", "db", "db/state", "their", "their/state"]
    );
}

#[test]
fn withdrawn_services_are_remembered_until_removed() {
    let mut services = Services::new();
    services.set("web.conf", Some("state = up\n"));
    services.read();
    services.set("web.conf", None);

    // The agent ends before it can publish.
    let directory = &mut services.directory;
    services.harness.agent.update(|guest| {
        let changed = directory.read(&mut guest.services);
        assert!(changed);
        changed
    });
    assert!(!services.harness.agent.is_published());
    services.restart();
    assert_eq!(services.there(), [""; 0]);
}

#[test]
fn services_are_republished_after_resume() {
    let mut services = Services::new();
    services.set("web.conf", Some("state = up\n"));
    services.read();
    services.harness.remove("data");
    services
        .harness
        .server
        .store_mut()
        .introduce_guest(DOMAIN, Toolstack::Xapi);
    services.harness.server.store_mut().resume(DOMAIN);
    services.harness.server.process();
    services.settle();
    assert_eq!(services.there(), ["web", "web/state"]);

    // Removed services are restored at the next comparison.
    services.harness.remove("data/service");
    services.harness.agent.compare();
    services.settle();
    assert_eq!(services.there(), ["web", "web/state"]);
}
