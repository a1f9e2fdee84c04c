//! System calls, wake-ups and memory of an idle agent.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use system_tests::{Agent, Daemon, Profile, Toolstack, build};

use crate::testbed;

#[test]
#[ignore = "needs root and xenstored"]
fn private_memory_is_bounded() {
    let mut testbed = testbed(Daemon::C, Toolstack::Xapi);

    // Like a service manager, start the agent without `--root` and with a small environment.
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
    assert!(agent.proc("status").contains("Seccomp:\t2"), "confined");
    let rollup = agent.proc("smaps_rollup");

    // `Private_Dirty` also counts pages of a binary that is not on disk yet.
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
    println!("private memory: {own} KiB");
    // Confinement, which is in force here, may cost 16 of these.
    assert!(
        (50..=216).contains(&own),
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

    // Tracing adds context switches, so system calls and context switches are counted on two
    // agents.
    let trace = traced.root.join("trace");
    let id = traced_agent.id().to_string();
    let mut strace = Command::new("strace")
        .args(["-q", "-f", "-o"])
        .arg(&trace)
        .args(["-p", &id])
        .spawn()
        .unwrap();
    // A period below two minutes contains one or two of the polls that happen every minute.
    sleep(Duration::from_secs(115));
    let after = (untraced.guest.requests().total(), switches());
    kill_process(Pid::from_child(&strace), Signal::INT).unwrap();
    strace.wait().unwrap();
    let calls = fs::read_to_string(trace).unwrap();
    let count = calls.lines().count();

    let switches = after.1 - before.1;
    let requests = after.0 - before.0;
    println!("{count} system calls, {switches} context switches, {requests} requests in 115 s");

    // The first line is the interrupted wait. The lower bound shows that a wake-up was measured at
    // all.
    assert!((4..=12).contains(&count), "{count} system calls:\n{calls}");
    assert!((1..=5).contains(&switches), "{switches} context switches");
    assert!(requests <= 2, "{requests} requests");
}
