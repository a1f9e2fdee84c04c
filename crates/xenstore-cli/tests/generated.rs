//! Completions and manual pages.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "all of this is test code"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

const LINKS: [&str; 10] = [
    "read", "write", "rm", "mkdir", "list", "ls", "exists", "chmod", "perms", "watch",
];

fn run(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_xenstore"))
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What bash offers for the last of `words`, with the completions of the first.
fn offered(directory: &Path, words: &[&str]) -> Vec<String> {
    let command = words.first().unwrap();
    let script = r#"
        source "$1/$2.bash"
        shift
        function=$(complete -p "$1") && function=${function##*-F } && function=${function%% *}
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        "$function" "$1" "${!#}" "${COMP_WORDS[COMP_CWORD - 1]}"
        echo "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash")
        .args(["-c", script, "bash"])
        .arg(directory)
        .args(words)
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{command}: {output:?}"
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

#[test]
fn bash_completes_the_command_and_its_links() {
    let directory = tempfile::tempdir().unwrap();
    run(&["completions", "bash", directory.path().to_str().unwrap()]);
    let offered = |words: &[&str]| offered(directory.path(), words);
    assert_eq!(offered(&["xenstore", "r"]), ["read", "rm"]);
    assert_eq!(offered(&["xenstore", "rm", "--t"]), ["--tidy"]);
    assert_eq!(offered(&["xenstore-rm", "--t"]), ["--tidy"]);
    assert_eq!(offered(&["xenstore-ls", "-f", "--j"]), ["--json"]);
    for link in LINKS {
        assert_eq!(
            offered(&[&format!("xenstore-{link}"), "--so"]),
            ["--socket"],
            "{link}"
        );
    }
    assert_eq!(
        run(&["completions", "bash"]),
        fs::read_to_string(directory.path().join("xenstore.bash")).unwrap()
    );
}

#[test]
fn zsh_and_fish_find_a_file_for_each_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    run(&["completions", "zsh", path]);
    run(&["completions", "fish", path]);
    let read = |file: String| {
        fs::read_to_string(directory.path().join(&file)).unwrap_or_else(|_| panic!("no {file}"))
    };
    for name in LINKS
        .map(|link| format!("xenstore-{link}"))
        .into_iter()
        .chain(["xenstore".to_owned()])
    {
        assert_eq!(
            read(format!("_{name}")).lines().next().unwrap(),
            format!("#compdef {name}")
        );
        let fish = read(format!("{name}.fish"));
        assert!(
            fish.contains(&format!("complete -c {name} ")) && fish.contains("-l socket"),
            "{fish}"
        );
    }
    assert!(read("_xenstore-ls".to_owned()).contains("--json["));
    assert!(read("xenstore-ls.fish".to_owned()).contains("-l json"));
}

#[test]
fn each_sub_command_has_a_manual_page() {
    let directory = tempfile::tempdir().unwrap();
    run(&["man", directory.path().to_str().unwrap()]);
    let synopsis = |page: &str| {
        let page = fs::read_to_string(directory.path().join(page)).unwrap();
        // Without what is for the typesetter.
        let page = page
            .replace("\\fB", "")
            .replace("\\fI", "")
            .replace("\\fR", "")
            .replace("\\-", "-");
        let mut lines = page.lines().skip_while(|line| *line != ".SH SYNOPSIS");
        lines.nth(1).unwrap().trim().to_owned()
    };
    for link in LINKS {
        assert!(
            synopsis(&format!("xenstore-{link}.1")).starts_with(&format!("xenstore {link} [")),
            "{link}"
        );
    }
    assert!(synopsis("xenstore.1").ends_with("<subcommands>"));
    assert!(synopsis("xenstore-write.1").ends_with("<KEY VALUE...>"));
    assert!(synopsis("xenstore-ls.1").ends_with("[PATH...]"));
    assert!(synopsis("xenstore-chmod.1").ends_with("<KEY> <MODE...>"));
    assert!(run(&["man"]).contains("XENSTORED_PATH"));
}
