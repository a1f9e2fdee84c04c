//! Debian systems with a running systemd, in containers.

use std::fs::{self, File};
use std::num::NonZeroI32;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::cache::cached;
use crate::observe::eventually;
use crate::testbed::Testbed;

/// Release of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debian {
    /// Debian 12, with systemd 252.
    Bookworm,
    /// Debian 13, with systemd 257.
    Trixie,
}

impl Debian {
    fn suite(self) -> &'static str {
        match self {
            Debian::Bookworm => "bookworm",
            Debian::Trixie => "trixie",
        }
    }
}

/// Packages of the system beyond those that every Debian system has.
const INSTALLED: [&str; 5] = ["dbus", "iproute2", "systemd", "systemd-sysv", "udev"];

/// Package that can be installed without a network: [`DOWNLOADS`] contains it and its dependencies.
const DOWNLOADED: &str = "xenstore-utils";

/// Directory of downloaded packages in the system.
pub const DOWNLOADS: &str = "/srv/packages";

/// The testbed's file of the memory's size in the system. Only the agent's unit sees it at
/// `/proc/meminfo`, because systemd-nspawn cannot mount it there.
const MEMORY: &str = "/srv/meminfo";

/// Generous timeout of a boot, which only a stalled machine exceeds.
const BOOT: Duration = Duration::from_secs(60);

/// A booted system without any file of this project. Dropping it ends the system and discards all
/// of its files.
///
/// It has the network and the memory of a [`Testbed`], and its Xenstore is the testbed's guest.
/// Unlike in a guest, Xenstore is the socket of xenstored, and systemd detects a container instead
/// of Xen. The agent's unit therefore has a drop-in.
pub struct Booted {
    /// A shell that runs systemd-nspawn.
    container: Child,
    /// Process ID of the system's init, as this machine sees it.
    init: Option<Pid>,
    directory: TempDir,
    /// Containers that run at the same time would share one control group.
    _alone: MutexGuard<'static, ()>,
}

impl Booted {
    /// Boots the system. The first call for a release downloads about 100 MB.
    pub fn new(debian: Debian, testbed: &Testbed) -> Self {
        Booted::with_packages(debian, &[], testbed)
    }

    /// Boots the system with further packages of Debian. The first call with these packages
    /// downloads another system.
    pub fn with_packages(debian: Debian, packages: &[&str], testbed: &Testbed) -> Self {
        static RUNNING: Mutex<()> = Mutex::new(());
        let alone = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let installed = [&INSTALLED, packages].concat();
        let root = cached(
            &format!("{}+{}+{DOWNLOADED}", debian.suite(), installed.join("+")),
            |work| bootstrap(debian, &installed, work),
        );
        let directory = tempfile::tempdir().expect("make a temporary directory");
        let container = boot(&root, directory.path(), testbed);
        let mut booted = Booted {
            container,
            init: None,
            directory,
            _alone: alone,
        };
        booted.wait_until_booted();
        booted
    }

    /// Runs a shell script as root in the system, and returns its standard output.
    #[track_caller]
    pub fn run(&self, script: &str) -> String {
        let output = self.try_run(script);
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{script}: {}:\n{stdout}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        stdout
    }

    /// Runs a shell script as root in the system, which may fail. Standard input is empty.
    pub fn try_run(&self, script: &str) -> Output {
        Command::new("nsenter")
            .args(["--target", &self.init().to_string()])
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--"])
            .args(["env", "-i", "LC_ALL=C.UTF-8", "TERM=dumb"])
            .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .arg("DEBIAN_FRONTEND=noninteractive")
            .args(["sh", "-ec", script])
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("nsenter: {error}: install util-linux"))
    }

    /// Path of a file of the running system. `file` has no leading slash.
    ///
    /// Absolute symbolic links in it lead to files of this machine.
    pub fn path(&self, file: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.init())).join(file)
    }

    /// Reboots the system. Its files stay, except those in `/run` and `/tmp`.
    #[track_caller]
    pub fn reboot(&mut self) {
        let old = format!("/proc/{}", self.init());
        self.run("systemctl reboot");
        eventually(|| !Path::new(&old).exists(), BOOT);
        self.wait_until_booted();
    }

    #[track_caller]
    fn wait_until_booted(&mut self) {
        let deadline = Instant::now() + BOOT;
        loop {
            let state = self.find_init().map(|init| {
                self.init = Some(init);
                let output = self.try_run("systemctl is-system-running --wait");
                String::from_utf8_lossy(&output.stdout).trim().to_owned()
            });
            if state.as_deref() == Some("running") {
                return;
            }
            assert!(
                state.as_deref() != Some("degraded"),
                "a unit failed during the boot:\n{}",
                self.run("systemctl --failed; journalctl --boot --priority=warning")
            );
            let ended = self.container.try_wait().expect("wait for the container");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "the system does not boot ({ended:?}, state {state:?}):\n{}",
                self.console()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns the process that is process 1 of the system. There is none before systemd-nspawn has
    /// prepared its file systems.
    fn find_init(&self) -> Option<Pid> {
        let is_init = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            ids.is_some_and(|ids| ids.split_whitespace().skip(1).eq(["1"]))
        };
        children(self.container.id())
            .into_iter()
            .flat_map(children)
            .find(is_init)
            .and_then(|pid| Pid::from_raw(pid.try_into().ok()?))
    }

    #[track_caller]
    fn init(&self) -> NonZeroI32 {
        self.init.expect("the system has booted").as_raw_nonzero()
    }

    /// Returns everything that the system has printed on its console.
    pub fn console(&self) -> String {
        fs::read_to_string(self.directory.path().join("console")).unwrap_or_default()
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // All processes of the system end with its init, and its mounts with the shell. The end of
        // systemd-nspawn must be awaited, because it holds a lock on the root directory.
        let killed = self.init.map(|init| kill_process(init, Signal::KILL));
        if !matches!(killed, Some(Ok(()))) {
            self.container.kill().ok();
        }
        self.container.wait().ok();
    }
}

/// Returns the child processes of a process with one thread.
fn children(process: u32) -> Vec<u32> {
    let path = format!("/proc/{process}/task/{process}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

/// Makes the root directory of a release below `work`, and returns its path.
fn bootstrap(debian: Debian, installed: &[&str], work: &Path) -> PathBuf {
    let root = work.join("root");
    let download = format!(
        r#"mkdir -p "$1{DOWNLOADS}/partial" && chroot "$1" apt-get install -qy --download-only -o Dir::Cache::archives={DOWNLOADS} {DOWNLOADED}"#
    );
    let output = Command::new("mmdebstrap")
        .arg("--variant=minbase")
        .arg(format!("--include={}", installed.join(",")))
        .arg(format!("--customize-hook={download}"))
        .arg(debian.suite())
        .arg(&root)
        .output()
        .unwrap_or_else(|error| panic!("mmdebstrap: {error}: install mmdebstrap"));
    assert!(
        output.status.success(),
        "mmdebstrap cannot make {debian:?}:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    root
}

/// Adapts the agent's unit to a container.
fn write_drop_in(root: &Path) {
    let directory = root.join("etc/systemd/system/xen-guest-agent.service.d");
    let text = format!(
        "[Unit]\nConditionVirtualization=\n[Service]\nBindReadOnlyPaths={MEMORY}:/proc/meminfo\n"
    );
    fs::create_dir_all(&directory)
        .and_then(|()| fs::write(directory.join("container.conf"), text))
        .expect("write a drop-in");
}

/// Starts a container with a copy of `root` in memory. The other files of the container are in
/// `directory`.
fn boot(root: &Path, directory: &Path, testbed: &Testbed) -> Child {
    // systemd-nspawn cannot mount anything into the testbed's network interfaces, which are links.
    let interfaces = directory.join("net");
    let copied = Command::new("cp")
        .args(["--recursive", "--dereference"])
        .arg(testbed.root.join("sys/class/net"))
        .arg(&interfaces)
        .status();
    assert!(copied.is_ok_and(|status| status.success()), "cp failed");

    write_drop_in(&directory.join("added"));

    // The mounts belong to a mount namespace, so that they end with the container.
    let script = r#"
        mount -t tmpfs -o mode=755 booted "$1/copy"
        mkdir "$1/copy/root" "$1/copy/upper" "$1/copy/work"
        mount -t overlay -o "lowerdir=$2,upperdir=$1/copy/upper,workdir=$1/copy/work" booted "$1/copy/root"
        cp --archive "$1/added/." "$1/copy/root"
        directory=$1
        shift 2

        # systemd-nspawn ends with this status if the system reboots.
        status=133
        while [ $status = 133 ]; do
            status=0
            setpriv --pdeathsig TERM systemd-nspawn --directory="$directory/copy/root" "$@" || status=$?
        done
        exit $status
    "#;
    fs::create_dir(directory.join("copy")).expect("make a directory");
    let console = File::create(directory.join("console")).expect("make a file for the console");
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .args(["unshare", "--mount", "--propagation", "private"])
        .args(["sh", "-ec", script, "sh"])
        .arg(directory)
        .arg(root)
        .args(["--quiet", "--boot", "--register=no", "--keep-unit"])
        .args(["--console=read-only", "--machine=guest"])
        // In a guest nothing refuses these.
        .arg(
            "--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self",
        )
        .arg(format!(
            "--network-namespace-path={}",
            testbed.network.namespace()
        ))
        .arg(format!(
            "--bind={}:/run/xenstored/socket",
            testbed.guest.socket().display()
        ))
        .arg(format!("--bind-ro={}:/sys/class/net", interfaces.display()))
        .arg(format!(
            "--bind-ro={}:{MEMORY}",
            testbed.root.join("proc/meminfo").display()
        ))
        .stdin(Stdio::null())
        .stdout(console.try_clone().expect("share the console file"))
        .stderr(console)
        .spawn()
        .unwrap_or_else(|error| panic!("setpriv: {error}: install util-linux"))
}
