//! Messages to the service manager, as in `sd_notify(3)`. None of them blocks.

use std::env;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use log::warn;
use rustix::time::{ClockId, clock_gettime};

use crate::platform::{Platform, System};

/// Time after which a state is sent again that the service manager had no room for. A boot may wait
/// for it.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// Time after which the watchdog message is sent again that the service manager had no room for.
/// The service manager ends the agent after a timeout without one.
const WATCHDOG_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Whether a service manager started the agent that starts it again after a failure: systemd, which
/// sets the first variable, or OpenRC, which sets the second. SysV init starts nothing again.
pub fn restarts_agent() -> bool {
    ["NOTIFY_SOCKET", "RC_SVCNAME"]
        .iter()
        .any(|name| env::var_os(name).is_some())
}

/// The service manager that started the agent, if it wants messages.
#[derive(Debug)]
pub struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// State that was sent last.
    sent: Option<&'static str>,
    /// Time of the next attempt to send a state that was not received.
    retry: Option<Duration>,
    /// Whether the service manager had no room for the report of a reload.
    is_reload_unsent: bool,
    has_failed: bool,
    watchdog: Option<Watchdog>,
}

/// Timer of the messages that show the service manager that the agent is not stuck.
#[derive(Debug)]
struct Watchdog {
    interval: Duration,
    /// Time from which a message is sent if the loop runs anyway, which saves a wake-up.
    earliest: Duration,
    /// Time at which the loop wakes up for a message.
    deadline: Duration,
}

impl ServiceManager {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`. An invalid address is logged.
    pub fn from_environment() -> Self {
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let socket = variable("NOTIFY_SOCKET").and_then(|address| {
            let opened = open(&address);
            opened
                .inspect_err(|error| warn!("NOTIFY_SOCKET {address:?}: {error}"))
                .ok()
        });

        let own_id = std::process::id().to_string();
        let is_for_us = variable("WATCHDOG_PID").is_none_or(|process| process == own_id);
        let timeout = variable("WATCHDOG_USEC")
            .filter(|_| is_for_us)
            .and_then(|microseconds| microseconds.parse().ok())
            .filter(|microseconds| *microseconds > 0)
            .map(Duration::from_micros);
        ServiceManager::new(socket, timeout)
    }

    fn new(socket: Option<(UnixDatagram, SocketAddr)>, watchdog_timeout: Option<Duration>) -> Self {
        let watchdog = watchdog_timeout.filter(|_| socket.is_some());
        ServiceManager {
            socket,
            sent: None,
            retry: None,
            is_reload_unsent: false,
            has_failed: false,
            watchdog: watchdog.map(|timeout| Watchdog {
                interval: timeout / 2,
                earliest: Duration::ZERO,
                deadline: Duration::ZERO,
            }),
        }
    }

    /// Sends what is due: readiness and the state if it differs from the last one, and the watchdog
    /// message. `state` is `None` until the agent is ready.
    pub fn update(&mut self, state: Option<&'static str>, now: Duration) {
        let is_due = self.retry.is_none_or(|retry| retry <= now);
        if let Some(state) = state.filter(|_| is_due && self.sent != state) {
            // Without the report of the reload, the service manager takes no notice of its end.
            let is_received = (!self.is_reload_unsent || self.send_reloading())
                && self.send(&format!("READY=1\nSTATUS={state}"));
            self.sent = is_received.then_some(state).or(self.sent);
            self.retry = (!is_received).then_some(now + RETRY_INTERVAL);
        }

        let is_due = |watchdog: &Watchdog| watchdog.earliest <= now;
        if self.watchdog.as_ref().is_some_and(is_due) {
            let is_received = self.send("WATCHDOG=1");
            if let Some(watchdog) = &mut self.watchdog {
                watchdog.schedule(is_received, now);
            }
        }
    }

    /// Reports that the agent rereads its settings. The next update reports readiness.
    pub fn reloading(&mut self) {
        self.send_reloading();
        (self.sent, self.retry) = (None, None);
    }

    /// Sends the report of a reload. Returns `false` if the service manager had no room for it.
    fn send_reloading(&mut self) -> bool {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        let is_received = self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
        self.is_reload_unsent = !is_received;
        is_received
    }

    /// Reports that the agent ends.
    pub fn stopping(&mut self) {
        self.send("STOPPING=1");
    }

    /// Returns the time at which [`update`](Self::update) has work even if the state stays.
    pub fn deadline(&self) -> Option<Duration> {
        let watchdog = self.watchdog.as_ref().map(|watchdog| watchdog.deadline);
        [self.retry, watchdog].into_iter().flatten().min()
    }

    /// Sends a message. Returns `false` if the service manager had no room for it, so that the
    /// caller may try again. Other errors count as sent. Only the first one in a row is logged.
    fn send(&mut self, message: &str) -> bool {
        let Some((socket, address)) = &self.socket else {
            return true;
        };
        match socket.send_to_addr(message.as_bytes(), address) {
            Ok(_) => self.has_failed = false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) => {
                if !std::mem::replace(&mut self.has_failed, true) {
                    warn!("cannot notify the service manager: {error}");
                }
            }
        }
        true
    }
}

impl Watchdog {
    /// Schedules the message after one that the service manager received or had no room for.
    fn schedule(&mut self, is_received: bool, now: Duration) {
        let retry = self.interval.min(WATCHDOG_RETRY_INTERVAL);
        (self.earliest, self.deadline) = if is_received {
            (now + self.interval / 2, now + self.interval)
        } else {
            (now + retry, now + retry)
        };
    }
}

/// Opens a socket that sends to the address, which is a path or an abstract name after `@`.
fn open(address: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match address.strip_prefix('@') {
        Some(name) => System::abstract_socket(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn manager(directory: &Path, timeout: Option<Duration>) -> (UnixDatagram, ServiceManager) {
        let path = directory.join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let socket = open(path.to_str().unwrap()).unwrap();
        (receiver, ServiceManager::new(Some(socket), timeout))
    }

    fn received(receiver: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 256];
        let next = || {
            let length = receiver.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn state_is_sent_if_it_differs() {
        let directory = tempfile::tempdir().unwrap();
        let (receiver, mut manager) = manager(directory.path(), None);
        for state in [None, Some("a"), Some("a"), None, Some("b")] {
            manager.update(state, SECOND);
        }
        assert_eq!(
            received(&receiver),
            ["READY=1\nSTATUS=a", "READY=1\nSTATUS=b"]
        );
        assert_eq!(manager.deadline(), None);

        manager.reloading();
        manager.update(Some("b"), SECOND);
        manager.stopping();
        let messages = received(&receiver);
        assert_eq!(messages[1..], ["READY=1\nSTATUS=b", "STOPPING=1"]);
        let time = messages[0].strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let time: i64 = time.unwrap().parse().unwrap();
        let now = clock_gettime(ClockId::Monotonic).tv_sec * 1_000_000;
        assert!((now - 60_000_000..=now + 1_000_000).contains(&time));
    }

    #[test]
    fn state_is_sent_again_if_the_queue_was_full() {
        let directory = tempfile::tempdir().unwrap();
        let (receiver, mut manager) = manager(directory.path(), None);
        while manager.send("X=1") {}
        manager.update(Some("a"), SECOND);
        assert_eq!(manager.deadline(), Some(SECOND + RETRY_INTERVAL));
        received(&receiver);
        manager.update(Some("a"), SECOND * 2);
        assert_eq!(received(&receiver), [""; 0]);
        manager.update(Some("a"), SECOND + RETRY_INTERVAL);
        assert_eq!(received(&receiver), ["READY=1\nSTATUS=a"]);
        assert_eq!(manager.deadline(), None);
    }

    #[test]
    fn watchdog_is_notified_at_half_of_its_timeout_or_when_the_loop_runs_anyway() {
        let directory = tempfile::tempdir().unwrap();
        let (receiver, mut manager) = manager(directory.path(), Some(SECOND * 8));
        for (now, count, deadline) in [(0, 1, 4), (1, 0, 4), (4, 1, 8), (6, 1, 10), (20, 1, 24)] {
            manager.update(None, SECOND * now);
            assert_eq!(received(&receiver).len(), count, "{now} s");
            assert_eq!(manager.deadline(), Some(SECOND * deadline), "{now} s");
        }
    }

    #[test]
    fn watchdog_is_notified_a_second_later_if_the_queue_was_full() {
        let directory = tempfile::tempdir().unwrap();
        let (receiver, mut manager) = manager(directory.path(), Some(SECOND * 8));
        while manager.send("X=1") {}
        manager.update(None, SECOND * 24);
        assert_eq!(manager.deadline(), Some(SECOND * 25));

        // The loop causes no attempts in between.
        received(&receiver);
        manager.update(None, SECOND * 24 + SECOND / 2);
        assert_eq!(received(&receiver), [""; 0]);
        manager.update(None, SECOND * 25);
        assert_eq!(received(&receiver), ["WATCHDOG=1"]);
        assert_eq!(manager.deadline(), Some(SECOND * 29));
    }

    #[test]
    fn watchdog_retry_is_not_later_than_half_of_the_timeout() {
        let directory = tempfile::tempdir().unwrap();
        let (_receiver, mut manager) = manager(directory.path(), Some(SECOND));
        while manager.send("X=1") {}
        manager.update(None, SECOND);
        assert_eq!(manager.deadline(), Some(SECOND + SECOND / 2));
    }

    #[test]
    fn reload_is_reported_before_readiness_if_the_queue_was_full() {
        let directory = tempfile::tempdir().unwrap();
        let (receiver, mut manager) = manager(directory.path(), None);
        manager.update(Some("a"), SECOND);
        while manager.send("X=1") {}
        manager.reloading();
        manager.update(Some("a"), SECOND);
        assert_eq!(manager.deadline(), Some(SECOND + RETRY_INTERVAL));

        let messages = received(&receiver);
        assert!(!messages.iter().any(|message| message.contains("RELOADING")));
        for _ in 0..2 {
            manager.update(Some("a"), SECOND + RETRY_INTERVAL);
        }
        let messages = received(&receiver);
        assert!(messages[0].starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(messages[1..], ["READY=1\nSTATUS=a"]);
        assert_eq!(manager.deadline(), None);
    }
}
