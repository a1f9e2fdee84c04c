//! Nodes that the agent publishes at start, restores, removes, or changes without a network event.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use system_tests::{
    Agent, Daemon, Profile, Toolstack, build, is_published, on_both_daemons, time_limit,
};
use xenstore::{Client, Nodes, Transport};

use crate::testbed;

on_both_daemons! {
    all_nodes_are_published_in_a_xapi_guest
    denied_write_in_a_libxl_guest_is_logged_once
    stale_nodes_are_removed_and_foreign_nodes_kept
    overwritten_nodes_are_restored
    foreign_write_beside_published_nodes_causes_no_request
    service_file_is_published_and_withdrawn_after_restart
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

    // Format of `date` in the C locale without the time zone: Mon Jan  2 15:04:05 2006.
    let words: Vec<_> = nodes["data/updated"].split_whitespace().collect();
    assert!(
        words.len() == 5 && words[0].len() == 3 && words[3].len() == 8,
        "{words:?}"
    );
    for (path, value) in &before {
        assert_eq!(
            nodes.get(path),
            Some(value),
            "{path} belongs to another program"
        );
    }
    assert_eq!(agent.stop(), "", "unexpected log lines");
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
        log.contains("WRITE control/feature-balloon: no write access (EACCES)"),
        "{log}"
    );
}

fn stale_nodes_are_removed_and_foreign_nodes_kept(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    let mut guest = Client::new(Transport::open_socket_at(testbed.guest.socket()).unwrap());
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
        begin.elapsed() < time_limit(Duration::from_secs(5)),
        "the change was polled instead of reported by an event"
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
    let updated = testbed.await_nodes(is_published)["data/updated"].clone();
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
    let is_changed = |nodes: &BTreeMap<String, String>| {
        is_published(nodes)
            && nodes["data/updated"] != updated
            && nodes["data/host_name_dns"] == "db7"
            && nodes
                .get("data/domain")
                .is_some_and(|domain| domain == "example.net")
    };
    testbed.await_nodes(is_changed);
    assert!(
        begin.elapsed() < time_limit(Duration::from_secs(5)),
        "the change was polled instead of reported by an event"
    );
}
