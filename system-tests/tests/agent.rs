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
    Agent, Bed, Collector, Daemon, FakeRoot, MOMENT, Network, Profile, SOON, Toolstack, build,
    eventually, on_both_daemons,
};
use xenstore::{Client, Transport};

on_both_daemons! {
    a_guest_of_xapi_is_published_whole
    a_guest_of_libxl_has_all_but_what_is_refused_and_that_is_said_once
    addresses_come_and_go
    a_link_is_renamed_removed_and_made_again
    lost_messages_of_the_kernel_are_made_up_for
    a_network_that_never_rests_holds_nothing_back
    nothing_is_written_for_what_changes_nothing
    what_others_do_beside_our_nodes_costs_nothing
    a_restart_writes_nothing_and_keeps_the_slots
    leftovers_of_other_agents_go_and_nodes_of_others_stay
    a_resumed_domain_is_published_again_within_a_second
    a_checkpoint_costs_nothing
    what_others_change_is_put_right
    services_are_published_at_once_and_taken_back_after_a_restart
    signals_end_it_cleanly_and_the_nodes_stay
}

/// A guest with two VIFs, and addresses.
fn bed(daemon: Daemon, toolstack: Toolstack) -> Bed {
    let bed = Bed::new(daemon, toolstack, Collector::Netlink, &["lan", "enp0s3"]);
    bed.network.ip("link set lan address 00:16:3e:00:00:01");
    bed.network.ip("addr add 10.0.0.2/24 dev lan");
    bed.network.ip("addr add 10.0.0.3/24 dev lan");
    bed.network.ip("addr add 2001:db8::2/64 dev lan nodad");
    bed
}

fn a_guest_of_xapi_is_published_whole(daemon: Daemon) {
    let mut bed = bed(daemon, Toolstack::Xapi);
    let before = bed.nodes();
    let agent = bed.start();
    let nodes = bed.nodes();
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

fn a_guest_of_libxl_has_all_but_what_is_refused_and_that_is_said_once(daemon: Daemon) {
    let mut bed = bed(daemon, Toolstack::Libxl);
    let mut agent = bed.start();
    let nodes = bed.nodes();
    assert!(!nodes.contains_key("control/feature-balloon"));
    for path in [
        "data/os_distro",
        "data/meminfo_free",
        "attr/PVAddons/MajorVersion",
        "feature/hotplug/vif",
    ] {
        assert!(nodes.contains_key(path), "{path}");
    }
    bed.network.ip("addr add 10.0.0.4/24 dev lan");
    bed.await_nodes(|nodes| nodes.values().any(|value| value == "10.0.0.4"));
    assert!(agent.is_running());
    let log = agent.stop();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(
        log.contains("WRITE control/feature-balloon: EACCES"),
        "{log}"
    );
}

fn addresses_come_and_go(daemon: Daemon) {
    let mut bed = bed(daemon, Toolstack::Xapi);
    let _agent = bed.start();
    let added = bed.requests_during(|bed| {
        bed.network.ip("addr add 192.0.2.7/25 dev enp0s3");
        bed.await_nodes(|nodes| nodes.contains_key("attr/vif/1/ipv4/0/prefix"));
    });
    assert_eq!(added, [("WRITE", 2)].into());
    let nodes = bed.nodes();
    assert_eq!(
        (
            &*nodes["attr/vif/1/ipv4/0"],
            &*nodes["attr/vif/1/ipv4/0/prefix"]
        ),
        ("192.0.2.7", "25")
    );
    let removed = bed.requests_during(|bed| {
        bed.network.ip("addr del 192.0.2.7/25 dev enp0s3");
        bed.await_nodes(|nodes| !nodes.contains_key("attr/vif/1/ipv4"));
    });
    assert_eq!(removed, [("RM", 1)].into());
    bed.network.ip("addr del 10.0.0.2/24 dev lan");
    // The kernel removes the secondary address of the network with the first.
    bed.await_truth();
}

fn a_link_is_renamed_removed_and_made_again(daemon: Daemon) {
    let mut bed = bed(daemon, Toolstack::Xapi);
    let _agent = bed.start();
    bed.root.add_vif("wan", 0);
    bed.network.ip("link set lan down");
    bed.await_nodes(|nodes| !nodes.contains_key("attr/vif/0/ipv4"));
    bed.network.ip("link set lan name wan");
    bed.network.ip("link set wan up");
    let nodes = bed.await_nodes(|nodes| {
        nodes
            .get("attr/vif/0/name")
            .is_some_and(|name| name == "wan")
            && nodes.contains_key("attr/vif/0/ipv4/1")
    });
    assert_eq!(nodes["attr/vif/0/ipv4/0"], "10.0.0.2");
    bed.network.ip("link del wan");
    bed.await_nodes(|nodes| {
        !nodes.contains_key("attr/vif/0") && nodes.contains_key("attr/vif/1/name")
    });
    bed.network.add_interface("lan");
    bed.network.ip("addr add 10.7.0.1/16 dev lan");
    let nodes = bed.await_nodes(|nodes| nodes.contains_key("attr/vif/0/ipv4/0/prefix"));
    assert_eq!(
        (&*nodes["attr/vif/0/name"], &*nodes["attr/vif/0/ipv4/0"]),
        ("lan", "10.7.0.1")
    );
}

fn lost_messages_of_the_kernel_are_made_up_for(daemon: Daemon) {
    let mut bed = bed(daemon, Toolstack::Xapi);
    let agent = bed.start();
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
        bed.root.write("batch", &changes(verb));
        bed.network
            .ip(&format!("-batch {}", bed.root.join("batch").display()));
    }
    bed.network.ip("addr add 10.6.0.1/24 dev lan");
    agent.signal(Signal::CONT);
    bed.await_truth();
}

/// A process that does not outlive a test that fails.
struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn a_network_that_never_rests_holds_nothing_back(daemon: Daemon) {
    let mut bed = bed(daemon, Toolstack::Xapi);
    bed.network.add_interface("other");
    // More than the kernel tells in one go, and none of it to be published: a change in between interrupts a dump.
    let many = (0..24).flat_map(|high| {
        (1..251).map(move |low| format!("addr add 10.5.{high}.{low}/32 dev other\n"))
    });
    bed.root.write("many", &many.collect::<String>());
    bed.network
        .ip(&format!("-batch {}", bed.root.join("many").display()));
    let agent = bed.start();
    agent.stop();
    let before = bed.nodes();
    let flapping = bed
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
    let home = bed.guest.home();
    for _ in 0..2 {
        bed.dom0
            .write(format!("{home}/data/os_name"), "old")
            .unwrap();
        let (mut agent, begin) = (None, Instant::now());
        let requests = bed.requests_during(|bed| {
            agent = Some(bed.start_as(Profile::Debug));
            bed.await_nodes(is_whole);
            println!("whole {:?} after the start", begin.elapsed());
        });
        assert!(
            !requests.contains_key("RM"),
            "an address went: {requests:?}"
        );
        bed.guest.resume();
        let begin = Instant::now();
        bed.await_nodes(is_whole);
        println!("whole {:?} after a resume", begin.elapsed());
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "{:?}",
            begin.elapsed()
        );
    }
}

fn what_others_do_beside_our_nodes_costs_nothing(daemon: Daemon) {
    let mut bed = bed(daemon, Toolstack::Xapi);
    let _agent = bed.start();
    let home = bed.guest.home();
    let requests = bed.requests_during(|bed| {
        for number in 0..20 {
            bed.dom0
                .write(format!("{home}/attr/os/x"), number.to_string())
                .unwrap();
        }
    });
    assert_eq!(requests, BTreeMap::new());
}

fn nothing_is_written_for_what_changes_nothing(daemon: Daemon) {
    let mut bed = bed(daemon, Toolstack::Xapi);
    let _agent = bed.start();
    let requests = bed.requests_during(|bed| {
        bed.network.ip("link set lan mtu 1400");
        bed.network.ip("link set lan-peer down");
        bed.network.ip("link set lan-peer up");
        bed.network.ip("link set lan alias anything");
        bed.network
            .ip("addr change 10.0.0.2/24 dev lan label lan:1");
    });
    assert_eq!(requests, BTreeMap::new());
}

fn a_restart_writes_nothing_and_keeps_the_slots(daemon: Daemon) {
    let mut bed = bed(daemon, Toolstack::Xapi);
    let agent = bed.start();
    // Slot 0 is free after this, and stays so: 10.0.0.3 keeps its own.
    bed.network.ip("addr add 10.8.0.1/16 dev lan");
    bed.await_nodes(|nodes| nodes.contains_key("attr/vif/0/ipv4/2/prefix"));
    bed.network.ip("addr del 10.0.0.3/24 dev lan");
    let before = bed.await_nodes(|nodes| !nodes.contains_key("attr/vif/0/ipv4/1"));
    agent.stop();
    let mut second = None;
    let requests = bed.requests_during(|bed| {
        second = Some(bed.start_as(Profile::Debug));
        sleep(MOMENT);
    });
    assert!(
        requests["WATCH"] > 0 && requests["READ"] > 0,
        "the agent did not start: {requests:?}"
    );
    assert!(
        !requests.contains_key("WRITE") && !requests.contains_key("RM"),
        "{requests:?}"
    );
    assert_eq!(bed.nodes(), before);
}

fn leftovers_of_other_agents_go_and_nodes_of_others_stay(daemon: Daemon) {
    let mut bed = bed(daemon, Toolstack::Xapi);
    let mut guest = Client::new(Transport::connect(bed.guest.socket()).unwrap());
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
    let _agent = bed.start();
    let nodes = bed.await_nodes(|nodes| !nodes.contains_key("data/volumes"));
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

fn a_resumed_domain_is_published_again_within_a_second(daemon: Daemon) {
    // libxl's domains have no unique-domain-id.
    for toolstack in [Toolstack::Xapi, Toolstack::Libxl] {
        let mut bed = bed(daemon, toolstack);
        let agent = bed.start();
        let strip = |mut nodes: BTreeMap<String, String>| {
            nodes.retain(|path, _| !matches!(path.as_str(), "data/updated" | "unique-domain-id"));
            nodes
        };
        let before = strip(bed.nodes());
        for _ in 0..3 {
            bed.guest.resume();
            let begin = Instant::now();
            bed.await_nodes(|nodes| {
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

fn a_checkpoint_costs_nothing(daemon: Daemon) {
    let mut bed = bed(daemon, Toolstack::Xapi);
    let agent = bed.start();
    assert_eq!(
        bed.requests_during(|bed| bed.guest.checkpoint()),
        BTreeMap::new()
    );
    assert_eq!(agent.stop(), "");
}

fn what_others_change_is_put_right(daemon: Daemon) {
    let mut bed = bed(daemon, Toolstack::Xapi);
    let agent = bed.start();
    let before = bed.nodes();
    let home = bed.guest.home();
    bed.dom0.remove(format!("{home}/attr/vif/0")).unwrap();
    bed.await_nodes(|nodes| *nodes == before);
    bed.dom0
        .write(format!("{home}/attr/vif/1/name"), "wrong")
        .unwrap();
    bed.dom0
        .write(format!("{home}/attr/vif/1/ipv4/5"), "10.9.9.9")
        .unwrap();
    bed.await_nodes(|nodes| *nodes == before);
    bed.dom0
        .write(format!("{home}/data/os_name"), "wrong")
        .unwrap();
    bed.await_nodes(|nodes| nodes["data/os_name"] == before["data/os_name"]);
    assert_eq!(agent.stop(), "");
}

fn services_are_published_at_once_and_taken_back_after_a_restart(daemon: Daemon) {
    let mut bed = bed(daemon, Toolstack::Xapi);
    fs::create_dir(bed.root.join("run")).unwrap();
    bed.root.write(
        "etc/xen-guest-agent/services.d/web.conf",
        "state = starting\n",
    );
    let home = bed.guest.home();
    bed.dom0
        .write(format!("{home}/data/service/their/state"), "up")
        .unwrap();
    let agent = bed.start();
    bed.await_nodes(|nodes| {
        nodes
            .get("data/service/web/state")
            .is_some_and(|state| state == "starting")
    });
    let begin = Instant::now();
    bed.root.write(
        "etc/xen-guest-agent/services.d/web.conf",
        "state = up\nport = 80\n",
    );
    bed.await_nodes(|nodes| {
        nodes
            .get("data/service/web/port")
            .is_some_and(|port| port == "80")
    });
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "it was not told, but looked"
    );
    agent.stop();
    bed.root.remove("etc/xen-guest-agent/services.d/web.conf");
    let agent = bed.start();
    bed.await_nodes(|nodes| !nodes.contains_key("data/service/web"));
    assert_eq!(bed.nodes()["data/service/their/state"], "up");
    assert_eq!(agent.stop(), "");
}

fn signals_end_it_cleanly_and_the_nodes_stay(daemon: Daemon) {
    let mut bed = bed(daemon, Toolstack::Xapi);
    for signal in [Signal::TERM, Signal::INT] {
        let mut agent = bed.start();
        let before = bed.nodes();
        agent.signal(signal);
        assert_eq!(agent.wait().code(), Some(0));
        assert_eq!(bed.nodes(), before);
    }
    // At any moment from its first poll on; before the handlers are there, the signal itself ends it.
    for delay in 0..20 {
        let mut agent = bed.start_as(Profile::Debug);
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
fn it_is_small() {
    let mut bed = bed(Daemon::C, Toolstack::Xapi);
    // As a service manager starts it: without a root of its own, and with a small environment.
    let mut command = bed.network.command("unshare");
    command
        .args([
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs none /run && mount --bind $0 /sys && exec $@",
        ])
        .arg(bed.root.join("sys"));
    command
        .arg(build("xen-guest-agent", Profile::Release))
        .arg("--stderr");
    command.arg(format!(
        "--xenstore=socket={}",
        bed.guest.socket().display()
    ));
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let agent = Agent::spawn(command, &bed.root.join("log"));
    bed.await_truth();
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
fn it_sleeps() {
    let [traced, untraced] = [(); 2].map(|()| bed(Daemon::C, Toolstack::Xapi));
    let [traced_agent, agent] = [&traced, &untraced].map(|bed| bed.start_as(Profile::Release));
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
fn it_tells_how_it_is_and_is_alone() {
    let mut bed = bed(Daemon::C, Toolstack::Libxl);
    let status = |bed: &Bed| {
        let mut command = Command::new(build("xen-guest-agent", Profile::Debug));
        let output = command
            .arg("status")
            .arg("--root")
            .arg(bed.root.path())
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    fs::create_dir(bed.root.join("run")).unwrap();
    assert_eq!(status(&bed).0, Some(3));
    let mut agent = bed.start();
    let (code, text) = eventually(
        || Some(status(&bed)).filter(|(code, _)| *code == Some(0)),
        SOON,
    );
    let id = agent.id();
    let expected = [
        "state = \"published\"".to_owned(),
        format!("process = {id}"),
        "schema = \"std\"".to_owned(),
        "network = \"netlink\"".to_owned(),
        format!("xenstore = \"{}\"", bed.guest.socket().display()),
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
    let mut second = Agent::spawn(bed.command(Profile::Debug), &bed.root.join("second"));
    assert_eq!(second.wait().code(), Some(4));
    assert!(
        second.log().contains("another agent is running"),
        "{}",
        second.log()
    );
    assert!(agent.is_running());
    bed.guest.resume();
    eventually(|| status(&bed).1.contains("resumed = "), SOON);
    // It hangs.
    let server = Pid::from_raw(i32::try_from(bed.store.pid()).unwrap()).unwrap();
    kill_process(server, Signal::STOP).unwrap();
    bed.network.ip("addr add 10.0.0.77/24 dev lan");
    let (code, text) = eventually(
        || Some(status(&bed)).filter(|(_, text)| text.contains("\"publishing\"")),
        SOON,
    );
    assert!(
        code == Some(1) && text.contains("pending = [\"attr/vif/0/ipv4/2\""),
        "{text}"
    );
    kill_process(server, Signal::CONT).unwrap();
    eventually(|| status(&bed).0 == Some(0), SOON);
    // Without its server.
    kill_process(server, Signal::KILL).unwrap();
    let (code, text) = eventually(
        || Some(status(&bed)).filter(|(_, text)| text.contains("waiting for Xenstore")),
        SOON,
    );
    assert_eq!(code, Some(1), "{text}");
    agent.signal(Signal::TERM);
    agent.wait();
    assert_eq!(status(&bed).0, Some(3));
}

#[test]
#[ignore = "needs root and xenstored"]
fn the_service_manager_is_told() {
    let bed = bed(Daemon::C, Toolstack::Xapi);
    let socket = bed.root.join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    let mut command = bed.command(Profile::Debug);
    command.env("NOTIFY_SOCKET", &socket);
    let agent = Agent::spawn(command, &bed.root.join("log"));
    let mut buffer = [0; 256];
    let mut next = || {
        let len = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    assert_eq!(next().trim(), "READY=1\nSTATUS=published");
    kill_process(
        Pid::from_raw(i32::try_from(bed.store.pid()).unwrap()).unwrap(),
        Signal::KILL,
    )
    .unwrap();
    while next().trim() != "READY=1\nSTATUS=waiting for Xenstore" {}
    drop(agent);
}

#[test]
#[ignore = "needs root and xenstored"]
fn a_former_agent_beside_it_is_named() {
    let mut bed = bed(Daemon::C, Toolstack::Xapi);
    bed.root.write("proc/1/comm", "init\n");
    bed.root.write("proc/4711/comm", "xe-daemon\n");
    let log = bed.start().stop();
    assert!(
        log.lines().count() == 1 && log.contains("xe-daemon (process 4711)"),
        "{log}"
    );
}

#[test]
#[ignore = "needs root and xenstored"]
fn a_new_host_name_is_seen_at_once() {
    let mut bed = bed(Daemon::C, Toolstack::Xapi);
    // The machine's own files, but a name of its own.
    let mut command = bed.network.command("unshare");
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
        .arg(format!("socket={}", bed.guest.socket().display()));
    let agent = Agent::spawn(command, &bed.root.join("log"));
    bed.await_nodes(|nodes| nodes.contains_key("data/host_name_dns"));
    let updated = bed.nodes()["data/updated"].clone();
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
    let nodes = bed.await_nodes(|nodes| {
        nodes["data/host_name_dns"] == "db7" && nodes["data/updated"] != updated
    });
    assert_eq!(nodes["data/domain"], "example.net");
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "it was not told, but looked"
    );
}

#[test]
fn the_journal_gets_priorities() {
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
