//! The daemon.

use std::process::ExitCode;

use clap::Parser;
use xen_guest_agent::cli::{Cli, Place};
use xen_guest_agent::run::{self, Stop};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // A try-out is watched on a terminal.
    xen_guest_agent::log::start(cli.loglevel, cli.stderr || cli.xenstore == Place::Embedded);
    let result = Stop::on_signals().and_then(|stop| run::run(&cli, &stop));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            log::error!("{failure}");
            failure.exit_code()
        }
    }
}
