//! The loop: one thread, one poll(2).

use std::io;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};
use xenstore::{Connection, Error, Transport};

use crate::agent::{Agent, News};
use crate::cli::{Cli, Place};
use crate::collect::network::{self, VifNumbers};
use crate::collect::root::Root;
use crate::collect::{Collectors, clock, host};
use crate::guest::Guest;
use crate::publish::Change;
use crate::schema::Schema;
use crate::try_out::{TryOut, show};

/// Why the agent cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no Xenstore, and there will be none.
    #[error(
        "this is not a Xen guest: {0}. To try the agent here, run: {name} --xenstore embedded",
        name = env!("CARGO_PKG_NAME")
    )]
    NotXen(Error),
    /// Xenstore is there and cannot be used.
    #[error("{0}{hint}", hint = if .0.io_kind() == io::ErrorKind::PermissionDenied { ": it takes root" } else { "" })]
    Xenstore(Error),
    /// The system does not give what the agent needs.
    #[error("{action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl Failure {
    /// The exit status that tells a service manager what happened: 3 where this is not a Xen guest, so that starting
    /// again is of no use; 1 otherwise.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::NotXen(_) => ExitCode::from(3),
            _ => ExitCode::FAILURE,
        }
    }

    fn system(action: &'static str) -> impl Fn(io::Error) -> Failure {
        move |source| Failure::System { action, source }
    }
}

/// Readable once the agent was asked to end.
#[derive(Debug)]
pub struct Stop(UnixStream);

impl Stop {
    /// Asked by SIGTERM and SIGINT.
    ///
    /// # Errors
    /// The system's.
    pub fn on_signals() -> Result<Self, Failure> {
        let failed = Failure::system("wait for signals");
        let (ours, signals) = UnixStream::pair().map_err(&failed)?;
        for signal in [SIGTERM, SIGINT] {
            let signals = signals.try_clone().map_err(&failed)?;
            signal_hook::low_level::pipe::register(signal, signals).map_err(&failed)?;
        }
        Ok(Stop(ours))
    }
}

/// Runs the agent until it is asked to stop.
///
/// # Errors
/// Only what can never work ends it.
pub fn run(cli: &Cli, stop: &Stop) -> Result<(), Failure> {
    let root = Root::new(&cli.root);
    let mut try_out = match cli.xenstore {
        Place::Embedded => Some(TryOut::open().map_err(Failure::system("open the embedded store"))?),
        _ => None,
    };
    let connection = connect(cli, try_out.as_mut());
    match connection {
        Err(error @ Error::NotFound(_)) if !host::is_xen(&root) => return Err(Failure::NotXen(error)),
        Err(error) if matches!(error.io_kind(), io::ErrorKind::PermissionDenied) => {
            return Err(Failure::Xenstore(error));
        }
        Err(Error::Io { action, transport, source }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::Xenstore(Error::Io { action, transport, source }));
        }
        // The device of a Xen guest may come later in the boot, and a server may be about to start.
        Ok(_) | Err(_) => {}
    }
    let numbers = if try_out.is_some() { VifNumbers::Index } else { VifNumbers::Sysfs(root.clone()) };
    let network = network::Settings { mode: cli.network, period: cli.poll_period };
    let mut guest = Guest::default();
    let mut collectors = Collectors::open(root, numbers, network, &mut guest, clock::now())
        .map_err(Failure::system("see the network"))?;
    let mut agent =
        Agent::new(guest, Schema::new(cli.schema, cli.filter()), try_out.as_ref().map(|_| show as fn(&Change)));
    agent.connect(connection, clock::now());
    let mut is_spread = false;
    loop {
        let now = clock::now();
        if agent.wants_connection(now) {
            agent.connect(connect(cli, try_out.as_mut()), now);
        }
        if collectors.is_settled() {
            agent.advance(now, SystemTime::now());
        }
        if let (false, Some(domain_id)) = (is_spread, agent.domain_id()) {
            collectors.spread(domain_id, now);
            is_spread = true;
        }
        let ready = wait(stop, &agent, &collectors, try_out.as_ref(), now)?;
        let now = clock::now();
        if !ready.stop.is_empty() {
            return Ok(());
        }
        if ready.connection.contains(PollFlags::OUT) {
            agent.on_writable(now);
        }
        if ready.connection.intersects(!PollFlags::OUT) {
            agent.on_readable(now);
        }
        if !ready.network.is_empty() && collectors.on_network(&mut agent.guest) {
            agent.on_news(News::Network);
        }
        if !ready.host_name.is_empty() && collectors.on_host_name(&mut agent.guest) {
            agent.on_news(News::All);
        }
        if collectors.deadline() <= now {
            let look = collectors.look(&mut agent.guest, now);
            if look.has_news {
                agent.on_news(News::All);
            }
            if look.is_full {
                agent.compare();
            }
        }
        if let (true, Some(try_out)) = (!ready.try_out.is_empty(), &mut try_out) {
            try_out.process();
        }
    }
}

/// What poll(2) found.
struct Ready {
    stop: PollFlags,
    connection: PollFlags,
    network: PollFlags,
    host_name: PollFlags,
    try_out: PollFlags,
}

fn wait(
    stop: &Stop,
    agent: &Agent,
    collectors: &Collectors,
    try_out: Option<&TryOut>,
    now: Duration,
) -> Result<Ready, Failure> {
    let deadline = agent.deadline().map_or(collectors.deadline(), |deadline| deadline.min(collectors.deadline()));
    let mut fds = vec![PollFd::new(&stop.0, PollFlags::IN)];
    if let Some(connection) = agent.connection() {
        let mut interest = PollFlags::IN;
        interest.set(PollFlags::OUT, connection.wants_write());
        fds.push(PollFd::new(connection, interest));
    }
    fds.extend(collectors.network().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    fds.extend(collectors.host_name().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::PRI)));
    fds.extend(try_out.into_iter().flat_map(TryOut::poll_fds));

    let timeout = Timespec::try_from(deadline.saturating_sub(now)).ok();
    match rustix::event::poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(Failure::System { action: "wait", source: error.into() }),
    }
    let mut found = fds.iter().map(PollFd::revents);
    let mut next = |is_there: bool| if is_there { found.next() } else { None }.unwrap_or(PollFlags::empty());
    Ok(Ready {
        stop: next(true),
        connection: next(agent.connection().is_some()),
        network: next(collectors.network().is_some()),
        host_name: next(collectors.host_name().is_some()),
        try_out: found.fold(PollFlags::empty(), PollFlags::union),
    })
}

fn connect(cli: &Cli, try_out: Option<&mut TryOut>) -> Result<Connection, Error> {
    match try_out {
        Some(try_out) => try_out.connect(),
        None => open(&cli.xenstore),
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
