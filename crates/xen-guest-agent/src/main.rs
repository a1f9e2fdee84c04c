//! The daemon.

use std::process::ExitCode;

use xen_guest_agent::cli::{Action, Cli};
use xen_guest_agent::collect::root::Root;
use xen_guest_agent::log::Levels;
use xen_guest_agent::run::{self, Signals};
use xen_guest_agent::{log as logging, show, status};

fn main() -> ExitCode {
    let Cli { action, sources } = Cli::parse();
    if action == Action::Status {
        logging::start(&Levels::default(), true);
        return status::print(&Root::new(sources.root()));
    }
    // Before all that takes its time: a signal that is not caught ends the process.
    let signals = Signals::catch();
    let loaded = match sources.load() {
        Ok(loaded) => loaded,
        Err(wrong) => {
            // As for a wrong option: where to log is not known.
            eprintln!("{}: {wrong}", env!("CARGO_PKG_NAME"));
            return ExitCode::from(2);
        }
    };
    match action {
        Action::Run => run::start_log(&loaded.settings),
        Action::Config | Action::Show(_) | Action::Status => logging::start(&loaded.settings.loglevel, true),
    }
    if let Some(warning) = &loaded.warning {
        log::warn!("{warning}");
    }
    let result = match action {
        Action::Run => signals.and_then(|signals| run::run(loaded.settings, &sources, &signals)),
        Action::Config | Action::Status => show::print(&loaded.to_toml()),
        Action::Show(format) => show::show(&loaded.settings, format),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            log::error!("{failure}");
            failure.exit_code()
        }
    }
}
