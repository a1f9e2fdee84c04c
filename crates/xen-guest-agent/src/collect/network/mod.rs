//! Network interfaces and their addresses.

mod netlink;
mod poll;
mod table;
mod vif;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use log::warn;

use super::root::Root;
use crate::guest::Interface;
use netlink::Netlink;
use poll::Poll;
pub use vif::VifNumbers;

/// How the network is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which way.
    pub mode: Mode,
    /// The time between two looks, where changes are not reported.
    pub period: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { mode: Mode::Auto, period: super::PERIOD }
    }
}

/// Which way the network is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// By netlink, or from time to time where there is none
    Auto,
    /// By the kernel's reports of each change, and not at all where there are none
    Netlink,
    /// From time to time
    Poll,
    /// Not at all
    Off,
}

/// The network, by one way or another.
#[derive(Debug)]
pub struct Network {
    source: Source,
    settings: Settings,
    /// The next look.
    next: Duration,
}

#[derive(Debug)]
enum Source {
    Netlink(Netlink),
    Poll(Poll),
    Off,
}

impl Network {
    /// Opens what `settings` ask for; the first look is due at once.
    ///
    /// # Errors
    /// The system's, where netlink must be used and cannot.
    pub fn open(root: Root, numbers: VifNumbers, settings: Settings) -> io::Result<Self> {
        let poll = || Source::Poll(Poll::new(root, numbers.clone()));
        let source = match settings.mode {
            Mode::Off => Source::Off,
            Mode::Poll => poll(),
            Mode::Netlink => Source::Netlink(Netlink::open(numbers)?),
            Mode::Auto => match Netlink::open(numbers.clone()) {
                Ok(netlink) => Source::Netlink(netlink),
                Err(error) => {
                    warn!("{error}; looking at the network every {} s instead", settings.period.as_secs_f32());
                    poll()
                }
            },
        };
        Ok(Network { source, settings, next: Duration::ZERO })
    }

    /// How it is looked at.
    pub(super) fn settings(&self) -> Settings {
        self.settings
    }

    /// When [`look`](Self::look) should be called.
    pub(super) fn deadline(&self) -> Option<Duration> {
        matches!(self.source, Source::Poll(_)).then_some(self.next)
    }

    /// Looks, if it is time to, at what is not reported. Whether something changed.
    pub(super) fn look(&mut self, interfaces: &mut BTreeMap<u32, Interface>, now: Duration) -> bool {
        match &mut self.source {
            Source::Poll(poll) if self.next <= now => {
                // From the old moment and not from now, so that it stays in step with the other looks.
                self.next = Some(self.next + self.settings.period)
                    .filter(|next| *next > now)
                    .unwrap_or(now + self.settings.period);
                poll.look(interfaces)
            }
            _ => false,
        }
    }

    /// Has the next look at `moment`, if there is one later than that with the same period.
    pub(super) fn align(&mut self, moment: Duration) {
        self.next = self.next.min(moment);
    }

    /// Takes what was reported. Whether something changed.
    pub(super) fn on_readable(&mut self, interfaces: &mut BTreeMap<u32, Interface>) -> bool {
        match &mut self.source {
            Source::Netlink(netlink) => netlink.on_readable(interfaces),
            _ => false,
        }
    }

    /// Tries again what the kernel could not do.
    pub(super) fn retry(&mut self) {
        if let Source::Netlink(netlink) = &mut self.source {
            netlink.retry();
        }
    }

    /// Whether all has been told that there is.
    pub(super) fn is_settled(&self) -> bool {
        match &self.source {
            Source::Netlink(netlink) => netlink.is_settled(),
            Source::Poll(_) => self.next > Duration::ZERO,
            Source::Off => true,
        }
    }

    /// Readable when something is reported.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.source {
            Source::Netlink(netlink) => Some(netlink.as_fd()),
            _ => None,
        }
    }
}

// Numbers of linux/if_addr.h.
const IFA_F_SECONDARY: u32 = 0x1;
const IFA_F_OPTIMISTIC: u32 = 0x4;
const IFA_F_DADFAILED: u32 = 0x8;
const IFA_F_TENTATIVE: u32 = 0x40;

/// What the kernel's flags say of an address: whether it is secondary (a temporary one, for IPv6), and whether usable.
fn address_state(flags: u32) -> (bool, bool) {
    let is_tentative = flags & IFA_F_TENTATIVE != 0 && flags & IFA_F_OPTIMISTIC == 0;
    (flags & IFA_F_SECONDARY != 0, !is_tentative && flags & IFA_F_DADFAILED == 0)
}
