//! Messages to the service manager: `sd_notify(3)`.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use system_tests::{Agent, Daemon, Profile, TIMEOUT, Testbed, Toolstack, receive, time_limit};

use crate::testbed;

/// A service manager that receives the messages of an agent.
struct Manager(UnixDatagram);

impl Manager {
    /// Starts the agent with more options and environment variables.
    fn start(testbed: &Testbed, options: &[&str], variables: &[(&str, &str)]) -> (Self, Agent) {
        let socket = testbed.root.join("notify");
        let manager = UnixDatagram::bind(&socket).unwrap();
        manager.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut command = testbed.command(Profile::Debug);
        command.args(options).env("NOTIFY_SOCKET", &socket);
        command.envs(variables.iter().copied());
        let agent = Agent::spawn(command, &testbed.root.join("log"));
        (Manager(manager), agent)
    }

    #[track_caller]
    fn next(&self) -> String {
        receive(&self.0)
    }
}

#[test]
#[ignore = "needs root and xenstored"]
fn sd_notify_reports_each_state_once() {
    let mut testbed = testbed(Daemon::C, Toolstack::Xapi);
    let (manager, agent) = Manager::start(&testbed, &[], &[]);
    assert_eq!(manager.next(), "READY=1\nSTATUS=published");

    // A publication does not change the state, so no message comes before that of the reload.
    testbed.network.ip("addr add 10.0.0.9/24 dev lan");
    testbed.await_network();
    agent.signal(Signal::HUP);
    let reloading = manager.next();
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    assert!(
        time.is_some_and(|time| time.parse::<u64>().is_ok()),
        "{reloading}"
    );
    assert_eq!(manager.next(), "READY=1\nSTATUS=published");

    let server = Pid::from_raw(i32::try_from(testbed.store.pid()).unwrap()).unwrap();
    kill_process(server, Signal::KILL).unwrap();
    assert_eq!(manager.next(), "READY=1\nSTATUS=waiting for Xenstore");
    agent.stop();
    assert_eq!(manager.next(), "STOPPING=1");
}

#[test]
#[ignore = "needs root and xenstored"]
fn sd_notify_watchdog_is_independent_of_polls() {
    let testbed = testbed(Daemon::C, Toolstack::Xapi);
    let options = ["--memory-period=600"];
    let variables = [("WATCHDOG_USEC", "600000")];
    let (manager, agent) = Manager::start(&testbed, &options, &variables);
    while manager.next() != "READY=1\nSTATUS=published" {}

    let begin = Instant::now();
    for _ in 0..10 {
        assert_eq!(manager.next(), "WATCHDOG=1");
    }
    let elapsed = begin.elapsed();
    assert!(
        (Duration::from_millis(2500)..time_limit(Duration::from_secs(6))).contains(&elapsed),
        "10 messages in {elapsed:?}"
    );
    drop(agent);
    std::fs::remove_file(testbed.root.join("notify")).unwrap();

    // The watchdog of another process.
    let variables = [("WATCHDOG_USEC", "600000"), ("WATCHDOG_PID", "1")];
    let (manager, agent) = Manager::start(&testbed, &options, &variables);
    assert_eq!(manager.next(), "READY=1\nSTATUS=published");
    std::thread::sleep(Duration::from_secs(1));
    agent.stop();
    assert_eq!(manager.next(), "STOPPING=1");
}
