//! The agent in a guest of a real Xen. The tests run in domain 0, for example of `in_qemu`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

mod domain;

use std::fs::{self, File};
use std::time::{Duration, Instant};

use domain::{Domain, TIMEOUT, Tree, with_guest, xl};
use system_tests::eventually;
use xenstore::{Client, Nodes, Permissions};

/// Whether the value of the node changes by itself.
fn is_fleeting(path: &str) -> bool {
    matches!(path, "data/meminfo_free" | "data/updated")
}

/// Removes the nodes that change by themselves.
fn lasting(mut nodes: Tree) -> Tree {
    nodes.retain(|path, _| !is_fleeting(path));
    nodes
}

fn show(nodes: &Tree) -> String {
    nodes
        .iter()
        .map(|(path, value)| format!("  {path} = \"{value}\"\n"))
        .collect::<Vec<_>>()
        .concat()
}

#[test]
#[ignore = "needs domain 0 of Xen"]
fn all_nodes_are_published() {
    with_guest(|domain| {
        let nodes = domain.nodes();

        // The guest has the same kernel as domain 0.
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut expected: Tree = [
            ("attr/PVAddons/Installed", "1"),
            ("attr/vif/0/ipv4/0", "10.0.0.2"),
            ("attr/vif/0/ipv4/0/prefix", "24"),
            ("attr/vif/0/ipv6/1", &nodes["attr/vif/0/ipv6/1"]),
            ("attr/vif/0/ipv6/1/prefix", "64"),
            ("attr/vif/0/mac/0", &domain.mac),
            ("attr/vif/0/name", "eth0"),
            ("data/host_name_dns", "web1"),
            ("data/os_distro", "debian"),
            ("data/os_majorver", "12"),
            ("data/os_name", "Debian GNU/Linux 12 (bookworm)"),
            ("data/os_uname", kernel.trim()),
            ("data/updated", &nodes["data/updated"]),
            ("feature/hotplug/vbd", "1"),
            ("feature/hotplug/vif", "1"),
        ]
        .map(|(path, value)| (path.to_owned(), value.to_owned()))
        .into();
        let version =
            ["Major", "Minor", "Micro", "Build"].map(|part| format!("attr/PVAddons/{part}Version"));
        let memory = ["free", "total"].map(|part| format!("data/meminfo_{part}"));
        for path in version.into_iter().chain(memory) {
            assert!(
                nodes
                    .get(&path)
                    .is_some_and(|value| value.parse::<u32>().is_ok()),
                "{path} in {nodes:#?}"
            );
            expected.insert(path.clone(), nodes[&path].clone());
        }
        assert!(
            nodes["attr/vif/0/ipv6/1"].starts_with("fe80::216:3eff:fe00:"),
            "{nodes:#?}"
        );
        assert_eq!(nodes, expected);
    });
}

#[test]
#[ignore = "needs domain 0 of Xen"]
fn agent_on_the_device_is_confined_as_its_own_user() {
    with_guest(|domain| {
        let log = domain.log();
        assert!(
            log.contains("confinement: user xen-guest-agent, no capabilities"),
            "{log}"
        );
    });
}

#[test]
#[ignore = "needs domain 0 of Xen"]
fn address_change_and_vif_hotplug() {
    with_guest(|domain| {
        let before = lasting(domain.nodes());
        domain.run("ip addr add 10.0.0.3/24 dev eth0");
        domain.await_nodes(|nodes| {
            nodes
                .get("attr/vif/0/ipv4/1")
                .is_some_and(|address| address == "10.0.0.3")
        });
        domain.run("ip addr del 10.0.0.3/24 dev eth0");
        domain.await_nodes(|nodes| lasting(nodes.clone()) == before);

        let name = domain.name().to_owned();
        xl(&[
            "network-attach",
            &name,
            "mac=00:16:3e:01:00:01",
            "bridge=xenbr0",
        ]);
        domain.await_nodes(|nodes| {
            nodes
                .get("attr/vif/1/mac/0")
                .is_some_and(|address| address == "00:16:3e:01:00:01")
        });
        domain.run("ip link set eth1 up");
        domain.run("ip addr add 10.1.0.2/16 dev eth1");
        let nodes = domain.await_nodes(|nodes| nodes.contains_key("attr/vif/1/ipv4/0/prefix"));
        let vif = ["name", "ipv4/0", "ipv4/0/prefix"]
            .map(|node| nodes[&format!("attr/vif/1/{node}")].as_str());
        assert_eq!(vif, ["eth1", "10.1.0.2", "16"]);
        xl(&["network-detach", &name, "1"]);
        domain.await_nodes(|nodes| lasting(nodes.clone()) == before);
    });
}

#[test]
#[ignore = "needs domain 0 of Xen"]
fn restore_republishes_within_three_seconds() {
    with_guest(|domain| {
        // The last address gets slot 2, which must be kept.
        domain.run("ip addr add 10.1.0.3/24 dev eth0");
        domain.await_nodes(|nodes| nodes.contains_key("attr/vif/0/ipv4/1/prefix"));
        domain.run("ip addr add 10.2.0.3/24 dev eth0");
        domain.await_nodes(|nodes| nodes.contains_key("attr/vif/0/ipv4/2/prefix"));
        domain.run("ip addr del 10.1.0.3/24 dev eth0");
        let before = domain.await_nodes(|nodes| !nodes.contains_key("attr/vif/0/ipv4/1"));
        assert_eq!(before["attr/vif/0/ipv4/2"], "10.2.0.3");
        let resumes = domain.log().matches("the domain was resumed").count();
        println!("before the save, {}:\n{}", domain.home(), show(&before));

        let image = domain.file("image");
        xl(&["save", domain.name(), &image]);
        assert!(domain.is_gone());
        xl(&["restore", &image]);
        let begin = Instant::now();
        domain.await_another();
        let is_whole = |nodes: &Tree| {
            nodes.len() == before.len() && lasting(nodes.clone()) == lasting(before.clone())
        };
        let after = domain.await_nodes(is_whole);
        let took = begin.elapsed();
        println!("after the restore, {}:\n{}", domain.home(), show(&after));
        println!("fully published {} ms after the restore", took.as_millis());

        // The log shows that the watches triggered the publication.
        assert_eq!(
            domain.log().matches("the domain was resumed").count(),
            resumes + 1,
            "{}",
            domain.log()
        );
        assert!(took <= Duration::from_secs(3), "{took:?}");
        fs::remove_file(image).unwrap();

        // The remaining address becomes the main one.
        domain.run("ip addr del 10.0.0.2/24 dev eth0");
        domain.await_nodes(|nodes| {
            !nodes.contains_key("attr/vif/0/ipv4/2")
                && nodes
                    .get("attr/vif/0/ipv4/0")
                    .is_some_and(|address| address == "10.2.0.3")
        });
        domain.run("ip addr add 10.0.0.2/24 dev eth0");
        domain.await_nodes(|nodes| {
            nodes
                .get("attr/vif/0/ipv4/1")
                .is_some_and(|address| address == "10.0.0.2")
        });
        domain.run("ip addr del 10.2.0.3/24 dev eth0");
        domain.await_nodes(|nodes| !nodes.contains_key("attr/vif/0/ipv4/1"));
    });
}

#[test]
#[ignore = "needs domain 0 of Xen"]
fn checkpoint_causes_no_write() {
    with_guest(|domain| {
        let before = lasting(domain.nodes());
        let mut watcher = Client::open().unwrap();
        for node in ["attr", "data", "feature"] {
            watcher.watch(format!("{}/{node}", domain.home())).unwrap();
            watcher.next_watch_event(Some(TIMEOUT)).unwrap().unwrap();
        }
        let image = domain.file("image");
        xl(&["save", "-c", domain.name(), &image]);
        fs::remove_file(image).unwrap();
        domain.run("true");
        let mut changed = Vec::new();
        while let Some(event) = watcher
            .next_watch_event(Some(Duration::from_secs(3)))
            .unwrap()
        {
            changed.push(event.path.to_string());
        }
        // Memory is published once a minute.
        changed.retain(|path| !path.ends_with("data/meminfo_free"));
        assert_eq!(changed, Vec::<String>::new());
        assert_eq!(lasting(domain.nodes()), before);
    });
}

#[test]
#[ignore = "needs domain 0 of Xen, and may take more than a minute"]
fn disk_hotplug_and_memory_ballooning() {
    with_guest(|domain| {
        let before = domain.nodes();
        let image = domain.file("disk");
        File::create(&image).unwrap().set_len(1 << 20).unwrap();
        let name = domain.name().to_owned();
        xl(&[
            "block-attach",
            &name,
            &format!("format=raw,vdev=xvdb,access=rw,target={image}"),
        ]);
        domain.run("until test -b /dev/xvdb; do sleep 0.1; done");
        xl(&["mem-set", &name, "160"]);
        xl(&["block-detach", &name, "xvdb"]);
        domain.run("while test -b /dev/xvdb; do sleep 0.1; done");

        // The agent polls memory once a minute.
        let total = "data/meminfo_total";
        let after = domain.await_nodes_for(Duration::from_secs(90), |nodes| {
            nodes[total] != before[total]
        });
        let rest = |nodes: Tree| {
            let mut nodes = lasting(nodes);
            nodes.remove(total);
            nodes
        };
        assert_eq!(rest(after), rest(before));
        xl(&["mem-set", &name, "192"]);
    });
}

#[test]
#[ignore = "needs domain 0 of Xen"]
fn xapi_owned_nodes_reboot_and_shutdown() {
    // This test needs its own guest, because `xl` ignores a reboot after a checkpoint.
    let mut domain = Domain::start(|dom0, id, home| {
        for node in ["control/feature-balloon", "xenserver/attr"] {
            dom0.write(format!("{home}/{node}"), "").unwrap();
            let own = Permissions::owner_only(id);
            dom0.set_permissions(format!("{home}/{node}"), &own)
                .unwrap();
        }
        dom0.write(
            format!("{home}/unique-domain-id"),
            "9a7c1c52-0d53-4f0e-8f3a-000000000001",
        )
        .unwrap();
    });
    let mut before = lasting(domain.nodes());
    assert_eq!(
        before.remove("control/feature-balloon").as_deref(),
        Some("1")
    );
    xl(&["reboot", domain.name()]);
    domain.await_another();
    domain.await_nodes(|nodes| lasting(nodes.clone()) == before);
    xl(&["shutdown", domain.name()]);
    eventually(|| domain.is_gone(), TIMEOUT);
    let log = domain.log();
    assert_eq!(log.matches("the agent ended with 0").count(), 2, "{log}");
}
