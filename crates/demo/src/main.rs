//! Runs the guest agent on a machine without Xen, and prints the nodes that it publishes.
//!
//! The process has three threads: a Xenstore server, the agent as the client of a guest, and a
//! client of domain 0 that watches the nodes of that guest. A change is printed when domain 0 reads
//! it, and so after the server has accepted it.

mod interface;

use std::error::Error;
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use rustix::process::{Signal, geteuid, getpid, kill_process};
use xen_guest_agent::confine::Mode;
use xen_guest_agent::daemon::{Daemon, Options};
use xen_guest_agent::logging;
use xen_guest_agent::settings::{Endpoint, Settings, Sources};
use xen_guest_agent::signals::Signals;
use xenstore::embedded::{Server, Store, Toolstack};
use xenstore::{Client, DomId, Nodes, Transport};

use interface::Interface;

/// Domain ID of the guest.
const GUEST: DomId = DomId::new(1);

const USAGE: &str = "\
usage: demo [--no-interface]
Runs the guest agent on a machine without Xen, and prints the nodes that it publishes.
With --no-interface, it creates no network interface.";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let has_interface = match arguments.as_slice() {
        [] => true,
        [argument] if argument == "--no-interface" => false,
        _ => {
            print_error(USAGE);
            return ExitCode::from(2);
        }
    };

    match run(has_interface) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of the output has seen enough, as in `demo | head -1`.
        Err(error) if is_output_closed(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&format!("demo: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a line on standard error. It may be closed or full, which is no reason to panic.
fn print_error(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn run(has_interface: bool) -> Result<(), Box<dyn Error>> {
    // Signals come first, because an uncaught one would leave the directory and interface behind.
    let signals = Signals::for_terminal()?;
    let settings = Settings::default();
    logging::start(&settings.loglevel, true);

    let directory = tempfile::Builder::new()
        .prefix("xen-guest-agent-demo-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()?;
    let socket = |name: &str| directory.path().join(name);
    let (dom0_socket, guest_socket) = (socket("dom0"), socket("guest"));
    let mut store = Store::new();
    store.introduce_guest(GUEST, Toolstack::Xapi);
    let mut server = Server::new(store);
    server.listen(&dom0_socket, DomId::DOM0)?;
    server.listen(&guest_socket, GUEST)?;
    let server = server.spawn()?;

    let interface = has_interface.then(Interface::create).transpose();
    writeln!(io::stdout(), "{}", introduction(&dom0_socket, &interface))?;

    // The watch must exist before the agent starts, so that no change is missed.
    let home = format!("/local/domain/{GUEST}");
    let mut dom0 = Client::new(Transport::open_socket_at(&dom0_socket)?);
    dom0.watch(&home)?;
    let printer = thread::spawn(move || {
        if print_changes(&mut dom0, &home).is_err_and(|error| is_output_closed(&*error)) {
            // Nobody reads the output any more, so the demo ends as if a user had stopped it.
            let _ = kill_process(getpid(), Signal::TERM);
        }
    });

    let settings = Settings {
        xenstore: Endpoint::Socket(Some(guest_socket)),
        // The other threads need privileges that the agent gives up.
        confine: Mode::Off,
        ..settings
    };
    let options = Options {
        runtime_dir: None,
        all_interfaces: true,
        warns_of_other_agents: false,
    };
    let result =
        Daemon::new(settings, options).and_then(|daemon| daemon.run(&Sources::default(), &signals));

    // Without the server, the connection of the printer fails, which ends that thread.
    drop(server);
    let _ = printer.join();
    Ok(result?)
}

/// Returns the text that tells users what they can do while the demo runs.
fn introduction(socket: &Path, interface: &Result<Option<Interface>, String>) -> String {
    let change = match interface {
        Ok(Some(_)) => format!(
            "Add an address from another terminal, and see it appear here:\n  {}\n",
            Interface::example()
        ),
        Ok(None) => String::new(),
        Err(error) if error.contains("File exists") => format!(
            "There is an interface {0} already. If no other demo is running, remove it: \
             sudo ip link delete {0}\n",
            interface::NAME
        ),
        Err(error) => format!(
            "The demo cannot create a network interface: {error}. It can in a network namespace:\n  \
             unshare -rn cargo run --release -p demo\n"
        ),
    };
    format!(
        "The agent runs in domain {GUEST} of a Xenstore server in this process. Every network interface except \
         loopback counts as a VIF.\n{}\n{change}\
         Press Ctrl-C to end the demo. It prints each change that the server confirms:\n",
        reading_example(socket)
    )
}

/// Returns a command that reads the nodes, with its explanation.
fn reading_example(socket: &Path) -> String {
    let variable = format!("XENSTORED_PATH={}", socket.display());
    let arguments = format!("ls /local/domain/{GUEST}");

    // Under sudo, the demo runs as root, who rarely has the cargo of rustup.
    let xenstore = std::env::current_exe()
        .map(|demo| demo.with_file_name("xenstore"))
        .ok()
        .filter(|path| path.exists() && geteuid().is_root() && !is_in_user_namespace());
    match xenstore {
        Some(path) => format!(
            "Read the nodes from another terminal:\n  sudo {variable} {} {arguments}",
            path.display()
        ),
        None => format!(
            "Read the nodes from another terminal, as the same user:\n  \
             {variable} cargo run --release -p xenstore-cli -- {arguments}"
        ),
    }
}

/// Prints the changes below `home` until the server ends or standard output is closed.
fn print_changes(dom0: &mut Client, home: &str) -> Result<(), Box<dyn Error>> {
    let mut is_first = true;
    while let Some(event) = dom0.next_watch_event(None)? {
        // The first event only confirms the watch.
        if std::mem::take(&mut is_first) {
            continue;
        }
        let path = event.path.as_str();
        let name = path.strip_prefix(home).unwrap_or(path);
        let name = name.trim_start_matches('/');
        match dom0.read(path) {
            Ok(value) => {
                let value = String::from_utf8_lossy(&value);
                writeln!(io::stdout(), "{name} = \"{}\"", value.escape_debug())?;
            }
            Err(error) if error.io_kind() == io::ErrorKind::NotFound => {
                writeln!(io::stdout(), "{name} removed")?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn is_output_closed(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Whether this process runs in a user namespace, where `sudo` in another terminal does not reach
/// its network.
fn is_in_user_namespace() -> bool {
    // The first user namespace maps all user IDs.
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !map.contains("4294967295"))
}
