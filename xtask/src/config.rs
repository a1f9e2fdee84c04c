//! The installed configuration file: each setting as a comment, with its default.

use std::fmt::Write as _;
use std::path::PathBuf;

use xen_guest_agent::settings::{SETTINGS, Setting, Settings};

use crate::files::Files;

/// Maximum length of a line, so that the file fits a terminal.
const WIDTH: usize = 80;

const HEAD: &str = "\
# Settings of xen-guest-agent. Each is shown with its default.
#
# Files conf.d/*.toml in this directory override this file, in the order of
# their names. The environment overrides the files, and the command line
# overrides everything. To see the effective settings and their origins, run:
# xen-guest-agent config
#
# After a change, send SIGHUP to the agent. See also: man 5 xen-guest-agent
";

/// Returns `config.toml`.
pub(crate) fn file() -> Files {
    let defaults = Settings::default();
    let (mut text, mut table) = (HEAD.to_owned(), "");

    for setting in &SETTINGS {
        if setting.table() != table {
            table = setting.table();
            let _ = writeln!(text, "\n[{table}]");
        }
        text.push('\n');
        for line in comments(setting) {
            text += &wrap(&line);
        }
        let _ = writeln!(text, "#{} = {}", setting.name(), setting.to_toml(&defaults));
    }

    let path = PathBuf::from("etc/xen-guest-agent/config.toml");
    Files::from([(path, text.into_bytes())])
}

/// Returns the comments of a setting, one paragraph each.
fn comments(setting: &Setting) -> Vec<String> {
    let mut comments = vec![
        setting.description(),
        format!("Allowed: {}.", setting.allowed()),
    ];
    if let Some(variable) = setting.environment {
        comments.push(format!("Environment variable: {variable}."));
    }
    if setting.needs_restart {
        comments.push("A change takes effect after a restart.".to_owned());
    }
    comments
}

/// Returns the paragraph as comment lines.
fn wrap(paragraph: &str) -> String {
    let (mut text, mut line) = (String::new(), String::from("#"));
    for word in paragraph.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line += word;
    }
    let _ = writeln!(text, "{line}");
    text
}
