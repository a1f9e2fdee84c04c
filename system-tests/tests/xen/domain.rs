//! A guest of a real Xen, as its toolstack `xl` and other domains see it.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use system_tests::{GUEST_FILES, eventually, tree};
use tempfile::TempDir;
use xenstore::Client;

/// Names and values of nodes.
pub(crate) type Nodes = BTreeMap<String, String>;

/// Everything takes long under emulation.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs `xl`.
#[track_caller]
pub(crate) fn xl(arguments: &[&str]) {
    let output = Command::new("xl").args(arguments).output().expect("run xl");
    assert!(
        output.status.success(),
        "xl {}: {}:\n{}{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A guest in which the agent runs. Ends when dropped.
pub(crate) struct Domain {
    name: String,
    /// No two guests have the same: the bridge connects them.
    pub(crate) mac: String,
    id: u16,
    pub(crate) dom0: Client,
    /// How many commands it has run.
    answers: usize,
    directory: TempDir,
}

/// Gives the test a guest that is published whole, and that it leaves as it was.
///
/// To start one takes longer than what most tests do, so it goes from test to test, but not from one that failed. The last
/// one runs on when the program has ended.
pub(crate) fn with_guest(test: impl FnOnce(&mut Domain)) {
    static IDLE: Mutex<Vec<Domain>> = Mutex::new(Vec::new());
    let idle = IDLE.lock().unwrap().pop();
    let mut domain = idle.unwrap_or_else(|| Domain::start(|_, _, _| ()));
    test(&mut domain);
    IDLE.lock().unwrap().push(domain);
}

impl Domain {
    /// Starts a guest as `xl` makes it, and waits until it is published whole. Before it runs, its tree, the path of which
    /// comes last, may be changed.
    pub(crate) fn start(change: impl FnOnce(&mut Client, u16, &str)) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("guest-{number}");
        let mac = format!("00:16:3e:00:{number:02x}:01");
        let files = std::env::var(GUEST_FILES).expect("what guests boot");
        let directory = tempfile::tempdir().expect("make a temporary directory");
        let config = directory.path().join("config");
        let text = format!(
            "name = '{name}'\ntype = 'pv'\nkernel = '{files}/kernel'\nramdisk = '{files}/initramfs'\nmemory = 192\n\
             extra = 'console=hvc0 loglevel=4 mitigations=off nokaslr panic=-1 rdinit=/init'\n\
             vif = ['mac={mac},bridge=xenbr0']\n"
        );
        fs::write(&config, text).expect("write the guest's settings");
        xl(&["create", "-p", &config.to_string_lossy()]);
        let mut domain = Domain {
            name,
            mac,
            id: 0,
            dom0: Client::open().expect("open Xenstore"),
            answers: 0,
            directory,
        };
        domain.await_another();
        let home = domain.home();
        change(&mut domain.dom0, domain.id, &home);
        xl(&["unpause", &domain.name]);
        let begin = Instant::now();
        domain.await_nodes(|nodes| nodes.contains_key("attr/vif/0/ipv6/1/prefix"));
        println!(
            "{} whole {} ms after its start",
            domain.name,
            begin.elapsed().as_millis()
        );
        domain
    }

    /// A file of domain 0 that goes with the guest.
    pub(crate) fn file(&self, name: &str) -> String {
        self.directory
            .path()
            .join(name)
            .to_string_lossy()
            .into_owned()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn home(&self) -> String {
        format!("/local/domain/{}", self.id)
    }

    /// Whether the domain of this name is another now, or none.
    pub(crate) fn is_gone(&mut self) -> bool {
        self.dom0.read(format!("{}/name", self.home())).is_err()
    }

    /// Waits until there is another domain of this name.
    pub(crate) fn await_another(&mut self) {
        let (name, before) = (self.name.clone(), self.id);
        let dom0 = &mut self.dom0;
        self.id = eventually(
            || {
                let ids = dom0.list("/local/domain").ok()?;
                let mut ids = ids.into_iter().filter_map(|id| id.parse::<u16>().ok());
                ids.find(|id| {
                    *id != before
                        && dom0
                            .read(format!("/local/domain/{id}/name"))
                            .is_ok_and(|found| found == name.as_bytes())
                })
            },
            TIMEOUT,
        );
    }

    /// All that the guest has said on its console.
    pub(crate) fn log(&self) -> String {
        let log = Path::new("/var/log/xen/console").join(format!("guest-{}.log", self.name));
        String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
    }

    /// Runs a command line in the guest.
    #[track_caller]
    pub(crate) fn run(&mut self, command: &str) {
        let tty = self
            .dom0
            .read(format!("{}/console/tty", self.home()))
            .expect("the guest's console");
        let tty = String::from_utf8(tty).expect("a path");
        let mut console = OpenOptions::new()
            .write(true)
            .open(tty)
            .expect("open the guest's console");
        console
            .write_all(format!("{command}\n").as_bytes())
            .expect("write to the guest's console");
        let answer = eventually(
            || {
                let log = self.log();
                let mut answers = log
                    .lines()
                    .filter_map(|line| line.trim().strip_prefix("status "));
                answers.nth(self.answers).map(str::to_owned)
            },
            TIMEOUT,
        );
        self.answers += 1;
        assert_eq!(
            answer,
            "0",
            "{command} failed in the guest:\n{}",
            self.log()
        );
    }

    /// What stands in Xenstore where the agent publishes.
    pub(crate) fn nodes(&mut self) -> Nodes {
        let home = self.home();
        let mut nodes = tree(&mut self.dom0, &home);
        nodes.retain(|path, value| {
            ["attr/", "data/", "feature/", "control/feature-balloon"]
                .iter()
                .any(|own| path.starts_with(own))
                && !(value.is_empty() && path != "control/feature-balloon")
        });
        nodes
    }

    #[track_caller]
    pub(crate) fn await_nodes(&mut self, is_right: impl Fn(&Nodes) -> bool) -> Nodes {
        self.await_nodes_for(TIMEOUT, is_right)
    }

    #[track_caller]
    pub(crate) fn await_nodes_for(
        &mut self,
        timeout: Duration,
        is_right: impl Fn(&Nodes) -> bool,
    ) -> Nodes {
        let deadline = Instant::now() + timeout;
        loop {
            let nodes = self.nodes();
            if is_right(&nodes) {
                return nodes;
            }
            // Looking takes processor time, of which there is little.
            sleep(Duration::from_millis(100));
            assert!(
                Instant::now() < deadline,
                "still not so: {nodes:#?}\nThe guest said:\n{}",
                self.log()
            );
        }
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // It may have ended by itself.
        Command::new("xl")
            .args(["destroy", &self.name])
            .output()
            .ok();
    }
}
