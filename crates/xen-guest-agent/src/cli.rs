//! What a user sets on the command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};
use log::LevelFilter;

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
    pub schema: SchemaName,

    /// Where Xenstore is: auto, device, socket, socket=PATH, or embedded for a try-out without Xen
    #[arg(long, value_name = "WHERE", default_value = "auto")]
    pub xenstore: Place,

    /// Read the files under /etc, /usr/lib, /proc and /sys from below this directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

/// A schema, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaName {
    /// What today's toolstacks read
    Std,
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
