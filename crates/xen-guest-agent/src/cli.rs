//! What a user sets on the command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Parser};
use glob::Pattern;
use ipnet::IpNet;
use log::LevelFilter;

use crate::collect::network;
use crate::schema;
use crate::schema::reach::Filter;

/// Looking at the network takes some time itself.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

/// Tells the Xen host about this guest: system, addresses, memory
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// Log to standard error instead of the journal or syslog
    #[arg(short = 's', long)]
    pub stderr: bool,

    /// How much to log: off, error, warn, info, debug or trace; goes before the environment's RUST_LOG [default: info]
    #[arg(short = 'l', long, value_name = "LEVEL")]
    pub loglevel: Option<LevelFilter>,

    /// Which nodes to publish
    #[arg(long, value_name = "SCHEMA", env = "XENSTORE_SCHEMA", default_value = "std")]
    pub schema: schema::Name,

    /// Where Xenstore is: auto, device, socket, socket=PATH, or embedded for a try-out without Xen
    #[arg(long, value_name = "WHERE", default_value = "auto")]
    pub xenstore: Place,

    /// Read the files under /etc, /usr/lib, /proc and /sys from below this directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// How to look at the network
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub network: network::Mode,

    /// Seconds between two looks at the network, where changes are not reported
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub poll_period: Duration,

    /// Interfaces to show nothing of, by patterns such as docker*
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub leave_out_interfaces: Vec<Pattern>,

    /// Addresses not to show, by networks such as 169.254.0.0/16
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', value_parser = network)]
    pub leave_out_addresses: Vec<IpNet>,

    /// Whether to show temporary IPv6 addresses
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub temporary_addresses: bool,

    /// Whether to show the addresses of bridges, bonds, VLANs and so on with the device that carries them
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub stacked_links: bool,
}

impl Cli {
    /// What is shown of the network.
    pub fn filter(&self) -> Filter {
        Filter {
            without_interfaces: self.leave_out_interfaces.clone(),
            without_addresses: self.leave_out_addresses.clone(),
            temporary: self.temporary_addresses,
            stacked: self.stacked_links,
        }
    }
}

/// A time that is no shorter than a looking takes.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|seconds| *seconds >= SHORTEST_PERIOD).ok_or_else(|| "it is no number of at least 0.01".to_owned())
}

/// A network, or a single address.
fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).map_err(|_| "it is no address and no network".to_owned())
}

/// Where Xenstore is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where libxenstore would look.
    Auto,
    /// The kernel's device.
    Device,
    /// A server's socket, at this path or the usual one.
    Socket(Option<PathBuf>),
    /// In the agent itself.
    Embedded,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Place::Auto),
            "device" => Ok(Place::Device),
            "socket" => Ok(Place::Socket(None)),
            "embedded" => Ok(Place::Embedded),
            _ => match text.strip_prefix("socket=") {
                Some(path) if !path.is_empty() => Ok(Place::Socket(Some(path.into()))),
                _ => Err("it is none of auto, device, socket, socket=PATH and embedded".to_owned()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn places() {
        let cases = [
            ("auto", Some(Place::Auto)),
            ("device", Some(Place::Device)),
            ("socket", Some(Place::Socket(None))),
            ("socket=/run/x", Some(Place::Socket(Some("/run/x".into())))),
            ("socket=", None),
            ("embedded", Some(Place::Embedded)),
            ("Xen", None),
        ];
        for (text, place) in cases {
            assert_eq!(text.parse().ok(), place, "{text}");
        }
    }
}
