//! The event loop: one thread, one poll(2).

mod confinement;
pub(crate) mod connect;
mod wait;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use log::{error, info, warn};
use rustix::event::PollFlags;
use xenstore::DomId;

use crate::agent::Agent;
use crate::collect::Collectors;
use crate::error::Failure;
use crate::guest::Guest;
use crate::other_agents::warn_of_other_agents;
use crate::platform::{Platform, System, clock};
use crate::rate_limit::Limiter;
use crate::root::Root;
use crate::runtime_dir;
use crate::schema::Schema;
use crate::service_manager::ServiceManager;
use crate::settings::{Settings, Sources};
use crate::signals::Signals;
use crate::status::Status;
use confinement::Confinement;
use connect::{check_retryable, connect, is_automatic};
use wait::Token;

/// Time that the first publication waits for the initial network dump, which usually takes
/// milliseconds.
const INITIAL_NETWORK_TIMEOUT: Duration = Duration::from_secs(1);

/// Number of wake-ups by collectors' sources that may follow one another at once.
const SOURCE_BURST: u32 = 20;

/// Time between two wake-ups by sources after a burst. Any user can change the host name in a UTS
/// namespace of its own, and the kernel reports that to all namespaces.
const SOURCE_INTERVAL: Duration = Duration::from_millis(100);

/// Starts the log, or changes it, according to the settings.
pub fn start_log(settings: &Settings) {
    crate::logging::start(&settings.loglevel, settings.stderr);
}

/// Runs the agent of this guest until a signal stops it. On SIGHUP the agent reloads its settings
/// from `sources`.
///
/// # Errors
/// Only errors that no retry can resolve.
pub fn run(settings: Settings, sources: &Sources, signals: &Signals) -> Result<(), Failure> {
    let platform = System::new(Root::new(&settings.root));
    let options = Options {
        runtime_dir: runtime_dir::path(platform.root()),
        all_interfaces: false,
        warns_of_other_agents: true,
    };
    Daemon::new(settings, options)?.run(sources, signals)
}

/// Properties of the daemon that are not settings, because only the demo needs other values.
#[derive(Debug)]
pub struct Options {
    /// Directory of the lock, the socket and the status file. Without one, the daemon keeps none
    /// of them.
    pub runtime_dir: Option<PathBuf>,
    /// Whether every network interface but loopback counts as a VIF.
    pub all_interfaces: bool,
    /// Whether to warn of other agents that run in this guest.
    pub warns_of_other_agents: bool,
}

/// The daemon: the agent, its collectors, and the loop that drives them.
#[derive(Debug)]
pub struct Daemon {
    settings: Settings,
    agent: Agent,
    collectors: Collectors,
    /// Whether every network interface but loopback counts as a VIF.
    all_interfaces: bool,
    status: Status,
    /// Rate limit of wake-ups by the collectors' sources.
    source_limiter: Limiter,
    service_manager: ServiceManager,
    /// Time at which the first publication stops waiting for the network.
    network_due: Duration,
    /// Domain ID by which the polls are staggered. It changes with a migration.
    staggered_by: Option<DomId>,
    /// Whether to warn of other agents after the first publication.
    warns_of_other_agents: bool,
    /// Whether the log has the line about the first complete publication.
    is_publication_logged: bool,
    confinement: Confinement,
    runtime_dir: Option<PathBuf>,
    /// Held open, because closing the file releases the lock.
    lock: Option<File>,
    /// Problem with the lock that was logged last.
    lock_problem: Option<String>,
}

impl Daemon {
    /// Connects to Xenstore, takes the lock and opens the collectors.
    ///
    /// # Errors
    /// Only errors that no retry can resolve.
    pub fn new(settings: Settings, options: Options) -> Result<Self, Failure> {
        let platform = System::new(Root::new(&settings.root));
        if is_automatic(&settings.xenstore) && platform.is_control_domain() {
            return Err(Failure::ControlDomain);
        }
        let connection = check_retryable(connect(&settings.xenstore), &platform)?;
        let lock = match &options.runtime_dir {
            Some(directory) => lock(directory)?,
            None => None,
        };
        if let (Some(directory), Some(_)) = (&options.runtime_dir, &lock) {
            confinement::take_state(directory);
        }

        let config = settings.collectors(options.all_interfaces);
        let runtime_dir = options.runtime_dir.as_deref();
        let now = clock::now();
        let mut guest = Guest::default();
        let collectors = Collectors::open(platform, &config, runtime_dir, &mut guest, now)
            .map_err(Failure::system("monitor the network"))?;

        let schema = Schema::new(settings.schema, settings.filter.clone());
        let mut agent = Agent::new(guest, schema);
        agent.set_node_budget(settings.node_budget);

        info!(
            "version {}: Xenstore {}, network {}, schema {}",
            env!("CARGO_PKG_VERSION"),
            match &connection {
                Ok(connection) => format!("at {}", connection.channel().name()),
                Err(_) => "not available yet".to_owned(),
            },
            collectors.network_source(),
            crate::settings::name(&settings.schema),
        );
        let now = clock::now();
        agent.connect(connection, now);

        Ok(Daemon {
            settings,
            agent,
            collectors,
            all_interfaces: options.all_interfaces,
            status: Status::new(options.runtime_dir.clone(), SystemTime::now()),
            source_limiter: Limiter::new(SOURCE_BURST, SOURCE_INTERVAL),
            service_manager: ServiceManager::from_environment(),
            network_due: now + INITIAL_NETWORK_TIMEOUT,
            staggered_by: None,
            warns_of_other_agents: options.warns_of_other_agents,
            is_publication_logged: false,
            confinement: Confinement::None,
            runtime_dir: options.runtime_dir,
            lock,
            lock_problem: None,
        })
    }

    /// Runs until a signal stops it.
    ///
    /// # Errors
    /// The error of poll(2), and that of a connection that the confined agent may not open again.
    pub fn run(mut self, sources: &Sources, signals: &Signals) -> Result<(), Failure> {
        loop {
            let now = clock::now();
            let deadline = self.tick(now, SystemTime::now())?;
            self.confine(sources);
            let ready = self.wait(signals, now, deadline)?;

            let now = clock::now();
            let is_source = |(token, _): &(Token, _)| matches!(token, Token::Source(_));
            if ready.iter().any(is_source) {
                self.source_limiter.take(now);
            }
            for (token, flags) in ready {
                match token {
                    Token::Stop => {
                        self.service_manager.stopping();
                        return Ok(());
                    }
                    Token::Reload => {
                        signals.clear_reload();
                        self.reload(sources, now);
                    }
                    token => self.on_ready(token, flags, now),
                }
            }
            self.poll_collectors(now);
        }
    }

    /// Performs all work that is due, and returns the time of the next call if nothing happens
    /// before.
    fn tick(&mut self, now: Duration, date: SystemTime) -> Result<Duration, Failure> {
        if self.agent.wants_connection(now) {
            let connection = connect(&self.settings.xenstore);
            match connection {
                Err(error)
                    if self.is_confined() && error.io_kind() == io::ErrorKind::PermissionDenied =>
                {
                    return Err(Failure::Confined(error));
                }
                connection => self.agent.connect(connection, now),
            }
        }

        self.agent.set_network_known(self.collectors.is_synced());
        let is_waiting = !self.collectors.is_synced() && now < self.network_due;
        if !is_waiting {
            self.agent.advance(now, date);
            if self.agent.is_published() {
                self.on_published();
            }
        }

        self.status.update(&self.agent, &self.collectors, now, date);
        self.service_manager.update(self.status.ready_state(), now);
        self.stagger_polls(now);
        // Logs the number of lost messages, if the log accepts messages again.
        log::logger().flush();

        let agent = if is_waiting {
            Some(self.network_due)
        } else {
            self.agent.deadline()
        };
        let status = self.status.deadline();
        Ok([agent, status, self.service_manager.deadline()]
            .into_iter()
            .flatten()
            .fold(self.collectors.deadline(), Duration::min))
    }

    fn on_published(&mut self) {
        self.agent.update(|guest| {
            self.collectors.on_published(guest);
            false
        });
        if !std::mem::replace(&mut self.is_publication_logged, true) {
            let nodes = self.agent.nodes().filter(|(_, value)| !value.is_empty());
            info!("published {} nodes", nodes.count());
            // A user may run thousands of processes, so the search for others comes last.
            if self.warns_of_other_agents {
                warn_of_other_agents(&System::new(Root::new(&self.settings.root)));
            }
        }
    }

    /// Staggers the polls of the guests of one host, by domain ID.
    fn stagger_polls(&mut self, now: Duration) {
        let domain_id = self.agent.domain_id();
        if let Some(id) = domain_id.filter(|_| domain_id != self.staggered_by) {
            self.collectors.stagger(id, now);
            self.staggered_by = domain_id;
        }
    }

    /// Handles a descriptor that poll(2) found ready.
    fn on_ready(&mut self, token: Token, flags: PollFlags, now: Duration) {
        let (agent, collectors) = (&mut self.agent, &mut self.collectors);
        match token {
            Token::Connection => {
                if flags.contains(PollFlags::OUT) {
                    agent.on_writable(now);
                }
                if flags.intersects(!PollFlags::OUT) {
                    agent.on_readable(now);
                }
            }
            Token::Source(source) => agent.update(|guest| collectors.on_ready(source, guest)),
            Token::Stop | Token::Reload => {}
        }
    }

    /// Polls the sources without events, if a poll is due.
    fn poll_collectors(&mut self, now: Duration) {
        if self.collectors.deadline() > now {
            return;
        }
        let mut is_full = false;
        self.agent.update(|guest| {
            let poll = self.collectors.poll(guest, now);
            is_full = poll.is_full;
            poll.changed
        });
        self.agent.probe_quota();
        if is_full {
            self.agent.compare();
            self.renew_lock();
        }
    }

    /// Takes the lock again if somebody removed its file, for example to tidy `/run`.
    fn renew_lock(&mut self) {
        let (Some(directory), Some(lock)) = (&self.runtime_dir, &self.lock) else {
            return;
        };
        if runtime_dir::is_locked(directory, lock) {
            return;
        }
        let removed = format!("lock removed from {}", directory.display());
        let problem = match runtime_dir::lock(directory) {
            Ok(Some(lock)) => {
                warn!("{removed}: locked it again");
                self.lock = Some(lock);
                None
            }
            Ok(None) => Some(format!(
                "{removed}: another agent has locked it; stop one of the two"
            )),
            Err(error) => Some(format!(
                "cannot lock again after the lock was removed: {error}"
            )),
        };

        // Each full poll finds the same problem again.
        if let Some(problem) = problem.as_ref().filter(|_| self.lock_problem != problem) {
            warn!("{problem}");
        }
        self.lock_problem = problem;
    }

    /// Reads the settings again, and retries failed writes. Invalid settings are logged and have no
    /// effect.
    fn reload(&mut self, sources: &Sources, now: Duration) {
        self.service_manager.reloading();
        self.agent.retry_failed_writes();
        let mut new = match sources.load() {
            Ok(loaded) => loaded.settings,
            Err(error) => {
                for message in error.messages() {
                    error!("keeping the old settings: {message}");
                }
                return;
            }
        };

        for pending in new.keep_until_restart(&self.settings) {
            warn!("{pending} takes effect after a restart");
        }
        start_log(&new);
        info!("settings reloaded");

        // The pattern has no `..`, so that a new setting does not compile until it is handled here.
        let Settings {
            schema,
            filter,
            node_budget,
            // The configuration of the collectors includes these.
            memory_period: _,
            network: _,
            // `start_log` has applied these.
            stderr: _,
            loglevel: _,
            // These take effect after a restart.
            xenstore: _,
            root: _,
            confine: _,
            volumes: _,
            services: _,
        } = new.clone();

        let config = new.collectors(self.all_interfaces);
        self.agent.update(|guest| {
            self.collectors.reconfigure(&config, guest, now);
            true
        });
        // The collectors have started a new schedule, which is not staggered.
        self.staggered_by = None;

        self.agent.set_node_budget(node_budget);
        self.agent.set_schema(schema, filter);
        self.agent.compare();
        self.status.refresh();
        self.settings = new;
    }
}

fn lock(directory: &Path) -> Result<Option<File>, Failure> {
    match runtime_dir::lock(directory) {
        Ok(None) => Err(Failure::Running(directory.to_owned())),
        Ok(lock) => Ok(lock),
        Err(error) => {
            warn!(
                "cannot lock the runtime directory: {error}; a second agent would not be noticed"
            );
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::collect::network::Mode;
    use crate::settings::Endpoint;

    #[test]
    fn removed_lock_is_locked_again_unless_another_agent_has_it() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("sys/hypervisor")).unwrap();
        fs::write(at("sys/hypervisor/type"), "xen\n").unwrap();
        fs::create_dir_all(at("proc/sys/kernel")).unwrap();
        fs::write(at("proc/sys/kernel/hostname"), "guest\n").unwrap();
        fs::write(at("proc/meminfo"), "MemTotal: 2 kB\nMemAvailable: 1 kB\n").unwrap();
        let mut settings = Settings {
            root: root.path().to_owned(),
            xenstore: Endpoint::Socket(Some(at("no-server"))),
            ..Settings::default()
        };
        settings.network.mode = Mode::Off;
        let directory = at("run");
        let options = Options {
            runtime_dir: Some(directory.clone()),
            all_interfaces: false,
            warns_of_other_agents: false,
        };
        let mut daemon = Daemon::new(settings, options).unwrap();
        let is_locked = |daemon: &Daemon| {
            let lock = daemon.lock.as_ref().unwrap();
            runtime_dir::is_locked(&directory, lock)
        };

        fs::remove_file(directory.join("lock")).unwrap();
        daemon.renew_lock();
        assert!(is_locked(&daemon));

        fs::remove_file(directory.join("lock")).unwrap();
        let another = runtime_dir::lock(&directory).unwrap().unwrap();
        let name = directory.display();
        let problem =
            format!("lock removed from {name}: another agent has locked it; stop one of the two");
        for _ in 0..2 {
            daemon.renew_lock();
            assert!(!is_locked(&daemon));
            // A problem that equals the last one is not logged again.
            assert_eq!(daemon.lock_problem.as_ref(), Some(&problem));
        }

        drop(another);
        daemon.renew_lock();
        assert!(is_locked(&daemon));
        assert_eq!(daemon.lock_problem, None);
    }
}
