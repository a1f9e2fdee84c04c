//! The agent while Xenstore is missing or does not answer. None of these tests needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{CWD, Mode, mkfifoat};
use system_tests::{Agent, FakeRoot, Profile, TIMEOUT, build, eventually, receive};
use xenstore::embedded::{Server, Store, Toolstack};

/// Returns the command of an agent with its own root directory and no network.
fn command(root: &FakeRoot) -> Command {
    let mut command = Command::new(build("xen-guest-agent", Profile::Debug));
    command
        .args(["--stderr", "--network-mode", "off", "--root"])
        .arg(root.path());
    command
        .env_remove("XENSTORED_PATH")
        .env("XENSTORED_RUNDIR", root.join("run/xenstored"));
    command.env("NOTIFY_SOCKET", root.join("notify"));
    command
}

#[track_caller]
fn serve(server: &mut Server, until: impl Fn(&Store) -> bool) {
    let is_done = || {
        server.process();
        until(server.store())
    };
    eventually(is_done, TIMEOUT);
}

#[test]
fn missing_xenstore_is_waited_for_only_in_a_xen_guest() {
    // Each case has an option, an environment variable, and the path at which the socket appears.
    let cases = [
        (None, None, "run/xenstored/socket"),
        (Some("socket"), None, "run/xenstored/socket"),
        (Some("socket=ROOT/late"), None, "late"),
        (None, Some("ROOT/late"), "late"),
    ];
    for (option, path, socket) in cases {
        let root = FakeRoot::new();
        let in_root = |path: &str| path.replace("ROOT", root.path().to_str().unwrap());
        let mut server = Server::new(Store::new());
        server.store_mut().introduce_guest(5, Toolstack::Xapi);
        let manager = UnixDatagram::bind(root.join("notify")).unwrap();
        manager.set_read_timeout(Some(TIMEOUT)).unwrap();
        fs::create_dir(root.join("run")).unwrap();
        let start = || {
            let mut command = command(&root);
            command.args(option.map(|option| format!("--xenstore={}", in_root(option))));
            command.envs(path.map(|path| ("XENSTORED_PATH", in_root(path))));
            Agent::spawn(command, &root.join("log"))
        };
        root.write("sys/hypervisor/type", "kvm\n");
        assert!(
            [Some(1), Some(3)].contains(&start().wait().code()),
            "{option:?} {path:?}"
        );
        root.write("sys/hypervisor/type", "xen\n");
        let agent = start();
        assert_eq!(
            receive(&manager).trim(),
            "READY=1\nSTATUS=waiting for Xenstore"
        );
        fs::create_dir(root.join("run/xenstored")).unwrap();
        server.listen(root.join(socket), 5).unwrap();
        serve(&mut server, |store| {
            store
                .read("/local/domain/5/attr/PVAddons/Installed")
                .is_some()
        });
        let log = agent.stop();
        assert!(
            log.contains("trying again until it works") && log.contains("connected to Xenstore"),
            "{log}"
        );
    }
}

#[test]
fn guest_without_sys_hypervisor_waits_for_the_device() {
    let root = FakeRoot::new();
    root.remove("sys/hypervisor/type");
    fs::create_dir_all(root.join("proc/xen")).unwrap();
    let manager = UnixDatagram::bind(root.join("notify")).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let agent = Agent::spawn(command(&root), &root.join("log"));
    let message = receive(&manager);
    assert!(message.contains("waiting for Xenstore"), "{message}");
    agent.stop();
}

#[test]
fn domain_0_exits_with_3_unless_an_endpoint_is_set() {
    for (option, path) in [
        (None, false),
        (Some("auto"), false),
        (Some("socket"), false),
        (None, true),
    ] {
        let root = FakeRoot::new();
        root.write("proc/xen/capabilities", "control_d\n");
        fs::create_dir_all(root.join("run/xenstored")).unwrap();
        let mut server = Server::new(Store::new());
        server.store_mut().introduce_guest(5, Toolstack::Xapi);
        let socket = root.join("run/xenstored/socket");
        server.listen(&socket, 5).unwrap();
        let mut command = command(&root);
        command.args(option.map(|option| format!("--xenstore={option}")));
        if path {
            command.env("XENSTORED_PATH", &socket);
        }
        let mut agent = Agent::spawn(command, &root.join("log"));
        if option == Some("socket") || path {
            serve(&mut server, |store| {
                store
                    .read("/local/domain/5/attr/PVAddons/Installed")
                    .is_some()
            });
            agent.stop();
            continue;
        }
        assert_eq!(agent.wait().code(), Some(3), "{option:?}");
        let log = agent.log();
        assert!(
            log.lines().count() == 1 && log.contains("this is domain 0"),
            "{log}"
        );
    }
}

#[test]
fn unresponsive_server_without_status_file_uses_no_cpu() {
    let roots = [(); 2].map(|()| FakeRoot::new());
    let agents = [true, false].map(|has_file| {
        let root = &roots[usize::from(has_file)];
        let mut command = command(root);
        fs::create_dir(root.join("run")).unwrap();
        if !has_file {
            // A file in place of the directory prevents both the lock and the status file.
            command.env_remove("NOTIFY_SOCKET");
            root.write("run/xen-guest-agent", "");
        }
        let listener = UnixListener::bind(root.join("socket")).unwrap();
        command
            .arg("--xenstore")
            .arg(format!("socket={}", root.join("socket").display()));
        (Agent::spawn(command, &root.join("log")), listener)
    });
    let failures = [
        "cannot notify the service manager",
        "cannot report the status",
    ];
    for ((agent, _), failure) in agents.iter().zip(failures) {
        eventually(|| agent.log().contains(failure), TIMEOUT);
    }
    let status = roots[1].join("run/xen-guest-agent/state/status");
    assert!(eventually(|| fs::read_to_string(&status).ok(), TIMEOUT).contains("\"publishing\""));
    let used = || {
        // CPU time in nanoseconds.
        agents.each_ref().map(|(agent, _)| {
            agent
                .proc("schedstat")
                .split(' ')
                .next()
                .unwrap()
                .parse::<u64>()
                .unwrap()
        })
    };
    let before = used();
    sleep(Duration::from_secs(1));
    let used: Vec<_> = used()
        .iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect();
    assert!(
        used.iter().all(|used| *used < 10_000_000),
        "{used:?} ns of a second"
    );
    assert!(status.exists(), "the status file is missing");
    for ((agent, _), failure) in agents.into_iter().zip(failures) {
        let log = agent.stop();
        assert_eq!(log.matches(failure).count(), 1, "{log}");
    }
}

/// Returns the last line of the log of an agent that must exit with status 2.
fn last_line_of_invalid(root: &FakeRoot, arrange: impl Fn(&mut Command)) -> String {
    let mut command = command(root);
    arrange(&mut command);
    let mut agent = Agent::spawn(command, &root.join("log"));
    let status = agent.wait();

    let log = fs::read_to_string(root.join("log")).unwrap();
    assert_eq!(status.code(), Some(2), "{log}");
    log.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn file_that_is_neither_a_socket_nor_a_device_is_not_opened() {
    let root = FakeRoot::new();
    root.write("file", "contents");
    mkfifoat(CWD, root.join("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
    for name in ["file", "fifo"] {
        let path = root.join(name);
        let by_environment = last_line_of_invalid(&root, |command| {
            command.env("XENSTORED_PATH", &path);
        });
        let by_option = last_line_of_invalid(&root, |command| {
            command.arg(format!("--xenstore=socket={}", path.display()));
        });

        let shown = path.display();
        let expected = [
            format!("open {shown}: neither a socket nor a device"),
            format!("connect to {shown}: not a socket"),
        ];
        for (line, expected) in [by_environment, by_option].iter().zip(expected) {
            assert!(line.ends_with(&expected), "{line}");
        }
    }
    assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "contents");
}

#[test]
fn path_that_is_too_long_for_a_socket_exits_with_2_and_the_limit() {
    let root = FakeRoot::new();
    let directory = root.join(&"d".repeat(120));
    fs::create_dir(&directory).unwrap();
    let socket = directory.join("socket");
    // The address of a socket is short, so this reaches it through a link.
    symlink(&directory, root.join("short")).unwrap();
    let _server = UnixListener::bind(root.join("short/socket")).unwrap();

    let variables = [
        ("XENSTORED_PATH", &socket),
        ("XENSTORED_RUNDIR", &directory),
    ];
    let mut lines: Vec<_> = variables
        .iter()
        .map(|(name, value)| {
            last_line_of_invalid(&root, |command| {
                command.env(name, value);
            })
        })
        .collect();
    lines.push(last_line_of_invalid(&root, |command| {
        command.arg(format!("--xenstore=socket={}", socket.display()));
    }));
    let len = socket.as_os_str().len();
    let reason = format!("path too long: {len} bytes; at most 108 fit");
    for line in lines {
        assert!(line.ends_with(&reason), "{line}");
    }
}
