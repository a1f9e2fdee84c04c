//! Writes the agent's manual pages and shell completions to a directory. They are not in the agent, which is small.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap_complete::Shell;
use xen_guest_agent::cli::command;

fn main() -> io::Result<()> {
    let directory = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| ".".into()));
    fs::create_dir_all(&directory)?;
    clap_mangen::generate_to(command(), &directory)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command(), "xen-guest-agent", &directory)?;
    }
    Ok(())
}
