//! Settings of the agent: files, SIGHUP, and the commands `config` and `show`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Output};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use system_tests::{
    FakeRoot, Network, Profile, build, eventually, is_published, is_published_with_link_local,
    tree, without_start_lines,
};
use xenstore::embedded::{Fault, Server, ServerHandle, Store, Toolstack};
use xenstore::wire::MessageKind;
use xenstore::{Client, ErrorCode, Path};

const TIMEOUT: Duration = Duration::from_secs(10);
const DOMAIN: u16 = 5;

/// An agent with a configuration file, in a guest of an embedded Xenstore server.
struct Testbed {
    root: FakeRoot,
    server: ServerHandle,
    process: Child,
}

impl Testbed {
    fn start(settings: &str, mut command: Command) -> Self {
        let root = FakeRoot::new();
        root.add_vif("lan", 0);
        write(&root, settings);
        let mut store = Store::new();
        store.introduce_guest(DOMAIN, Toolstack::Libxl);
        let mut server = Server::new(store);
        server.listen(root.join("socket"), DOMAIN).unwrap();
        let server = server.spawn().unwrap();
        let log = fs::File::create(root.join("log")).unwrap();
        command
            .arg("--stderr")
            .arg("--config")
            .arg(root.join("config.toml"));
        command
            .arg("--xenstore")
            .arg(format!("socket={}", root.join("socket").display()));
        let process = command.env_remove("RUST_LOG").stderr(log).spawn().unwrap();
        Testbed {
            root,
            server,
            process,
        }
    }

    fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.root.join("log")).unwrap();
        let log = without_start_lines(&log);
        log.lines().map(str::to_owned).collect()
    }

    fn nodes(&self) -> BTreeMap<String, String> {
        let mut client = Client::new(self.server.connect(0).unwrap().into());
        tree(&mut client, &format!("/local/domain/{DOMAIN}"))
    }

    #[track_caller]
    fn await_nodes(
        &self,
        is_right: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> BTreeMap<String, String> {
        eventually(
            || Some(self.nodes()).filter(|nodes| is_right(nodes)),
            TIMEOUT,
        )
    }

    /// Changes the settings, sends SIGHUP, and returns the new log lines without the agent's name,
    /// once a line contains `last`.
    #[track_caller]
    fn reload(&self, settings: &str, last: &str) -> Vec<String> {
        let before = self.log().len();
        write(&self.root, settings);
        kill_process(Pid::from_child(&self.process), Signal::HUP).unwrap();
        let file = self.root.join("config.toml").display().to_string();
        eventually(
            || {
                let mut logged: Vec<_> = self.log()[before..]
                    .iter()
                    .map(|line| {
                        line.trim_start_matches("xen-guest-agent: ")
                            .replace(&file, "FILE")
                    })
                    .collect();
                let end = logged.iter().rposition(|line| line.contains(last))?;
                // Debug messages of the next publication may follow.
                logged.truncate(end + 1);
                Some(logged)
            },
            TIMEOUT,
        )
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Writes the configuration file. Its first line sets `root` unless `settings` does.
fn write(root: &FakeRoot, settings: &str) {
    let first = if settings.contains("root") {
        String::new()
    } else {
        format!("root = \"{}\"", root.path().display())
    };
    root.write("config.toml", &format!("{first}\n{settings}"));
}

fn agent() -> Command {
    Command::new(build("xen-guest-agent", Profile::Debug))
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.env_remove("RUST_LOG").output().unwrap();
    (
        status.code(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

#[test]
fn sighup_applies_valid_settings() {
    let testbed = Testbed::start("network.mode = \"off\"\n", agent());
    testbed.await_nodes(|nodes| {
        nodes.contains_key("data/updated") && nodes.contains_key("data/os_name")
    });
    let logged = testbed.reload(
        "schema = \"rfc\"\nloglevel = \"debug\"\nnetwork.mode = \"off\"",
        "settings reloaded",
    );
    assert_eq!(logged, ["info: settings reloaded"]);
    let nodes = testbed.await_nodes(|nodes| {
        nodes.contains_key("data/os/name") && !nodes.contains_key("data/os_name")
    });
    assert!(
        nodes.contains_key("data/meminfo_free") && nodes.contains_key("attr/PVAddons/MajorVersion")
    );

    // This message shows that the new log level is in effect.
    testbed.server.with(|server| {
        server
            .store_mut()
            .write(format!("/local/domain/{DOMAIN}/data/os_name"), "x")
            .unwrap();
    });
    eventually(
        || {
            testbed
                .log()
                .iter()
                .any(|line| line.contains("debug: another process changed data/os_name"))
        },
        TIMEOUT,
    );
    testbed.reload("network.mode = \"off\"\n", "settings reloaded");
    testbed
        .await_nodes(|nodes| nodes.contains_key("data/os_name") && !nodes.contains_key("data/os"));
}

#[test]
fn log_filter_selects_messages_of_the_xenstore_library() {
    let settings = "loglevel = \"warn,xenstore=debug\"\nnetwork.mode = \"off\"";
    let testbed = Testbed::start(settings, agent());
    testbed.await_nodes(|nodes| nodes.contains_key("data/os_name"));
    testbed
        .server
        .with(|server| server.store_mut().release(DOMAIN));

    let socket = testbed.root.join("socket").display().to_string();
    let connected = format!("xen-guest-agent: debug: connected to {socket}");
    let disconnected = format!(
        "xen-guest-agent: debug: disconnected from {socket}: \
         the Xenstore server at {socket} closed the connection"
    );
    let log = eventually(
        || Some(testbed.log()).filter(|log| log.contains(&disconnected)),
        TIMEOUT,
    );
    assert_eq!(log[0], connected);
    assert!(!log.iter().any(|line| line.contains("info:")), "{log:?}");
}

#[test]
fn sighup_with_invalid_settings_keeps_the_old_ones() {
    let testbed = Testbed::start("network.mode = \"off\"\n", agent());
    testbed.await_nodes(is_published);
    let before = testbed.nodes();
    let logged = testbed.reload(
        "loglevel = \"debug\"\nschema = \"x\"",
        "keeping the old settings",
    );
    assert_eq!(
        logged,
        [
            "error: keeping the old settings: FILE:3: schema: invalid value \"x\"; expected std or rfc"
        ]
    );
    assert_eq!(testbed.nodes(), before);

    // The invalid file did not change the log level either.
    let logged = testbed.reload("network.mode = \"off\"", "settings reloaded");
    assert_eq!(logged, ["info: settings reloaded"]);
}

#[test]
fn sighup_retries_denied_writes() {
    let testbed = Testbed::start("network.mode = \"off\"\n", agent());
    let before = testbed.await_nodes(|nodes| nodes.contains_key("data/os_name"));
    for (settings, last) in [
        ("network.mode = \"off\"", "settings reloaded"),
        ("schema = \"x\"", "keeping the old settings"),
    ] {
        testbed.server.with(|server| {
            let refusal = Fault::refuse(ErrorCode::EACCES)
                .of(DOMAIN)
                .of_kind(MessageKind::WRITE)
                .at(Path::new("data/os_name").unwrap());
            server.store_mut().inject(refusal);
            server
                .store_mut()
                .write(format!("/local/domain/{DOMAIN}/data/os_name"), "theirs")
                .unwrap();
        });
        eventually(
            || {
                testbed.log().last().is_some_and(|line| {
                    line.contains("WRITE data/os_name: no write access (EACCES)")
                })
            },
            TIMEOUT,
        );
        testbed
            .server
            .with(|server| server.store_mut().clear_faults());
        testbed.reload(settings, last);
        testbed.await_nodes(|nodes| nodes.get("data/os_name") == before.get("data/os_name"));
    }
}

#[test]
fn sighup_warns_about_settings_that_need_a_restart() {
    let testbed = Testbed::start("network.mode = \"off\"\n", agent());
    testbed.await_nodes(|nodes| nodes.contains_key("data/os_name"));

    // The command line sets `xenstore`, and overrides the file.
    let logged = testbed.reload(
        "root = \"/proc\"\nxenstore = \"auto\"\nnetwork.mode = \"off\"\nschema = \"rfc\"",
        "settings reloaded",
    );
    assert_eq!(
        logged,
        [
            "warning: root = \"/proc\" takes effect after a restart",
            "info: settings reloaded"
        ]
    );
    let nodes = testbed.await_nodes(|nodes| nodes.contains_key("data/os/name"));

    // Each reload repeats the warning.
    assert_eq!(
        testbed
            .reload(
                "root = \"/proc\"\nnetwork.mode = \"off\"",
                "settings reloaded"
            )
            .len(),
        2
    );
    let volumes = [
        "warning: volumes.enabled = true takes effect after a restart",
        "info: settings reloaded",
    ];
    for _ in 0..2 {
        assert_eq!(
            testbed.reload(
                "volumes.enabled = true\nnetwork.mode = \"off\"",
                "settings reloaded"
            ),
            volumes
        );
    }
    assert_eq!(
        testbed.reload("network.mode = \"off\"", "settings reloaded"),
        ["info: settings reloaded"]
    );
    assert_eq!(nodes["data/os/name"], "Debian GNU/Linux 12 (bookworm)");
}

#[test]
#[ignore = "needs root"]
fn sighup_switches_the_network_mode() {
    let network = Network::new();
    network.add_interface("lan");
    network.ip("addr add 10.0.0.2/24 dev lan");
    network.ip("addr add 10.1.0.2/24 dev lan");
    let testbed = Testbed::start(
        "",
        network.command(build("xen-guest-agent", Profile::Debug)),
    );
    let has = |nodes: &BTreeMap<String, String>, address: &str| {
        nodes.values().any(|value| value == address)
    };
    testbed.await_nodes(|nodes| has(nodes, "10.0.0.2") && has(nodes, "10.1.0.2"));
    testbed.reload(
        "network.leave-out-addresses = [\"10.1.0.0/16\"]",
        "settings reloaded",
    );
    testbed.await_nodes(|nodes| has(nodes, "10.0.0.2") && !has(nodes, "10.1.0.2"));
    testbed.reload("network.mode = \"off\"", "settings reloaded");
    testbed.await_nodes(|nodes| !nodes.contains_key("attr/vif/0"));
    testbed.reload(
        "[network]\nmode = \"poll\"\npoll-period = 0.05",
        "settings reloaded",
    );
    testbed.await_nodes(|nodes| has(nodes, "10.1.0.2"));
    network.ip("addr add 10.2.0.2/24 dev lan");
    testbed.await_nodes(|nodes| has(nodes, "10.2.0.2"));
    testbed.reload("", "settings reloaded");
    network.ip("addr del 10.2.0.2/24 dev lan");
    testbed.await_nodes(|nodes| has(nodes, "10.1.0.2") && !has(nodes, "10.2.0.2"));
}

#[test]
#[ignore = "needs root"]
fn show_prints_the_published_nodes() {
    let network = Network::new();
    network.add_interface("lan");
    network.ip("addr add 10.0.0.2/24 dev lan");
    let testbed = Testbed::start(
        "",
        network.command(build("xen-guest-agent", Profile::Debug)),
    );

    testbed.await_nodes(is_published_with_link_local);
    let published = testbed.nodes();
    for mode in ["netlink", "poll"] {
        let mut command = network.command(build("xen-guest-agent", Profile::Debug));
        command
            .args(["show", "--format", "json", "--network-mode", mode, "--root"])
            .arg(testbed.root.path());
        let (code, stdout, stderr) = run(&mut command);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        let mut count = 0;
        for line in stdout.lines().filter(|line| !line.contains("data/updated")) {
            let Some((path, value)) = line.trim().trim_end_matches(',').split_once(": ") else {
                continue;
            };
            assert_eq!(
                published.get(path.trim_matches('"')).map(String::as_str),
                Some(value.trim_matches('"')),
                "{line}"
            );
            count += 1;
        }
        assert!(count > 15, "{stdout}");
    }
}

#[test]
fn show_works_without_xen() {
    let root = FakeRoot::new();
    let (code, stdout, stderr) = run(agent()
        .args(["show", "--network-mode=off", "--root"])
        .arg(root.path()));
    assert_eq!(code, Some(0));
    let hint = "xen-guest-agent: warning: none of the network interfaces is a VIF; to treat all of them as VIFs, run: xen-guest-agent show --all-interfaces\n";
    assert_eq!(stderr, hint);
    for line in [
        "attr = \"\"\n PVAddons = \"\"\n",
        "\n meminfo_total = \"1048576\"\n",
        "\n os_minorver = \"5\"\n",
    ] {
        assert!(stdout.contains(line), "{line} is not in {stdout}");
    }
    let (code, stdout, stderr) = run(agent()
        .args(["show", "--schema=rfc", "--format=json", "--root"])
        .arg(root.path()));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(
        stdout.contains("\n  \"data/os/version\": \"12.5\",\n"),
        "{stdout}"
    );
}

#[test]
fn config_prints_origins_and_errors() {
    let root = FakeRoot::new();
    root.write("config.toml", "\n[memory]\nperiod = 5\n");
    let file = root.join("config.toml");
    let (code, stdout, stderr) = run(agent()
        .env("XENSTORE_SCHEMA", "rfc")
        .args(["config", "-l", "warn", "--config"])
        .arg(&file));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let origin = format!("period = 5  # {}:3\n", file.display());
    for line in [
        "loglevel = \"warn\"  # command line\n",
        "schema = \"rfc\"  # environment XENSTORE_SCHEMA\n",
        &origin,
    ] {
        assert!(stdout.contains(line), "{line} is not in {stdout}");
    }
    root.write("config.toml", "[memory]\nperoid = 5\n");
    for action in [&["config"][..], &["show"], &[]] {
        let (code, stdout, stderr) = run(agent().args(action).arg("--config").arg(&file));
        let expected = format!(
            "{}:2: there is no setting memory.peroid; did you mean memory.period?\n",
            file.display()
        );
        assert_eq!(
            (code, stdout, stderr),
            (
                Some(2),
                String::new(),
                format!("xen-guest-agent: error: {expected}")
            )
        );
    }
}

#[test]
fn invalid_settings_are_all_reported_and_give_exit_status_2() {
    let root = FakeRoot::new();
    root.write("config.toml", "schema = rfc\n[memory]\nperiod = 0\n");
    let file = root.join("config.toml");
    let (code, stdout, stderr) = run(agent()
        .env("XENSTORE_SCHEMA", "x")
        .args([
            "--memory-period",
            "-1",
            "--root",
            "/nonexistent",
            "--config",
        ])
        .arg(&file));
    let file = file.display();
    let expected = format!(
        "xen-guest-agent: error: {file}:1: schema: missing quotes around rfc\n\
         xen-guest-agent: error: {file}:3: memory.period: invalid value 0; expected a number of seconds from 0.01 to 86400\n\
         xen-guest-agent: error: environment XENSTORE_SCHEMA: invalid value \"x\"; expected std or rfc\n\
         xen-guest-agent: error: --memory-period: invalid value \"-1\"; expected a number of seconds from 0.01 to 86400\n\
         xen-guest-agent: error: --root: invalid value \"/nonexistent\"; expected the path of an existing directory\n"
    );
    assert_eq!((code, stdout, stderr), (Some(2), String::new(), expected));

    let (code, _, stderr) = run(agent().args(["status", "--root", "relative"]));
    let expected = "xen-guest-agent: error: --root: invalid value \"relative\"; expected the absolute path of a directory\n";
    assert_eq!((code, stderr.as_str()), (Some(2), expected));
}

#[test]
fn help_wraps_at_the_given_width() {
    for width in [60, 80] {
        let (code, stdout, _) = run(agent().arg("--help").env("COLUMNS", width.to_string()));
        assert_eq!(code, Some(0));
        let longest = stdout.lines().map(|line| line.chars().count()).max();
        assert!(longest.is_some_and(|longest| longest <= width && longest > width - 10));
    }
}

#[test]
fn show_all_interfaces_has_every_interface_except_loopback() {
    let root = FakeRoot::new();
    let (code, shown, stderr) = run(agent()
        .args(["show", "--all-interfaces", "--format=json", "--root"])
        .arg(root.path()));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let interfaces = fs::read_dir("/sys/class/net").unwrap();
    let names = interfaces.map(|entry| entry.unwrap().file_name().into_string().unwrap());

    // Without a hardware address, a tunnel of another process has no nodes either.
    let expected: Vec<_> = names
        .filter(|name| {
            let address = fs::read_to_string(format!("/sys/class/net/{name}/address"));
            name != "lo" && address.is_ok_and(|address| address.trim().len() == 17)
        })
        .collect();
    for name in &expected {
        assert!(
            shown.contains(&format!("/name\": \"{name}\"")),
            "{name}: {shown}"
        );
    }
    assert!(!shown.contains("/name\": \"lo\""), "{shown}");
}

#[test]
fn start_and_first_publication_are_logged() {
    let testbed = Testbed::start("network.mode = \"off\"", agent());
    let log = || fs::read_to_string(testbed.root.join("log")).unwrap();
    eventually(|| log().ends_with(" nodes\n"), TIMEOUT);

    let mut store = Store::new();
    store.introduce_guest(DOMAIN, Toolstack::Libxl);
    let server = Server::new(store).spawn().unwrap();
    let mut client = Client::new(server.connect(0).unwrap().into());
    let before = tree(&mut client, &format!("/local/domain/{DOMAIN}"));
    let nodes = testbed.nodes();
    let published = nodes
        .iter()
        .filter(|(path, value)| before.get(*path) != Some(value) && !value.is_empty())
        .count();

    let expected = [
        format!(
            "xen-guest-agent: info: version {}: Xenstore at {}, network off, schema std",
            env!("CARGO_PKG_VERSION"),
            testbed.root.join("socket").display()
        ),
        format!("xen-guest-agent: info: published {published} nodes"),
    ];
    assert_eq!(log().lines().collect::<Vec<_>>(), expected);

    // A reload publishes again, but only the first publication of a process is logged.
    let logged = testbed.reload(
        "schema = \"rfc\"\nnetwork.mode = \"off\"",
        "settings reloaded",
    );
    assert_eq!(logged, ["info: settings reloaded"]);
    testbed.await_nodes(|nodes| nodes.contains_key("data/os/name"));
    assert_eq!(log().matches("published ").count(), 1, "{}", log());
}

#[test]
fn debug_log_has_connections_publications_and_resyncs() {
    let testbed = Testbed::start("network.mode = \"netlink\"\nloglevel = \"debug\"", agent());
    testbed.await_nodes(|nodes| nodes.contains_key("data/os_name"));
    for expected in [
        "debug: connected to ",
        "debug: publishing ",
        "debug: resynchronising: ",
        "debug: resynchronising the network: ",
    ] {
        eventually(
            || testbed.log().iter().any(|line| line.contains(expected)),
            TIMEOUT,
        );
    }
}

#[test]
fn unknown_module_in_the_log_level_is_warned_about() {
    let root = FakeRoot::new();
    for (level, expected) in [
        (
            "info,xenstroe=debug",
            "xen-guest-agent: warning: loglevel: no module \"xenstroe\"; known: xenstore, xen_guest_agent, ",
        ),
        ("warn,xenstore=debug,xen_guest_agent::publish=trace", ""),
    ] {
        let (code, _, stderr) = run(agent()
            .args(["config", "--loglevel", level, "--root"])
            .arg(root.path()));
        assert_eq!(code, Some(0));
        assert!(stderr.starts_with(expected), "{stderr}");
        assert_eq!(stderr.is_empty(), expected.is_empty(), "{stderr}");
    }
}
