//! The agent as a process: against a real xenstored, in a network namespace with real interfaces.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "all of this is test code"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use system_tests::{
    Agent, Collector, Daemon, FakeRoot, Network, Profile, SETTLE_TIME, TIMEOUT, Testbed, Toolstack,
    build, eventually, on_both_daemons,
};
use xenstore::{Client, Transport};

on_both_daemons! {
    all_nodes_are_published_in_a_xapi_guest
    denied_write_in_a_libxl_guest_is_logged_once
    address_added_and_removed
    link_renamed_removed_and_recreated
    netlink_overrun_is_recovered
    constant_network_changes_do_not_delay_publication
    irrelevant_network_change_causes_no_request
    foreign_write_beside_published_nodes_causes_no_request
    restart_writes_nothing_and_keeps_slots
    stale_nodes_are_removed_and_foreign_nodes_kept
    resume_republishes_within_a_second
    checkpoint_causes_no_request
    overwritten_nodes_are_restored
    service_file_is_published_and_withdrawn_after_restart
    termination_signals_exit_with_0_and_keep_nodes
}

/// A guest with two VIFs, and addresses.
fn testbed(daemon: Daemon, toolstack: Toolstack) -> Testbed {
    let testbed = Testbed::new(daemon, toolstack, Collector::Netlink, &["lan", "enp0s3"]);
    testbed.network.ip("link set lan address 00:16:3e:00:00:01");
    testbed.network.ip("addr add 10.0.0.2/24 dev lan");
    testbed.network.ip("addr add 10.0.0.3/24 dev lan");
    testbed.network.ip("addr add 2001:db8::2/64 dev lan nodad");
    testbed
}

fn all_nodes_are_published_in_a_xapi_guest(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    let before = testbed.nodes();
    let agent = testbed.start();
    let nodes = testbed.nodes();
    let kernel =
        String::from_utf8(Command::new("uname").arg("-r").output().unwrap().stdout).unwrap();
    let expected = [
        ("data/os_distro", "debian"),
        ("data/os_name", "Debian GNU/Linux 12 (bookworm)"),
        ("data/os_majorver", "12"),
        ("data/os_minorver", "5"),
        ("data/os_uname", kernel.trim()),
        ("data/host_name_dns", "web1"),
        ("data/domain", "example.org"),
        ("data/meminfo_total", "1048576"),
        ("data/meminfo_free", "524288"),
        ("attr/PVAddons/MajorVersion", "1"),
        ("attr/PVAddons/Installed", "1"),
        ("feature/hotplug/vif", "1"),
        ("feature/hotplug/vbd", "1"),
        ("control/feature-balloon", "1"),
        ("attr/vif/0/name", "lan"),
        ("attr/vif/0/mac/0", "00:16:3e:00:00:01"),
        ("attr/vif/0/ipv4/0", "10.0.0.2"),
        ("attr/vif/0/ipv4/0/prefix", "24"),
        ("attr/vif/0/ipv4/1", "10.0.0.3"),
        ("attr/vif/0/ipv6/0", "2001:db8::2"),
        ("attr/vif/1/name", "enp0s3"),
    ];
    for (path, value) in expected {
        assert_eq!(nodes.get(path).map(String::as_str), Some(value), "{path}");
    }
    for version in [
        "MajorVersion",
        "MinorVersion",
        "MicroVersion",
        "BuildVersion",
    ] {
        let value = &nodes[&format!("attr/PVAddons/{version}")];
        assert!(value.parse::<u32>().is_ok(), "{version} is {value}");
    }
    // C locale, as `date` prints it without the zone: Mon Jan  2 15:04:05 2006.
    let words: Vec<_> = nodes["data/updated"].split_whitespace().collect();
    assert!(
        words.len() == 5 && words[0].len() == 3 && words[3].len() == 8,
        "{words:?}"
    );
    for (path, value) in &before {
        assert_eq!(nodes.get(path), Some(value), "{path} is not the agent's");
    }
    assert_eq!(agent.stop(), "", "nothing to say");
}

fn denied_write_in_a_libxl_guest_is_logged_once(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Libxl);
    let mut agent = testbed.start();
    let nodes = testbed.nodes();
    assert!(!nodes.contains_key("control/feature-balloon"));
    for path in [
        "data/os_distro",
        "data/meminfo_free",
        "attr/PVAddons/MajorVersion",
        "feature/hotplug/vif",
    ] {
        assert!(nodes.contains_key(path), "{path}");
    }
    testbed.network.ip("addr add 10.0.0.4/24 dev lan");
    testbed.await_nodes(|nodes| nodes.values().any(|value| value == "10.0.0.4"));
    assert!(agent.is_running());
    let log = agent.stop();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(
        log.contains("WRITE control/feature-balloon: EACCES"),
        "{log}"
    );
}

fn address_added_and_removed(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    let _agent = testbed.start();
    let added = testbed.requests_during(|testbed| {
        testbed.network.ip("addr add 192.0.2.7/25 dev enp0s3");
        testbed.await_nodes(|nodes| nodes.contains_key("attr/vif/1/ipv4/0/prefix"));
    });
    assert_eq!(added, [("WRITE", 2)].into());
    let nodes = testbed.nodes();
    assert_eq!(
        (
            &*nodes["attr/vif/1/ipv4/0"],
            &*nodes["attr/vif/1/ipv4/0/prefix"]
        ),
        ("192.0.2.7", "25")
    );
    let removed = testbed.requests_during(|testbed| {
        testbed.network.ip("addr del 192.0.2.7/25 dev enp0s3");
        testbed.await_nodes(|nodes| !nodes.contains_key("attr/vif/1/ipv4"));
    });
    assert_eq!(removed, [("RM", 1)].into());
    testbed.network.ip("addr del 10.0.0.2/24 dev lan");
    // The kernel removes the secondary address of the network with the first.
    testbed.await_network();
}

fn link_renamed_removed_and_recreated(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    let _agent = testbed.start();
    testbed.root.add_vif("wan", 0);
    testbed.network.ip("link set lan down");
    testbed.await_nodes(|nodes| !nodes.contains_key("attr/vif/0/ipv4"));
    testbed.network.ip("link set lan name wan");
    testbed.network.ip("link set wan up");
    let nodes = testbed.await_nodes(|nodes| {
        nodes
            .get("attr/vif/0/name")
            .is_some_and(|name| name == "wan")
            && nodes.contains_key("attr/vif/0/ipv4/1")
    });
    assert_eq!(nodes["attr/vif/0/ipv4/0"], "10.0.0.2");
    testbed.network.ip("link del wan");
    testbed.await_nodes(|nodes| {
        !nodes.contains_key("attr/vif/0") && nodes.contains_key("attr/vif/1/name")
    });
    testbed.network.add_interface("lan");
    testbed.network.ip("addr add 10.7.0.1/16 dev lan");
    let nodes = testbed.await_nodes(|nodes| nodes.contains_key("attr/vif/0/ipv4/0/prefix"));
    assert_eq!(
        (&*nodes["attr/vif/0/name"], &*nodes["attr/vif/0/ipv4/0"]),
        ("lan", "10.7.0.1")
    );
}

fn netlink_overrun_is_recovered(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    let agent = testbed.start();
    // More than fits into the socket's buffer, and most of it gone again when the agent comes to read.
    agent.signal(Signal::STOP);
    let changes = |verb: &str| -> String {
        let numbers = (0..12).flat_map(|high| (1..251).map(move |low| (high, low)));
        numbers
            .map(|(high, low)| format!("addr {verb} 10.5.{high}.{low}/32 dev lan\n"))
            .collect::<Vec<_>>()
            .concat()
    };
    for verb in ["add", "del"] {
        testbed.root.write("batch", &changes(verb));
        testbed
            .network
            .ip(&format!("-batch {}", testbed.root.join("batch").display()));
    }
    testbed.network.ip("addr add 10.6.0.1/24 dev lan");
    agent.signal(Signal::CONT);
    testbed.await_network();
}

/// A process that does not outlive a test that fails.
struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn constant_network_changes_do_not_delay_publication(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    testbed.network.add_interface("other");
    // More than the kernel tells in one go, and none of it to be published: a change in between interrupts a dump.
    let many = (0..24).flat_map(|high| {
        (1..251).map(move |low| format!("addr add 10.5.{high}.{low}/32 dev other\n"))
    });
    testbed.root.write("many", &many.collect::<String>());
    testbed
        .network
        .ip(&format!("-batch {}", testbed.root.join("many").display()));
    let agent = testbed.start();
    agent.stop();
    let before = testbed.nodes();
    let flapping = testbed
        .network
        .command("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut flapping = KilledOnDrop(flapping);
    let mut changes = flapping.0.stdin.take().unwrap();
    spawn(move || {
        let both = "addr add 10.9.0.1/32 dev other\naddr del 10.9.0.1/32 dev other\n".repeat(100);
        while changes.write_all(both.as_bytes()).is_ok() {}
    });
    let of_vifs = |nodes: &BTreeMap<String, String>| -> Vec<_> {
        nodes
            .clone()
            .into_iter()
            .filter(|(node, _)| node.starts_with("attr/vif"))
            .collect()
    };
    let is_whole = |nodes: &BTreeMap<String, String>| {
        nodes.get("data/os_name") == before.get("data/os_name")
            && nodes
                .get("data/updated")
                .is_some_and(|date| !date.is_empty())
            && of_vifs(nodes) == of_vifs(&before)
    };
    let home = testbed.guest.home();
    for _ in 0..2 {
        testbed
            .dom0
            .write(format!("{home}/data/os_name"), "old")
            .unwrap();
        let (mut agent, begin) = (None, Instant::now());
        let requests = testbed.requests_during(|testbed| {
            agent = Some(testbed.start_as(Profile::Debug));
            testbed.await_nodes(is_whole);
            println!("whole {:?} after the start", begin.elapsed());
        });
        assert!(
            !requests.contains_key("RM"),
            "an address went: {requests:?}"
        );
        testbed.guest.resume();
        let begin = Instant::now();
        testbed.await_nodes(is_whole);
        println!("whole {:?} after a resume", begin.elapsed());
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "{:?}",
            begin.elapsed()
        );
    }
}

fn foreign_write_beside_published_nodes_causes_no_request(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    let _agent = testbed.start();
    let home = testbed.guest.home();
    let requests = testbed.requests_during(|testbed| {
        for number in 0..20 {
            testbed
                .dom0
                .write(format!("{home}/attr/os/x"), number.to_string())
                .unwrap();
        }
    });
    assert_eq!(requests, BTreeMap::new());
}

fn irrelevant_network_change_causes_no_request(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    let _agent = testbed.start();
    let requests = testbed.requests_during(|testbed| {
        testbed.network.ip("link set lan mtu 1400");
        testbed.network.ip("link set lan-peer down");
        testbed.network.ip("link set lan-peer up");
        testbed.network.ip("link set lan alias anything");
        testbed
            .network
            .ip("addr change 10.0.0.2/24 dev lan label lan:1");
    });
    assert_eq!(requests, BTreeMap::new());
}

fn restart_writes_nothing_and_keeps_slots(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    let agent = testbed.start();
    // Slot 0 is free after this, and stays so: 10.0.0.3 keeps its own.
    testbed.network.ip("addr add 10.8.0.1/16 dev lan");
    testbed.await_nodes(|nodes| nodes.contains_key("attr/vif/0/ipv4/2/prefix"));
    testbed.network.ip("addr del 10.0.0.3/24 dev lan");
    let before = testbed.await_nodes(|nodes| !nodes.contains_key("attr/vif/0/ipv4/1"));
    agent.stop();
    let mut second = None;
    let requests = testbed.requests_during(|testbed| {
        second = Some(testbed.start_as(Profile::Debug));
        sleep(SETTLE_TIME);
    });
    assert!(
        requests["WATCH"] > 0 && requests["READ"] > 0,
        "the agent did not start: {requests:?}"
    );
    assert!(
        !requests.contains_key("WRITE") && !requests.contains_key("RM"),
        "{requests:?}"
    );
    assert_eq!(testbed.nodes(), before);
}

fn stale_nodes_are_removed_and_foreign_nodes_kept(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    let mut guest = Client::new(Transport::connect(testbed.guest.socket()).unwrap());
    let leftovers = [
        "attr/eth0/ip",
        "attr/eth1/ipv6/0/addr",
        "data/volumes/0/name",
        "attr/vif/7/ipv4/0",
        "attr/vif/0/ipv4/9",
    ];
    let others = [
        "data/ts",
        "data/service/web/url",
        "attr/os/hotfixes",
        "drivers/0",
        "vm-data/x",
        "control/x",
    ];
    for path in leftovers.iter().chain(&others) {
        guest.write(path, "10.0.0.99").unwrap();
    }
    guest.mkdir("attr/vif/0/ipv6/8").unwrap();
    let _agent = testbed.start();
    let nodes = testbed.await_nodes(|nodes| !nodes.contains_key("data/volumes"));
    for path in [
        "attr/eth0",
        "attr/eth1",
        "attr/vif/7",
        "attr/vif/0/ipv4/9",
        "attr/vif/0/ipv6/8",
    ] {
        assert!(!nodes.contains_key(path), "{path}");
    }
    for path in others {
        assert_eq!(
            nodes.get(path).map(String::as_str),
            Some("10.0.0.99"),
            "{path}"
        );
    }
}

fn resume_republishes_within_a_second(daemon: Daemon) {
    // libxl's domains have no unique-domain-id.
    for toolstack in [Toolstack::Xapi, Toolstack::Libxl] {
        let mut testbed = testbed(daemon, toolstack);
        let agent = testbed.start();
        let strip = |mut nodes: BTreeMap<String, String>| {
            nodes.retain(|path, _| !matches!(path.as_str(), "data/updated" | "unique-domain-id"));
            nodes
        };
        let before = strip(testbed.nodes());
        for _ in 0..3 {
            testbed.guest.resume();
            let begin = Instant::now();
            testbed.await_nodes(|nodes| {
                strip(nodes.clone()) == before && nodes.contains_key("data/updated")
            });
            println!("whole {} ms after the resume", begin.elapsed().as_millis());
            assert!(
                begin.elapsed() <= Duration::from_secs(1),
                "{:?}",
                begin.elapsed()
            );
        }
        let log = agent.stop();
        assert_eq!(log.matches("the domain was resumed").count(), 3, "{log}");
        // What libxl refuses is said once.
        assert_eq!(
            log.lines().count(),
            3 + usize::from(toolstack == Toolstack::Libxl),
            "{log}"
        );
    }
}

fn checkpoint_causes_no_request(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    let agent = testbed.start();
    assert_eq!(
        testbed.requests_during(|testbed| testbed.guest.checkpoint()),
        BTreeMap::new()
    );
    assert_eq!(agent.stop(), "");
}

fn overwritten_nodes_are_restored(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    let agent = testbed.start();
    let before = testbed.nodes();
    let home = testbed.guest.home();
    testbed.dom0.remove(format!("{home}/attr/vif/0")).unwrap();
    testbed.await_nodes(|nodes| *nodes == before);
    testbed
        .dom0
        .write(format!("{home}/attr/vif/1/name"), "wrong")
        .unwrap();
    testbed
        .dom0
        .write(format!("{home}/attr/vif/1/ipv4/5"), "10.9.9.9")
        .unwrap();
    testbed.await_nodes(|nodes| *nodes == before);
    testbed
        .dom0
        .write(format!("{home}/data/os_name"), "wrong")
        .unwrap();
    testbed.await_nodes(|nodes| nodes["data/os_name"] == before["data/os_name"]);
    assert_eq!(agent.stop(), "");
}

fn service_file_is_published_and_withdrawn_after_restart(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    fs::create_dir(testbed.root.join("run")).unwrap();
    testbed.root.write(
        "etc/xen-guest-agent/services.d/web.conf",
        "state = starting\n",
    );
    let home = testbed.guest.home();
    testbed
        .dom0
        .write(format!("{home}/data/service/their/state"), "up")
        .unwrap();
    let agent = testbed.start();
    testbed.await_nodes(|nodes| {
        nodes
            .get("data/service/web/state")
            .is_some_and(|state| state == "starting")
    });
    let begin = Instant::now();
    testbed.root.write(
        "etc/xen-guest-agent/services.d/web.conf",
        "state = up\nport = 80\n",
    );
    testbed.await_nodes(|nodes| {
        nodes
            .get("data/service/web/port")
            .is_some_and(|port| port == "80")
    });
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "it was not told, but looked"
    );
    agent.stop();
    testbed
        .root
        .remove("etc/xen-guest-agent/services.d/web.conf");
    let agent = testbed.start();
    testbed.await_nodes(|nodes| !nodes.contains_key("data/service/web"));
    assert_eq!(testbed.nodes()["data/service/their/state"], "up");
    assert_eq!(agent.stop(), "");
}

fn termination_signals_exit_with_0_and_keep_nodes(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    for signal in [Signal::TERM, Signal::INT] {
        let mut agent = testbed.start();
        let before = testbed.nodes();
        agent.signal(signal);
        assert_eq!(agent.wait().code(), Some(0));
        assert_eq!(testbed.nodes(), before);
    }
    // At any moment from its first poll on; before the handlers are there, the signal itself ends it.
    for delay in 0..20 {
        let mut agent = testbed.start_as(Profile::Debug);
        sleep(Duration::from_micros(500 * delay));
        agent.signal(Signal::TERM);
        let status = agent.wait();
        let is_early =
            std::os::unix::process::ExitStatusExt::signal(&status) == Some(Signal::TERM.as_raw());
        assert!(
            status.code() == Some(0) || is_early,
            "after {delay}: {status} {}",
            agent.log()
        );
    }
}

#[test]
#[ignore = "needs root and xenstored"]
fn private_memory_is_bounded() {
    let mut testbed = testbed(Daemon::C, Toolstack::Xapi);
    // As a service manager starts it: without a root of its own, and with a small environment.
    let mut command = testbed.network.command("unshare");
    command
        .args([
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs none /run && mount --bind $0 /sys && exec $@",
        ])
        .arg(testbed.root.join("sys"));
    command
        .arg(build("xen-guest-agent", Profile::Release))
        .arg("--stderr");
    command.arg(format!(
        "--xenstore=socket={}",
        testbed.guest.socket().display()
    ));
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let agent = Agent::spawn(command, &testbed.root.join("log"));
    testbed.await_network();
    sleep(Duration::from_secs(1));
    assert_eq!(
        fs::read_dir(format!("/proc/{}/task", agent.id()))
            .unwrap()
            .count(),
        1,
        "threads"
    );
    let rollup = agent.proc("smaps_rollup");
    // Not Private_Dirty, which has the pages of a binary, too, as long as they are not on disk.
    let own = rollup.lines().find_map(|line| {
        line.strip_prefix("Anonymous:")?
            .strip_suffix("kB")?
            .trim()
            .parse()
            .ok()
    });
    let own: u32 = own.unwrap();
    let is_own = |line: &&str| {
        line.contains('-') || (line.starts_with("Anonymous:") && !line.contains(" 0 kB"))
    };
    let mappings = agent.proc("smaps");
    let mappings = mappings
        .lines()
        .filter(is_own)
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        (50..=200).contains(&own),
        "{own} KiB of private memory:\n{mappings}"
    );
}

#[test]
#[ignore = "needs root, xenstored and strace, and takes two minutes"]
fn idle_agent_makes_few_system_calls() {
    let [traced, untraced] = [(); 2].map(|()| testbed(Daemon::C, Toolstack::Xapi));
    let [traced_agent, agent] =
        [&traced, &untraced].map(|testbed| testbed.start_as(Profile::Release));
    sleep(Duration::from_secs(5));
    let switches = || -> u64 {
        let status = agent.proc("status");
        let figures = status.lines().filter(|line| line.contains("ctxt_switches"));
        figures
            .map(|line| {
                line.split_whitespace()
                    .last()
                    .unwrap()
                    .parse::<u64>()
                    .unwrap()
            })
            .sum()
    };
    let before = (untraced.guest.requests().total(), switches());
    // Tracing adds context switches, so that one agent is for those, and the other for the system calls.
    let trace = traced.root.join("trace");
    let id = traced_agent.id().to_string();
    let mut strace = Command::new("strace")
        .args(["-q", "-f", "-o"])
        .arg(&trace)
        .args(["-p", &id])
        .spawn()
        .unwrap();
    // Less than two minutes, so that there are one or two looks in it, whenever in the minute they are.
    sleep(Duration::from_secs(115));
    let after = (untraced.guest.requests().total(), switches());
    kill_process(Pid::from_child(&strace), Signal::INT).unwrap();
    strace.wait().unwrap();
    let calls = fs::read_to_string(trace).unwrap();
    let count = calls.lines().count();
    // One line is the wait that it was found in; without any wake-up nothing was measured.
    assert!((4..=12).contains(&count), "{count} system calls:\n{calls}");
    assert!(
        after.1 > before.1 && after.1 - before.1 <= 5,
        "{} context switches",
        after.1 - before.1
    );
    assert!(after.0 - before.0 <= 2, "{} requests", after.0 - before.0);
}

#[test]
#[ignore = "needs root and xenstored"]
fn status_exit_codes_and_lock() {
    let mut testbed = testbed(Daemon::C, Toolstack::Libxl);
    let status = |testbed: &Testbed| {
        let mut command = Command::new(build("xen-guest-agent", Profile::Debug));
        let output = command
            .arg("status")
            .arg("--root")
            .arg(testbed.root.path())
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    fs::create_dir(testbed.root.join("run")).unwrap();
    assert_eq!(status(&testbed).0, Some(3));
    let mut agent = testbed.start();
    let (code, text) = eventually(
        || Some(status(&testbed)).filter(|(code, _)| *code == Some(0)),
        TIMEOUT,
    );
    let id = agent.id();
    let expected = [
        "state = \"published\"".to_owned(),
        format!("process = {id}"),
        "schema = \"std\"".to_owned(),
        "network = \"netlink\"".to_owned(),
        format!("xenstore = \"{}\"", testbed.guest.socket().display()),
        "domain = 5".to_owned(),
        "refused = [\"control/feature-balloon\"]".to_owned(),
        "\"attr/vif/0/ipv4/0\" = \"10.0.0.2\"".to_owned(),
    ];
    for line in expected {
        assert!(
            text.lines().any(|known| known == line),
            "{line} is missing: {code:?} {text}"
        );
    }
    // A second one says so and ends.
    let mut second = Agent::spawn(
        testbed.command(Profile::Debug),
        &testbed.root.join("second"),
    );
    assert_eq!(second.wait().code(), Some(4));
    assert!(
        second.log().contains("another agent is running"),
        "{}",
        second.log()
    );
    assert!(agent.is_running());
    testbed.guest.resume();
    eventually(|| status(&testbed).1.contains("resumed = "), TIMEOUT);
    // It hangs.
    let server = Pid::from_raw(i32::try_from(testbed.store.pid()).unwrap()).unwrap();
    kill_process(server, Signal::STOP).unwrap();
    testbed.network.ip("addr add 10.0.0.77/24 dev lan");
    let (code, text) = eventually(
        || Some(status(&testbed)).filter(|(_, text)| text.contains("\"publishing\"")),
        TIMEOUT,
    );
    assert!(
        code == Some(1) && text.contains("pending = [\"attr/vif/0/ipv4/2\""),
        "{text}"
    );
    kill_process(server, Signal::CONT).unwrap();
    eventually(|| status(&testbed).0 == Some(0), TIMEOUT);
    // Without its server.
    kill_process(server, Signal::KILL).unwrap();
    let (code, text) = eventually(
        || Some(status(&testbed)).filter(|(_, text)| text.contains("waiting for Xenstore")),
        TIMEOUT,
    );
    assert_eq!(code, Some(1), "{text}");
    agent.signal(Signal::TERM);
    agent.wait();
    assert_eq!(status(&testbed).0, Some(3));
}

#[test]
#[ignore = "needs root and xenstored"]
fn sd_notify_reports_readiness_and_lost_connection() {
    let testbed = testbed(Daemon::C, Toolstack::Xapi);
    let socket = testbed.root.join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut command = testbed.command(Profile::Debug);
    command.env("NOTIFY_SOCKET", &socket);
    let agent = Agent::spawn(command, &testbed.root.join("log"));
    let mut buffer = [0; 256];
    let mut next = || {
        let len = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    assert_eq!(next().trim(), "READY=1\nSTATUS=published");
    kill_process(
        Pid::from_raw(i32::try_from(testbed.store.pid()).unwrap()).unwrap(),
        Signal::KILL,
    )
    .unwrap();
    while next().trim() != "READY=1\nSTATUS=waiting for Xenstore" {}
    drop(agent);
}

#[test]
#[ignore = "needs root and xenstored"]
fn other_running_agent_is_named_in_the_log() {
    let mut testbed = testbed(Daemon::C, Toolstack::Xapi);
    testbed.root.write("proc/1/comm", "init\n");
    testbed.root.write("proc/4711/comm", "xe-daemon\n");
    let log = testbed.start().stop();
    assert!(
        log.lines().count() == 1 && log.contains("xe-daemon (process 4711)"),
        "{log}"
    );
}

#[test]
#[ignore = "needs root and xenstored"]
fn host_name_change_is_published_immediately() {
    let mut testbed = testbed(Daemon::C, Toolstack::Xapi);
    // The machine's own files, but a name of its own.
    let mut command = testbed.network.command("unshare");
    command.args([
        "--uts",
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs none /run && exec $0 $@",
    ]);
    command
        .arg(build("xen-guest-agent", Profile::Debug))
        .arg("--stderr");
    command
        .arg("--xenstore")
        .arg(format!("socket={}", testbed.guest.socket().display()));
    let agent = Agent::spawn(command, &testbed.root.join("log"));
    testbed.await_nodes(|nodes| nodes.contains_key("data/host_name_dns"));
    let updated = testbed.nodes()["data/updated"].clone();
    sleep(Duration::from_secs(1));
    let begin = Instant::now();
    let uts = format!("--uts=/proc/{}/ns/uts", agent.id());
    assert!(
        Command::new("nsenter")
            .args([&uts, "hostname", "db7.example.net"])
            .status()
            .unwrap()
            .success()
    );
    let nodes = testbed.await_nodes(|nodes| {
        nodes["data/host_name_dns"] == "db7" && nodes["data/updated"] != updated
    });
    assert_eq!(nodes["data/domain"], "example.net");
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "it was not told, but looked"
    );
}

#[test]
fn journal_lines_have_a_priority_prefix() {
    let root = FakeRoot::new();
    root.remove("sys/hypervisor/type");
    let log = fs::File::create(root.join("log")).unwrap();
    let status = rustix::fs::fstat(&log).unwrap();
    let code = Command::new(build("xen-guest-agent", Profile::Debug))
        .args(["--xenstore", "socket", "--root"])
        .arg(root.path())
        .env_remove("XENSTORED_PATH")
        .env("XENSTORED_RUNDIR", root.path())
        .env(
            "JOURNAL_STREAM",
            format!("{}:{}", status.st_dev, status.st_ino),
        )
        .stderr(log)
        .status()
        .unwrap();
    assert_eq!(code.code(), Some(3));
    let said = fs::read_to_string(root.join("log")).unwrap();
    assert!(
        said.starts_with("<3>this is not a Xen guest") && said.lines().count() == 1,
        "{said}"
    );
}

#[test]
fn without_xen_it_says_so_and_how_to_try_it() {
    let root = FakeRoot::new();
    root.remove("sys/hypervisor/type");
    let output = Command::new(build("xen-guest-agent", Profile::Debug))
        .arg("--stderr")
        .arg("--root")
        .arg(root.path())
        .env_remove("XENSTORED_PATH")
        .env("XENSTORED_RUNDIR", root.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("not a Xen guest") && said.contains("--xenstore embedded"),
        "{said}"
    );
}

#[test]
#[ignore = "needs root"]
fn in_a_try_out_an_address_appears_at_once() {
    let network = Network::new();
    network.add_interface("lan");
    let mut command = network.command(build("xen-guest-agent", Profile::Debug));
    let mut process = command
        .args(["--xenstore", "embedded"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut next = |wanted: &str| {
        lines
            .find_map(|line| line.ok().filter(|line| line.contains(wanted)))
            .unwrap()
    };
    next("/name = \"lan\"");
    let begin = Instant::now();
    network.ip("addr add 192.0.2.3/24 dev lan");
    assert!(next("192.0.2.3").ends_with("/ipv4/0 = \"192.0.2.3\""));
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "it was not told, but looked"
    );
    kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));
}

#[test]
fn a_try_out_shows_what_it_publishes_and_lets_others_look() {
    let mut process = Command::new(build("xen-guest-agent", Profile::Debug))
        .args(["--xenstore", "embedded"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut next = |wanted: &str| {
        lines
            .find_map(|line| line.ok().filter(|line| line.contains(wanted)))
            .unwrap()
    };
    let line = next("XENSTORED_PATH=");
    let socket = PathBuf::from(
        line.split(['=', ' '])
            .find(|word| word.starts_with('/'))
            .unwrap(),
    );
    let shown = next("data/os_uname = ");
    let mut client = Client::new(Transport::connect(&socket).unwrap());
    let kernel = String::from_utf8(client.read("/local/domain/1/data/os_uname").unwrap()).unwrap();
    assert_eq!(shown, format!("data/os_uname = \"{kernel}\""));
    kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
    let mut rest = String::new();
    process
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut rest)
        .unwrap();
    assert_eq!(
        (process.wait().unwrap().code(), rest.as_str()),
        (Some(0), "")
    );
    assert!(!socket.exists(), "{} is left", socket.display());
}
