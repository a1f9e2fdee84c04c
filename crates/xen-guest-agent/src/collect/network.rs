//! Network interfaces and their addresses: a monitor of the platform, or polling.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use log::warn;

use super::schedule::{self, next_after};
use super::source_state::SourceState;
use crate::guest::{Device, Interfaces};
use crate::platform::{LinkMonitor, Platform, System};

/// Configuration of the network's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Kind of source.
    pub mode: Mode,
    /// Period of polls, if changes are not reported.
    pub period: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            mode: Mode::Auto,
            period: schedule::DEFAULT_PERIOD,
        }
    }
}

/// Kind of the network's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Kernel notifications, or polling where there are none
    Auto,
    /// Kernel notifications (on Linux: netlink)
    Netlink,
    /// Polling
    Poll,
    /// No network facts
    Off,
}

/// Source of interfaces.
#[derive(Debug)]
pub(super) struct Network {
    source: Source,
    config: Config,
    /// Whether every interface counts as a VIF of its own index.
    all_interfaces: bool,
    /// Time of the next poll.
    next_poll: Duration,
    /// Whether a poll has succeeded.
    has_polled: bool,
    state: SourceState,
}

#[derive(Debug)]
enum Source {
    Monitor(<System as Platform>::LinkMonitor),
    Poll,
    Off,
}

impl Network {
    /// Opens the source. The first poll is due at once.
    pub(super) fn open(
        platform: &System,
        config: Config,
        all_interfaces: bool,
    ) -> io::Result<Self> {
        let mut network = Network {
            source: Source::Off,
            config,
            all_interfaces,
            next_poll: Duration::ZERO,
            has_polled: false,
            state: SourceState::new("network interfaces"),
        };
        match config.mode {
            Mode::Off => {}
            Mode::Poll => network.source = Source::Poll,
            Mode::Netlink => network.source = Source::Monitor(platform.monitor_links()?),
            Mode::Auto => match platform.monitor_links() {
                Ok(monitor) => network.source = Source::Monitor(monitor),
                Err(error) => network.fall_back_to_polling(&error),
            },
        }
        Ok(network)
    }

    fn fall_back_to_polling(&mut self, error: &io::Error) {
        warn!(
            "{error}; polling the network every {} s instead",
            self.config.period.as_secs_f32()
        );
        (self.source, self.next_poll) = (Source::Poll, Duration::ZERO);
    }

    /// Whether this source was opened with the same configuration.
    pub(super) fn is_configured_as(&self, config: Config, all_interfaces: bool) -> bool {
        (self.config, self.all_interfaces) == (config, all_interfaces)
    }

    /// Returns the time of the next poll.
    pub(super) fn deadline(&self) -> Option<Duration> {
        match &self.source {
            Source::Monitor(monitor) => monitor.deadline(),
            Source::Poll => Some(self.next_poll),
            Source::Off => None,
        }
    }

    /// Polls the interfaces if a poll is due. Returns whether they changed.
    pub(super) fn poll(
        &mut self,
        platform: &System,
        interfaces: &mut Interfaces,
        now: Duration,
    ) -> bool {
        if self.deadline().is_none_or(|due| due > now) {
            return false;
        }
        if matches!(self.source, Source::Monitor(_)) {
            return self.on_readable(interfaces);
        }
        self.next_poll = next_after(self.next_poll, self.config.period, now);

        match platform.interfaces() {
            Ok(mut found) => {
                self.has_polled = true;
                self.state.on_success();
                self.number_all(&mut found);
                let changed = *interfaces != found;
                *interfaces = found;
                changed
            }
            Err(error) => {
                self.state.on_error(&error);
                false
            }
        }
    }

    /// Moves the next poll to `time`, unless it is due earlier, so that the poll needs no
    /// wake-up of its own.
    pub(super) fn align(&mut self, time: Duration) {
        self.next_poll = self.next_poll.min(time);
    }

    /// Processes reported changes. Returns whether the interfaces changed.
    pub(super) fn on_readable(&mut self, interfaces: &mut Interfaces) -> bool {
        let Source::Monitor(monitor) = &mut self.source else {
            return false;
        };
        // The monitor takes numbers of VIFs that it has not set for a change.
        let before = self.all_interfaces.then(|| interfaces.clone());
        let result = monitor.on_readable(interfaces);
        let has_recovered = monitor.is_synced() && !monitor.has_failed();
        self.number_all(interfaces);
        match result {
            Ok(changed) => {
                if has_recovered {
                    self.state.on_success();
                }
                changed && before.is_none_or(|before| before != *interfaces)
            }
            Err(error) => {
                self.on_error(&error);
                true
            }
        }
    }

    /// Requests a complete report if `is_full` or if the last one failed, so that no error is
    /// permanent.
    pub(super) fn resync(&mut self, is_full: bool) {
        if let Source::Monitor(monitor) = &mut self.source {
            if is_full || monitor.has_failed() {
                if let Err(error) = monitor.resync() {
                    self.on_error(&error);
                }
            }
        }
    }

    fn on_error(&mut self, error: &io::Error) {
        if self.config.mode == Mode::Auto && !self.is_synced() {
            self.fall_back_to_polling(error);
        } else {
            self.state.on_error(error);
        }
    }

    fn number_all(&self, interfaces: &mut Interfaces) {
        if self.all_interfaces {
            for (index, interface) in interfaces {
                if interface.device != Device::Loopback {
                    interface.device = Device::Vif(*index);
                }
            }
        }
    }

    /// Whether the interfaces have been complete once.
    pub(super) fn is_synced(&self) -> bool {
        match &self.source {
            Source::Monitor(monitor) => monitor.is_synced(),
            Source::Poll => self.has_polled,
            Source::Off => true,
        }
    }

    /// Returns the name of the source.
    pub(super) fn source_name(&self) -> &'static str {
        match &self.source {
            Source::Monitor(_) => <System as Platform>::LinkMonitor::NAME,
            Source::Poll => "poll",
            Source::Off => "off",
        }
    }

    /// Returns a descriptor that is readable after a change.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.source {
            Source::Monitor(monitor) => Some(monitor.as_fd()),
            Source::Poll | Source::Off => None,
        }
    }
}
