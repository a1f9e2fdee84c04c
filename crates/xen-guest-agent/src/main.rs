//! The daemon.

use std::process::ExitCode;

use xen_guest_agent::cli::{Action, Cli};
use xen_guest_agent::daemon::{self, Signals};
use xen_guest_agent::root::Root;
use xen_guest_agent::settings::Settings;
use xen_guest_agent::{logging, show, status};

fn main() -> ExitCode {
    let Cli { action, sources } = Cli::parse();
    let load = |start_log: fn(&Settings)| {
        sources.load().inspect(|loaded| {
            start_log(&loaded.settings);
            if let Some(warning) = &loaded.warning {
                log::warn!("{warning}");
            }
        })
    };
    let log_to_stderr = |settings: &Settings| logging::start(&settings.loglevel, true);
    let done = match action {
        Action::Run => {
            // Before all that takes its time: a signal that is not caught ends the process.
            let signals = Signals::catch();
            load(daemon::start_log).map(|loaded| {
                signals.and_then(|signals| daemon::run(loaded.settings, &sources, &signals))
            })
        }
        Action::Config => load(log_to_stderr).map(|loaded| show::print(&loaded.to_toml())),
        Action::Show(format) => {
            load(log_to_stderr).map(|loaded| show::show(&loaded.settings, format))
        }
        Action::Status => {
            log_to_stderr(&Settings::default());
            return status::print(&Root::new(sources.root()));
        }
    };
    match done {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            log::error!("{failure}");
            failure.exit_code()
        }
        Err(wrong) => {
            // As for a wrong option: where to log is not known.
            eprintln!("{}: {wrong}", env!("CARGO_PKG_NAME"));
            ExitCode::from(2)
        }
    }
}
