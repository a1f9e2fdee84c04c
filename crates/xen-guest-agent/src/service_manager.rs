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

/// The service manager that started the agent, if it wants messages.
#[derive(Debug)]
pub struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// State that was sent last.
    sent: Option<&'static str>,
    /// Time of the next attempt to send a state that was not received.
    retry: Option<Duration>,
    has_failed: bool,
    watchdog: Option<Watchdog>,
}

/// Timer of the messages that show the service manager that the agent is not stuck.
#[derive(Debug)]
struct Watchdog {
    interval: Duration,
    last_sent: Option<Duration>,
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
            has_failed: false,
            watchdog: watchdog.map(|timeout| Watchdog {
                interval: timeout / 2,
                last_sent: None,
            }),
        }
    }

    /// Sends what is due: readiness and the state if it differs from the last one, and the watchdog
    /// message. `state` is `None` until the agent is ready.
    pub fn update(&mut self, state: Option<&'static str>, now: Duration) {
        let is_due = self.retry.is_none_or(|retry| retry <= now);
        if let Some(state) = state.filter(|_| is_due && self.sent != state) {
            let is_received = self.send(&format!("READY=1\nSTATUS={state}"));
            self.sent = is_received.then_some(state).or(self.sent);
            self.retry = (!is_received).then_some(now + RETRY_INTERVAL);
        }

        // A message from half of the interval on saves a wake-up if the loop runs anyway.
        let is_due = self.watchdog.as_mut().is_some_and(|watchdog| {
            let half = watchdog.interval / 2;
            let is_due = watchdog.last_sent.is_none_or(|last| now >= last + half);
            if is_due {
                watchdog.last_sent = Some(now);
            }
            is_due
        });
        if is_due {
            self.send("WATCHDOG=1");
        }
    }

    /// Reports that the agent rereads its settings. The next update reports readiness.
    pub fn reloading(&mut self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
        (self.sent, self.retry) = (None, None);
    }

    /// Reports that the agent ends.
    pub fn stopping(&mut self) {
        self.send("STOPPING=1");
    }

    /// Returns the time at which [`update`](Self::update) has work even if the state stays.
    pub fn deadline(&self) -> Option<Duration> {
        let watchdog = self.watchdog.as_ref().map(|watchdog| {
            let next = |last: Duration| last + watchdog.interval;
            watchdog.last_sent.map_or(Duration::ZERO, next)
        });
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

        // A full queue causes no attempts in between.
        while manager.send("X=1") {}
        manager.update(None, SECOND * 24);
        assert_eq!(manager.deadline(), Some(SECOND * 28));
    }
}
