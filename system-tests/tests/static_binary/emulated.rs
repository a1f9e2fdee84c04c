//! The agent on kernels and processors of QEMU.

use std::collections::BTreeMap;
use std::time::Duration;

use system_tests::{
    AARCH64_BOOKWORM, Daemon, EmulatedGuest, EmulatedMachine, Toolstack, X86_64_BULLSEYE,
    Xenstored, eventually, tree,
};
use xenstore::{Client, Transport};

/// Generous timeout under emulation.
const TIMEOUT: Duration = Duration::from_secs(120);

struct EmulatedTestbed {
    guest: EmulatedGuest,
    dom0: Client,
    home: String,
    /// Number of agents so far.
    starts: u32,
    domain: system_tests::Guest,
    _store: Xenstored,
}

/// Values of `/proc/PID/status` of a confined agent.
struct Confinement {
    uid: u32,
    /// Text of the log.
    line: &'static str,
}

impl EmulatedTestbed {
    fn boot(machine: &EmulatedMachine) -> Self {
        let store = Xenstored::start(Daemon::C);
        let domain = store.guest(5, Toolstack::Xapi);
        let dom0 = Client::new(Transport::open_socket_at(store.socket()).unwrap());
        let mut guest = EmulatedGuest::boot(machine, domain.socket());
        guest.run("mke2fs /dev/vda && mount -t ext2 /dev/vda /disk");
        guest.run("syslogd -O /run/syslog");
        EmulatedTestbed {
            guest,
            dom0,
            home: domain.home(),
            starts: 0,
            domain,
            _store: store,
        }
    }

    fn await_node(&mut self, node: &str, value: Option<&str>) -> BTreeMap<String, String> {
        let condition = || {
            let nodes = tree(&mut self.dom0, &self.home);
            (nodes.get(node).map(String::as_str) == value).then_some(nodes)
        };
        eventually(condition, TIMEOUT)
    }

    fn await_log(&mut self, log: &str, text: &str) {
        let found = || self.guest.status(&format!("grep -q '{text}' {log}")).0 == 0;
        eventually(found, TIMEOUT);
    }

    /// Starts an agent, causes all kinds of changes, and stops the agent.
    fn scenario(&mut self, options: &str, log: &str, confinement: &Confinement) {
        self.starts += 1;
        let (port, service) = (self.starts, format!("service{}", self.starts));
        self.guest.run(&format!("use_port {port}; : >{log}"));
        let redirection = if log == "/run/syslog" {
            String::new()
        } else {
            format!("--stderr 2>{log}")
        };
        self.guest.run(&format!(
            "xen-guest-agent --volumes-enabled {options} {redirection} & agent=$!"
        ));
        self.await_log(log, "published .* nodes");
        let nodes = self.await_node("attr/vif/0/ipv4/0", Some("10.0.0.2"));
        assert_eq!(nodes["data/os_uname"], self.guest.release);
        assert_eq!(nodes["data/host_name_dns"], "web1");
        assert_eq!(nodes["data/os_distro"], "debian");
        assert!(nodes.contains_key("data/volumes/0/free"), "{nodes:?}");

        self.await_log(log, &format!("confinement: {}", confinement.line));
        let status = self.guest.run("cat /proc/$agent/status");
        let uid = confinement.uid;
        assert!(
            status.contains(&format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n")),
            "{status}"
        );
        for line in [
            "CapEff:\t0000000000000000\n",
            "CapBnd:\t0000000000000000\n",
            "NoNewPrivs:\t1\n",
            "Seccomp:\t2\n",
        ] {
            assert!(status.contains(line), "{line}: {status}");
        }

        // Addresses, a service, the host name, a reload and a resume.
        self.guest.run("ip addr add 10.0.0.3/24 dev lan");
        self.await_node("attr/vif/0/ipv4/1", Some("10.0.0.3"));
        let services = "/etc/xen-guest-agent/services.d";
        self.guest
            .run(&format!("echo 'port = 80' >{services}/{service}.conf"));
        self.await_node(&format!("data/service/{service}/port"), Some("80"));
        self.guest.run("hostname web2");
        self.await_node("data/host_name_dns", Some("web2"));
        self.guest.run("kill -HUP $agent");
        self.await_log(log, "settings reloaded");
        self.domain.resume();
        self.await_node("data/host_name_dns", Some("web2"));

        let (_, printed) = self.guest.status("xen-guest-agent status");
        assert!(printed.contains(confinement.line), "{printed}");
        assert!(printed.contains("state = \"published\""), "{printed}");

        self.guest.run(&format!("rm {services}/{service}.conf"));
        self.await_node(&format!("data/service/{service}"), None);
        self.guest
            .run("ip addr del 10.0.0.3/24 dev lan; hostname web1");
        self.await_node("attr/vif/0/ipv4/1", None);
        self.await_node("data/host_name_dns", Some("web1"));
        self.guest.run("kill -TERM $agent && wait $agent");
    }
}

#[test]
#[ignore = "needs root, xenstored, Debian's packages and static binaries, and runs QEMU"]
fn agent_runs_on_linux_5_10() {
    let mut testbed = EmulatedTestbed::boot(&X86_64_BULLSEYE);
    assert!(testbed.guest.release.starts_with("5.10."));

    let user = Confinement {
        uid: 998,
        line: "user xen-guest-agent, no capabilities, no new privileges, seccomp; not available here: Landlock",
    };
    testbed.scenario("--confine=user", "/run/log", &user);
    let uid0 = Confinement {
        uid: 0,
        line: "uid 0, no capabilities, no new privileges, seccomp; not available here: Landlock",
    };
    testbed.scenario("--confine=uid0", "/run/syslog", &uid0);
}

#[test]
#[ignore = "needs root, xenstored, Debian's packages and static binaries, and runs QEMU"]
fn agent_runs_on_aarch64() {
    let mut testbed = EmulatedTestbed::boot(&AARCH64_BOOKWORM);
    let user = Confinement {
        uid: 998,
        line: "user xen-guest-agent, no capabilities, no new privileges, Landlock V2, seccomp",
    };
    testbed.scenario("--confine=user", "/run/log", &user);
    let uid0 = Confinement {
        uid: 0,
        line: "uid 0, no capabilities, no new privileges, Landlock V2, seccomp",
    };
    testbed.scenario(
        "--confine=uid0 --network-mode=poll --network-poll-period=1",
        "/run/syslog",
        &uid0,
    );
}
