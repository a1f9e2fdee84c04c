//! The loop: one thread, one poll(2).

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use log::{error, info, warn};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use xenstore::{Connection, Error, Transport};

use crate::agent::Agent;
use crate::collect::{Collectors, clock, host, services};
use crate::error::Failure;
use crate::guest::Guest;
use crate::root::Root;
use crate::runtime_dir;
use crate::schema::Schema;
use crate::settings::{Place, Settings, Sources};
use crate::status::Status;
use crate::try_out::TryOut;

/// So long the first publication waits for the network, which takes milliseconds to tell all where it rests.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where signals arrive: each descriptor is readable once there was one.
#[derive(Debug)]
pub struct Signals {
    /// SIGTERM and SIGINT: the agent should end.
    stop: UnixStream,
    /// SIGHUP: it should read its settings again.
    reload: UnixStream,
}

impl Signals {
    /// Catches the signals from now on.
    ///
    /// # Errors
    /// The system's.
    pub fn catch() -> Result<Self, Failure> {
        let catch = |signals: &[i32]| {
            let (ours, theirs) = UnixStream::pair()?;
            for signal in signals {
                signal_hook::low_level::pipe::register(*signal, theirs.try_clone()?)?;
            }
            ours.set_nonblocking(true)?;
            Ok(ours)
        };
        let failed = Failure::system("wait for signals");
        let stop = catch(&[SIGTERM, SIGINT]).map_err(&failed)?;
        Ok(Signals {
            stop,
            reload: catch(&[SIGHUP]).map_err(&failed)?,
        })
    }
}

/// Starts the log as the settings have it. A try-out is watched on a terminal.
pub fn start_log(settings: &Settings) {
    crate::logging::start(
        &settings.loglevel,
        settings.stderr || settings.xenstore == Place::Embedded,
    );
}

/// Runs the agent until it is asked to stop. `sources` is where its settings are found again.
///
/// # Errors
/// Only what can never work ends it.
pub fn run(mut settings: Settings, sources: &Sources, signals: &Signals) -> Result<(), Failure> {
    let root = Root::new(&settings.root);
    let mut try_out = match settings.xenstore {
        Place::Embedded => {
            Some(TryOut::open().map_err(Failure::system("open the embedded store"))?)
        }
        _ => None,
    };
    let connection = unless_hopeless(connect(&settings.xenstore, try_out.as_mut()), &root)?;
    // A try-out's store is its own.
    let directory = if try_out.is_some() {
        None
    } else {
        runtime_dir::path(&root)
    };
    // Kept as long as the agent runs.
    let _lock = match &directory {
        Some(directory) => lock(directory)?,
        None => None,
    };
    if let (Some(process), None) = (host::former_agent(&root), &try_out) {
        warn!(
            "xe-daemon (process {process}) writes the same nodes: remove the package xe-guest-utilities, or stop it and \
             see that it is not started again"
        );
    }
    let mut guest = Guest::default();
    let mut collectors = open_collectors(&settings, root, directory.as_deref(), &mut guest)?;
    let schema = Schema::new(settings.schema, settings.filter.clone());
    let mut agent = Agent::new(guest, schema);
    agent.set_node_budget(settings.node_budget);
    agent.connect(connection, clock::now());
    let (mut spread_for, network_due) = (None, clock::now() + PATIENCE);
    let mut status = Status::new(directory, SystemTime::now());
    loop {
        let now = clock::now();
        if agent.wants_connection(now) {
            agent.connect(connect(&settings.xenstore, try_out.as_mut()), now);
        }
        agent.set_network_known(collectors.is_settled());
        let is_waiting = !collectors.is_settled() && now < network_due;
        if !is_waiting {
            agent.advance(now, SystemTime::now());
            if agent.is_published() {
                agent.update(|guest| {
                    collectors.on_published(guest);
                    false
                });
            }
        }
        status.update(&agent, &collectors, now, SystemTime::now());
        // Another one after a migration.
        if let Some(domain_id) = agent.domain_id().filter(|id| spread_for != Some(*id)) {
            collectors.spread(domain_id, now);
            spread_for = Some(domain_id);
        }
        let next = if is_waiting {
            Some(network_due)
        } else {
            agent.deadline()
        };
        let deadline = [next, status.deadline()]
            .into_iter()
            .flatten()
            .fold(collectors.deadline(), Duration::min);
        let ready = wait(
            signals,
            &agent,
            &collectors,
            try_out.as_ref(),
            deadline.saturating_sub(now),
        )?;
        let now = clock::now();
        if !ready.stop.is_empty() {
            return Ok(());
        }
        if !ready.reload.is_empty() {
            // The terminal of a try-out is gone.
            if try_out.is_some() {
                return Ok(());
            }
            // However many signals there were, one reading is for all of them.
            while (&signals.reload)
                .read(&mut [0; 64])
                .is_ok_and(|len| len > 0)
            {}
            // Whatever the settings are.
            agent.retry_refused();
            if let Some(new) = reload(sources, &settings) {
                agent.update(|guest| {
                    collectors.set(new.network, new.memory_period, guest, now);
                    true
                });
                agent.set_node_budget(new.node_budget);
                agent.set_schema(new.schema, new.filter.clone());
                agent.compare();
                status.refresh();
                spread_for = None;
                settings = new;
            }
        }
        if ready.connection.contains(PollFlags::OUT) {
            agent.on_writable(now);
        }
        if ready.connection.intersects(!PollFlags::OUT) {
            agent.on_readable(now);
        }
        agent.update(|guest| {
            let network = !ready.network.is_empty() && collectors.on_network(guest);
            let host_name = !ready.host_name.is_empty() && collectors.on_host_name(guest);
            let services = !ready.services.is_empty() && collectors.on_services(guest);
            network || host_name || services
        });
        if collectors.deadline() <= now {
            let mut is_full = false;
            agent.update(|guest| {
                let look = collectors.look(guest, now);
                is_full = look.is_full;
                look.has_news
            });
            if is_full {
                agent.compare();
            }
        }
        if let (true, Some(try_out)) = (!ready.try_out.is_empty(), &mut try_out) {
            try_out.process();
        }
    }
}

fn open_collectors(
    settings: &Settings,
    root: Root,
    directory: Option<&Path>,
    guest: &mut Guest,
) -> Result<Collectors, Failure> {
    let (numbers, network) = (settings.vif_numbers(), settings.network);
    let mut collectors = Collectors::open(
        root.clone(),
        numbers,
        network,
        settings.memory_period,
        guest,
        clock::now(),
    )
    .map_err(Failure::system("see the network"))?;
    if settings.volumes {
        collectors.add_volumes(guest);
    }
    let state = directory.map(|directory| directory.join(services::STATE));
    collectors.add_services(
        services::Directory::open(root, &settings.services.to_string_lossy(), state),
        guest,
    );
    Ok(collectors)
}

/// The connection, or none for now: in a Xen guest the device or the socket may come later in the boot, and a server may be
/// about to start. What can never work is a failure.
fn unless_hopeless(
    connection: Result<Connection, Error>,
    root: &Root,
) -> Result<Result<Connection, Error>, Failure> {
    match connection {
        Err(error) if error.io_kind() == io::ErrorKind::PermissionDenied => {
            Err(Failure::Xenstore(error))
        }
        Err(error) if error.io_kind() == io::ErrorKind::NotFound && !host::is_xen(root) => {
            Err(match error {
                Error::NotFound(_) => Failure::NotXen(error),
                _ => Failure::Xenstore(error),
            })
        }
        Ok(_) | Err(_) => Ok(connection),
    }
}

fn lock(directory: &Path) -> Result<Option<File>, Failure> {
    match runtime_dir::lock(directory) {
        Ok(None) => Err(Failure::Running(directory.to_owned())),
        Ok(lock) => Ok(lock),
        Err(error) => {
            warn!("{error}: another agent beside this one would not be noticed");
            Ok(None)
        }
    }
}

/// What poll(2) found.
struct Ready {
    stop: PollFlags,
    reload: PollFlags,
    connection: PollFlags,
    network: PollFlags,
    host_name: PollFlags,
    services: PollFlags,
    try_out: PollFlags,
}

fn wait(
    signals: &Signals,
    agent: &Agent,
    collectors: &Collectors,
    try_out: Option<&TryOut>,
    timeout: Duration,
) -> Result<Ready, Failure> {
    let mut fds = vec![
        PollFd::new(&signals.stop, PollFlags::IN),
        PollFd::new(&signals.reload, PollFlags::IN),
    ];
    if let Some(connection) = agent.connection() {
        let mut interest = PollFlags::IN;
        interest.set(PollFlags::OUT, connection.wants_write());
        fds.push(PollFd::new(connection, interest));
    }
    fds.extend(
        collectors
            .network()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
    );
    fds.extend(
        collectors
            .host_name()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::PRI)),
    );
    fds.extend(
        collectors
            .services()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
    );
    fds.extend(try_out.into_iter().flat_map(TryOut::poll_fds));

    let timeout = Timespec::try_from(timeout).ok();
    match rustix::event::poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => {
            return Err(Failure::System {
                action: "wait",
                source: error.into(),
            });
        }
    }
    let mut found = fds.iter().map(PollFd::revents);
    let mut next =
        |is_there: bool| if is_there { found.next() } else { None }.unwrap_or(PollFlags::empty());
    Ok(Ready {
        stop: next(true),
        reload: next(true),
        connection: next(agent.connection().is_some()),
        network: next(collectors.network().is_some()),
        host_name: next(collectors.host_name().is_some()),
        services: next(collectors.services().is_some()),
        try_out: found.fold(PollFlags::empty(), PollFlags::union),
    })
}

/// Reads the settings again, and has the log follow them. None where they are wrong; what only a restart gives effect
/// stays as it is.
fn reload(sources: &Sources, old: &Settings) -> Option<Settings> {
    let mut new = match sources.load() {
        Ok(loaded) => loaded.settings,
        Err(wrong) => {
            error!("settings stay as they were: {wrong}");
            return None;
        }
    };
    for pending in new.keep_until_restart(old) {
        warn!("{pending} takes effect after a restart");
    }
    start_log(&new);
    info!("settings were read again");
    Some(new)
}

fn connect(place: &Place, try_out: Option<&mut TryOut>) -> Result<Connection, Error> {
    match try_out {
        Some(try_out) => try_out.connect(),
        None => open(place),
    }
    .map(Connection::new)
}

fn open(place: &Place) -> Result<Transport, Error> {
    match place {
        Place::Device => Transport::open_device(),
        Place::Socket(Some(path)) => Transport::connect(path),
        Place::Socket(None) => Transport::open_socket(),
        Place::Auto | Place::Embedded => Transport::open(),
    }
}
