//! Network interfaces and their addresses.

mod netlink;
mod poll;
mod table;
mod vif;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use log::warn;

use crate::guest::{Address, Interface};
use crate::root::Root;
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
        Settings {
            mode: Mode::Auto,
            period: super::PERIOD,
        }
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
    /// With what to do instead where the kernel turns out to tell nothing.
    Netlink(Netlink, Option<Poll>),
    Poll(Poll),
    Off,
}

impl Network {
    /// Opens what `settings` ask for; the first look is due at once.
    ///
    /// # Errors
    /// The system's, where netlink must be used and cannot.
    pub fn open(root: Root, numbers: VifNumbers, settings: Settings) -> io::Result<Self> {
        let poll = Poll::new(root, numbers.clone());
        let mut network = Network {
            source: Source::Off,
            settings,
            next: Duration::ZERO,
        };
        match settings.mode {
            Mode::Off => {}
            Mode::Poll => network.source = Source::Poll(poll),
            Mode::Netlink => network.source = Source::Netlink(Netlink::open(numbers)?, None),
            Mode::Auto => match Netlink::open(numbers) {
                Ok(netlink) => network.source = Source::Netlink(netlink, Some(poll)),
                Err(error) => network.fall_back(poll, &error),
            },
        }
        Ok(network)
    }

    fn fall_back(&mut self, poll: Poll, error: &io::Error) {
        warn!(
            "{error}; looking at the network every {} s instead",
            self.settings.period.as_secs_f32()
        );
        (self.source, self.next) = (Source::Poll(poll), Duration::ZERO);
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
    pub(super) fn look(
        &mut self,
        interfaces: &mut BTreeMap<u32, Interface>,
        now: Duration,
    ) -> bool {
        match &mut self.source {
            Source::Poll(poll) if self.next <= now => {
                self.next = next_after(self.next, self.settings.period, now);
                poll.look(interfaces)
            }
            _ => false,
        }
    }

    /// Has the next look at `moment`, unless it is due before: so both kinds of looks take one wake-up.
    pub(super) fn align(&mut self, moment: Duration) {
        self.next = self.next.min(moment);
    }

    /// Takes what was reported. Whether something changed.
    pub(super) fn on_readable(&mut self, interfaces: &mut BTreeMap<u32, Interface>) -> bool {
        match &mut self.source {
            Source::Netlink(netlink, poll) => {
                let changed = netlink.on_readable(interfaces);
                match (netlink.take_refusal(), poll.take()) {
                    (Some(error), Some(poll)) => self.fall_back(poll, &error),
                    (Some(error), None) => warn!("{error}; trying again at each look"),
                    (None, kept) => *poll = kept,
                }
                changed
            }
            _ => false,
        }
    }

    /// Tries again what the kernel could not do, and has all told again if `all`: so nothing is wrong for ever.
    pub(super) fn retry(&mut self, all: bool) {
        match &mut self.source {
            Source::Netlink(netlink, _) if all => netlink.refresh(),
            Source::Netlink(netlink, _) => netlink.retry(),
            _ => {}
        }
    }

    /// Whether all was told that there is, once.
    pub(super) fn is_settled(&self) -> bool {
        match &self.source {
            Source::Netlink(netlink, _) => netlink.is_settled(),
            Source::Poll(_) => self.next > Duration::ZERO,
            Source::Off => true,
        }
    }

    /// By which way it is looked at.
    pub(super) fn source(&self) -> &'static str {
        match &self.source {
            Source::Netlink(..) => "netlink",
            Source::Poll(_) => "poll",
            Source::Off => "off",
        }
    }

    /// Readable when something is reported.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.source {
            Source::Netlink(netlink, _) => Some(netlink.as_fd()),
            _ => None,
        }
    }
}

/// The first moment after `now`, in whole periods from `last`, so that looks stay where they are in the minute.
pub(super) fn next_after(last: Duration, period: Duration, now: Duration) -> Duration {
    let Some(since) = now.checked_sub(last) else {
        return last;
    };
    let into_period = since.as_nanos() % period.as_nanos().max(1);
    (now + period).saturating_sub(Duration::from_nanos(
        u64::try_from(into_period).unwrap_or(0),
    ))
}

/// Whether a link of this kind sits on another, which its address is reached by. That of a veth is its peer, often in a
/// container; what goes through a tunnel (vxlan) is another network's.
fn sits_on_its_lower(kind: &str) -> bool {
    ["vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec"].contains(&kind)
}

// Address flags of linux/if_addr.h. The same bit means "secondary" for IPv4 and "temporary" for IPv6.
const IFA_F_SECONDARY: u32 = 0x1;
const IFA_F_OPTIMISTIC: u32 = 0x4;
const IFA_F_DADFAILED: u32 = 0x8;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TENTATIVE: u32 = 0x40;

/// Returns an address with the state that the kernel's flags describe.
fn address_with_flags(ip: IpAddr, prefix: u8, flags: u32) -> Address {
    let has = |flag| flags & flag != 0;
    let is_tentative = has(IFA_F_TENTATIVE) && !has(IFA_F_OPTIMISTIC);
    Address {
        ip,
        prefix,
        is_secondary: ip.is_ipv4() && has(IFA_F_SECONDARY),
        is_temporary: ip.is_ipv6() && has(IFA_F_SECONDARY),
        is_deprecated: has(IFA_F_DEPRECATED),
        is_usable: !is_tentative && !has(IFA_F_DADFAILED),
    }
}
