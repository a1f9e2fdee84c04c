//! The sub-command `withdraw`: removes the nodes of the agent from Xenstore.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use xenstore::Connection;

use crate::agent::Agent;
use crate::collect::services;
use crate::daemon::connect::{connect, is_automatic};
use crate::error::Failure;
use crate::guest::Services;
use crate::platform::{Platform, System, clock};
use crate::root::Root;
use crate::runtime_dir;
use crate::settings::{Endpoint, Settings};
use crate::show::print;
use crate::text::summarize;

/// Time for everything, so that the removal of a package ends although Xenstore does not answer. A
/// server answers within milliseconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Removes the nodes of the agent from Xenstore, and prints one line about the result. Does nothing
/// where there is no Xenstore, or in domain 0.
///
/// # Errors
/// An agent is running, Xenstore is not usable or does not answer, or it rejects a removal.
pub fn run(settings: &Settings) -> Result<(), Failure> {
    let platform = System::new(Root::new(&settings.root));
    if is_automatic(&settings.xenstore) && platform.is_control_domain() {
        return print("nothing to withdraw: this is domain 0, where the agent does not run\n");
    }

    let connection = connect(&settings.xenstore);
    let directory = runtime_dir::path(platform.root());
    // A running agent may still wait for Xenstore, so an existing directory is locked without it.
    let locked = directory
        .as_deref()
        .filter(|directory| connection.is_ok() || directory.is_dir());
    let _lock = locked.map(lock).transpose()?;
    let connection = match connection {
        Ok(connection) => connection,
        Err(error) if error.io_kind() == std::io::ErrorKind::NotFound => {
            return print(&format!("nothing to withdraw: {error}\n"));
        }
        Err(error) => return Err(Failure::Xenstore(error)),
    };

    let state =
        directory.map(|directory| runtime_dir::state_file(&directory, runtime_dir::SERVICES));
    let path = settings.services.to_string_lossy();
    let mut published = services::Directory::open(&platform, &path, state);
    let mut services = Services::default();
    published.withdraw(&mut services);

    let agent = Agent::withdrawing(services.clone());
    let removed = remove(agent, connection, &settings.xenstore)?;
    published.forget_withdrawn(&mut services);

    print(&match removed {
        0 => "nothing to withdraw: Xenstore has no nodes of the agent\n".to_owned(),
        1 => "withdrew 1 node\n".to_owned(),
        nodes => format!("withdrew {nodes} nodes\n"),
    })
}

/// Locks the runtime directory, so that no agent runs meanwhile.
fn lock(directory: &Path) -> Result<File, Failure> {
    runtime_dir::lock(directory)
        .map_err(Failure::system("lock the runtime directory"))?
        .ok_or_else(|| Failure::Running(directory.to_owned()))
}

/// Removes the nodes, and looks for remaining ones and empty parents afterwards. Returns the number
/// of nodes.
fn remove(mut agent: Agent, connection: Connection, endpoint: &Endpoint) -> Result<usize, Failure> {
    let transport = connection.channel().name().to_owned();
    let mut now = clock::now();
    let deadline = now + TIMEOUT;
    agent.connect(Ok(connection), now);

    let (mut found, mut is_compared) = (0, false);
    loop {
        if agent.wants_connection(now) {
            agent.connect(connect(endpoint), now);
        }
        agent.advance(now, SystemTime::now());
        if agent.is_published() {
            if std::mem::replace(&mut is_compared, true) {
                break;
            }
            agent.compare();
            continue;
        }
        if now >= deadline {
            return Err(Failure::Unanswered {
                transport,
                seconds: TIMEOUT.as_secs(),
            });
        }

        wait(&mut agent, now, deadline)?;
        now = clock::now();
        found = found.max(agent.nodes().filter(|(_, value)| !value.is_empty()).count());
    }

    let remaining = agent.denied().chain(agent.deferred()).count();
    let failures: Vec<_> = agent.take_failures().collect();
    if remaining > 0 {
        return Err(Failure::NotWithdrawn(summarize(failures.iter())));
    }
    Ok(found)
}

/// Waits until the connection is ready, and handles that, or until the agent has work to do.
fn wait(agent: &mut Agent, now: Duration, deadline: Duration) -> Result<(), Failure> {
    let until = agent.deadline().unwrap_or(deadline).min(deadline);
    let timeout = Timespec::try_from(until.saturating_sub(now)).ok();
    let mut fds: Vec<_> = agent
        .connection()
        .map(|connection| {
            let mut interest = PollFlags::IN;
            interest.set(PollFlags::OUT, connection.wants_write());
            PollFd::new(connection, interest)
        })
        .into_iter()
        .collect();

    match rustix::event::poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(Failure::system("poll")(error.into())),
    }
    let ready = fds.first().map_or(PollFlags::empty(), PollFd::revents);

    let now = clock::now();
    if ready.contains(PollFlags::OUT) {
        agent.on_writable(now);
    }
    if ready.intersects(!PollFlags::OUT) {
        agent.on_readable(now);
    }
    Ok(())
}
