//! The daemon `xen-guest-agent`.

use std::process::ExitCode;

use xen_guest_agent::cli::{Action, Cli};
use xen_guest_agent::logging::LogFilter;
use xen_guest_agent::root::Root;
use xen_guest_agent::settings::{Loaded, Settings};
use xen_guest_agent::signals::Signals;
use xen_guest_agent::{daemon, logging, show, status, withdraw};

fn main() -> ExitCode {
    let Cli { action, sources } = Cli::parse();
    let log_warning = |loaded: &Loaded| {
        if let Some(warning) = &loaded.warning {
            log::warn!("{warning}");
        }
    };
    let load = |start_log: fn(&Settings)| {
        sources.load().inspect(|loaded| {
            start_log(&loaded.settings);
            log_warning(loaded);
        })
    };
    let log_to_stderr = |settings: &Settings| logging::start(&settings.loglevel, true);

    let result = match action {
        Action::Run => {
            // Signals come first, because an uncaught one would end the process without cleaning
            // up.
            let signals = Signals::for_service();
            load(daemon::start_log).map(|loaded| {
                signals.and_then(|signals| daemon::run(loaded.settings, &sources, &signals))
            })
        }
        Action::Config => load(log_to_stderr).map(|loaded| show::print(&loaded.to_toml())),
        Action::Show {
            format,
            all_interfaces,
        } => load(log_to_stderr).map(|loaded| show::show(&loaded.settings, format, all_interfaces)),
        Action::Withdraw => sources.load_valid().map(|(loaded, mistakes)| {
            log_to_stderr(&loaded.settings);
            log_warning(&loaded);
            // A running agent keeps its settings, so invalid ones may belong to published nodes.
            for mistake in &mistakes {
                log::warn!("ignoring invalid settings: {mistake}");
            }
            withdraw::run(&loaded.settings)
        }),
        Action::Status => {
            log_to_stderr(&Settings::default());
            match sources.root() {
                Ok(root) => return status::print(&Root::new(root)),
                Err(error) => Err(error),
            }
        }
    };

    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            logging::fatal(&failure);
            failure.exit_code()
        }
        Err(error) => {
            // Invalid settings name no destination, so the log uses the default one.
            logging::start(&LogFilter::default(), action != Action::Run);
            for message in error.messages() {
                logging::fatal(&message);
            }
            ExitCode::from(2)
        }
    }
}
