//! A guest of a real Xen, controlled by `xl`.

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
use xenstore::{Client, Nodes};

/// Names and values of nodes.
pub(crate) type Tree = BTreeMap<String, String>;

/// Timeout for anything that is slow under emulation.
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

/// A guest in which the agent runs. Dropping it destroys the domain.
pub(crate) struct Domain {
    name: String,
    /// Unique, because a bridge connects the guests.
    pub(crate) mac: String,
    id: u16,
    pub(crate) dom0: Client,
    /// Number of commands that the guest has run.
    answers: usize,
    directory: TempDir,
}

/// Runs a test with a fully published guest. The test must restore the guest's state.
///
/// Starting a guest takes longer than most tests, so successful tests share it. The last guest
/// keeps running when the program has ended.
pub(crate) fn with_guest(test: impl FnOnce(&mut Domain)) {
    static IDLE: Mutex<Vec<Domain>> = Mutex::new(Vec::new());
    let idle = IDLE.lock().unwrap().pop();
    let mut domain = idle.unwrap_or_else(|| Domain::start(|_, _, _| ()));
    test(&mut domain);
    IDLE.lock().unwrap().push(domain);
}

impl Domain {
    /// Starts a guest with `xl`, and waits until it is fully published. `change` may modify its
    /// tree, the path of which is the last argument, before the guest runs.
    pub(crate) fn start(change: impl FnOnce(&mut Client, u16, &str)) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("guest-{number}");
        let mac = format!("00:16:3e:00:{number:02x}:01");
        let files = std::env::var(GUEST_FILES).expect("SYSTEM_TESTS_GUEST_FILES is set");
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
            "{} fully published {} ms after its start",
            domain.name,
            begin.elapsed().as_millis()
        );
        domain
    }

    /// Returns the path of a file in domain 0 that is removed with the guest.
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

    /// Whether the domain with this ID has ended.
    pub(crate) fn is_gone(&mut self) -> bool {
        self.dom0.read(format!("{}/name", self.home())).is_err()
    }

    /// Waits until another domain has this name.
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

    /// Returns the console output of the guest.
    pub(crate) fn log(&self) -> String {
        let log = Path::new("/var/log/xen/console").join(format!("guest-{}.log", self.name));
        String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
    }

    /// Runs a shell command in the guest, and requires that it succeeds.
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

    /// Returns the nodes that the agent publishes.
    pub(crate) fn nodes(&mut self) -> Tree {
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
    pub(crate) fn await_nodes(&mut self, condition: impl Fn(&Tree) -> bool) -> Tree {
        self.await_nodes_for(TIMEOUT, condition)
    }

    #[track_caller]
    pub(crate) fn await_nodes_for(
        &mut self,
        timeout: Duration,
        condition: impl Fn(&Tree) -> bool,
    ) -> Tree {
        let deadline = Instant::now() + timeout;
        loop {
            let nodes = self.nodes();
            if condition(&nodes) {
                return nodes;
            }
            // Reading the tree uses CPU time, which is scarce here.
            sleep(Duration::from_millis(100));
            assert!(
                Instant::now() < deadline,
                "the nodes do not satisfy the condition: {nodes:#?}\nConsole of the guest:\n{}",
                self.log()
            );
        }
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // The domain may have ended already.
        Command::new("xl")
            .args(["destroy", &self.name])
            .output()
            .ok();
    }
}
