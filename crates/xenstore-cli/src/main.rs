//! The `xenstore` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    xenstore_cli::main()
}
