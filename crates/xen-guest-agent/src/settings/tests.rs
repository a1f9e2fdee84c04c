use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode};

use super::*;

/// What `text` sets, where it is the only file and all else is as it is by default.
fn load(text: &str) -> Result<Loaded, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    fs::write(&file, text).unwrap();
    let loaded = Sources::default().load_from(&[file], |_| None);
    loaded.map_err(|wrong| {
        wrong
            .to_string()
            .replace(&format!("{}/", directory.path().display()), "")
    })
}

#[test]
fn later_sources_go_before_earlier_ones() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    fs::create_dir(directory.path().join("conf.d")).unwrap();
    write(
        "config.toml",
        "root = \"/1\"\nxenstore = \"device\"\nschema = \"rfc\"\nloglevel = \"off\"\nstderr = true",
    );
    write(
        "conf.d/20-b.toml",
        "xenstore = \"socket\"\n[network]\nleave-out-interfaces = [\"b\"]\n",
    );
    write(
        "conf.d/10-a.toml",
        "xenstore = \"socket=/a\"\nroot = \"/a\"\n[network]\nleave-out-interfaces = [\"a\"]\n",
    );
    write("conf.d/.30-c.toml", "wrong");
    write("conf.d/30-c.toml~", "wrong");
    let files = file::in_directory(directory.path()).unwrap();
    let find = |key: &str| SETTINGS.iter().find(|setting| setting.key == key).unwrap();
    let sources = Sources {
        file: None,
        command_line: vec![(find("loglevel"), vec!["debug".to_owned()])],
    };
    let environment = |name: &str| match name {
        "RUST_LOG" => Some("warn".into()),
        "XENSTORE_SCHEMA" => Some("std".into()),
        _ => None,
    };
    let loaded = sources.load_from(&files, environment).unwrap();
    let text = loaded
        .to_toml()
        .replace(&directory.path().display().to_string(), "");
    insta::assert_snapshot!(text, @r#"
    stderr = true  # /config.toml:5
    loglevel = "debug"  # command line
    schema = "std"  # environment XENSTORE_SCHEMA
    xenstore = "socket"  # /conf.d/20-b.toml:1
    root = "/a"  # /conf.d/10-a.toml:2
    node-budget = 700  # default

    [memory]
    period = 60  # default

    [network]
    mode = "auto"  # default
    poll-period = 60  # default
    stacked-links = true  # default
    temporary-addresses = true  # default
    leave-out-interfaces = ["b"]  # /conf.d/20-b.toml:3
    leave-out-addresses = []  # default

    [volumes]
    enabled = false  # default

    [services]
    directory = "/etc/xen-guest-agent/services.d"  # default
    "#);
    // A variable that is set to nothing is not set.
    let loaded = sources
        .load_from(&files, |_| Some(OsString::new()))
        .unwrap();
    assert_eq!(loaded.settings.schema, schema::Name::Rfc);
}

#[test]
fn without_files_all_is_as_by_default() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(file::in_directory(directory.path()), Ok(Vec::new()));
    let loaded = Sources::default().load_from(&[], |_| None).unwrap();
    assert_eq!(
        (loaded.settings, loaded.origins),
        (Settings::default(), BTreeMap::new())
    );
    // A file that was asked for must be there.
    let missing = directory.path().join("x");
    let wrong = Sources {
        file: Some(missing.clone()),
        ..Sources::default()
    }
    .load()
    .unwrap_err()
    .to_string();
    assert_eq!(
        wrong,
        format!(
            "{}: No such file or directory (os error 2)",
            missing.display()
        )
    );
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let names = "names and patterns, as docker*";
    let seconds = "a number from 0.01 to 86400";
    let cases = [
        ("shcema = \"rfc\"", "1: there is no setting shcema; the nearest is schema".to_owned()),
        ("poll_period = 4", "1: there is no setting poll_period; the nearest is network.poll-period".to_owned()),
        ("\n\n[netwrk]\nmode = \"off\"", "4: there is no setting netwrk.mode; the nearest is network.mode".to_owned()),
        ("[network.mode]\nx = 1", "1: network.mode is a table; allowed: auto, netlink, poll or off".to_owned()),
        ("root.x = 1", "1: root is a table; allowed: the absolute path of a directory".to_owned()),
        ("[memroy]", "1: there is no setting memroy; the nearest is the table memory".to_owned()),
        ("[memroy]\nx = 1", "2: there is no setting memroy.x; the nearest is the table memory".to_owned()),
        ("network.shcema = 1", "1: there is no setting network.shcema; the nearest is schema".to_owned()),
        ("rust = 1", "1: there is no setting rust".to_owned()),
        ("colour = 1", "1: there is no setting colour".to_owned()),
        ("\"a\\nb\" = 1", "1: there is no setting a...".to_owned()),
        ("network = 5", "1: network is 5; allowed: a table".to_owned()),
        ("# x\nschema = \"foo\"", "2: schema is \"foo\"; allowed: std or rfc".to_owned()),
        ("schema = [\n\"std\" ]", "1: schema is [...; allowed: std or rfc".to_owned()),
        ("stderr = \"true\"", "1: stderr is \"true\"; allowed: true or false".to_owned()),
        ("stderr = 1", "1: stderr is 1; allowed: true or false".to_owned()),
        ("root = \"\"", "1: root is \"\"; allowed: the absolute path of a directory".to_owned()),
        (
            "xenstore = \"socket=\"",
            "1: xenstore is \"socket=\"; allowed: auto, device, socket or socket=PATH"
                .to_owned(),
        ),
        (
            "loglevel = \"inof\"",
            "1: loglevel is \"inof\"; allowed: off, error, warn, info, debug or trace; for some modules another, as in \
             warn,xenstore=debug"
                .to_owned(),
        ),
        ("memory.period = \"60\"", format!("1: memory.period is \"60\"; allowed: {seconds}")),
        ("[memory]\nperiod = 0", format!("2: memory.period is 0; allowed: {seconds}")),
        ("[memory]\nperiod = -5", format!("2: memory.period is -5; allowed: {seconds}")),
        ("[memory]\nperiod = 1e9", format!("2: memory.period is 1e9; allowed: {seconds}")),
        ("[memory]\nperiod = nan", format!("2: memory.period is nan; allowed: {seconds}")),
        ("[memory]\nperiod = 0x10", format!("2: memory.period is 0x10; allowed: {seconds}")),
        ("[memory]\nperiod = 2026-01-01", format!("2: memory.period is 2026-01-01; allowed: {seconds}")),
        ("root = \"x\"", "1: root is \"x\"; allowed: the absolute path of a directory".to_owned()),
        (
            "services.directory = \"/\\u0000\"",
            "1: services.directory is \"/\\u0000\"; allowed: the absolute path of a directory".to_owned(),
        ),
        ("network.leave-out-interfaces = [\"a\", 1]", format!("1: network.leave-out-interfaces has 1; allowed: {names}")),
        (
            "network.leave-out-interfaces = [\"a\",\n\"[\"]",
            format!("1: network.leave-out-interfaces has \"[\"; allowed: {names}"),
        ),
        (
            "network.leave-out-interfaces = \"a\"",
            "1: network.leave-out-interfaces is \"a\"; allowed: a list of names and patterns, as [\"docker*\"]".to_owned(),
        ),
        (
            "network.leave-out-addresses = \"10.0.0.0/8\"",
            "1: network.leave-out-addresses is \"10.0.0.0/8\"; allowed: a list of addresses and networks, as \
             [\"169.254.0.0/16\"]"
                .to_owned(),
        ),
        (
            "network.leave-out-addresses = [\"::1\", \"10.0.0.0/33\"]",
            "1: network.leave-out-addresses has \"10.0.0.0/33\"; allowed: addresses and networks, as 169.254.0.0/16"
                .to_owned(),
        ),
        // The first line that is wrong, whatever the order of the keys.
        ("b = 1\na = 2\n", "1: there is no setting b".to_owned()),
        // The words for these are the TOML parser's.
        ("schema = = 1", "1: extra `=`, expected nothing".to_owned()),
        ("\nschema = \"std", "2: invalid basic string, expected `\"`".to_owned()),
        ("stderr = true\nstderr = true", "2: duplicate key stderr".to_owned()),
    ];
    for (text, expected) in cases {
        assert_eq!(
            load(text).unwrap_err(),
            format!("config.toml:{expected}"),
            "{text}"
        );
    }
    let long = load(&format!("schema = \"{}\"", "x".repeat(500))).unwrap_err();
    assert_eq!(
        long,
        format!(
            "config.toml:1: schema is \"{}...; allowed: std or rfc",
            "x".repeat(59)
        )
    );
    let long = load(&format!("{} = 1", "schema".repeat(100_000))).unwrap_err();
    assert_eq!(
        long,
        format!(
            "config.toml:1: there is no setting {}...",
            "schema".repeat(10)
        )
    );
}

#[test]
fn what_cannot_be_a_file_of_settings() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    symlink("/dev/zero", at("endless")).unwrap();
    fs::File::create(at("huge"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    fs::write(at("latin-1"), b"# a\n# \xe4\n").unwrap();
    fs::write(at("line\nbreak"), "x = 1").unwrap();
    for (name, expected) in [
        ("fifo", "fifo: not a regular file"),
        ("endless", "endless: not a regular file"),
        ("huge", "huge: larger than 1048576 bytes"),
        ("latin-1", "latin-1:2: not UTF-8"),
        ("line\nbreak", "line\\u{a}break:1: there is no setting x"),
        (
            "missing\n",
            "missing\\u{a}: No such file or directory (os error 2)",
        ),
    ] {
        let wrong = Sources::default()
            .load_from(&[at(name)], |_| None)
            .unwrap_err()
            .to_string();
        assert_eq!(wrong, format!("{}/{expected}", directory.path().display()));
    }
    // Where a value comes from is a comment, which ends with the line.
    fs::write(at("line\nbreak"), "stderr = true").unwrap();
    let shown = Sources::default()
        .load_from(&[at("line\nbreak")], |_| None)
        .unwrap()
        .to_toml();
    assert_eq!(
        load(&shown).unwrap().origins.len(),
        SETTINGS.len(),
        "{shown}"
    );
}

#[test]
fn a_link_to_nothing_was_meant_to_be_read() {
    for name in ["config.toml", "conf.d/a.toml", "conf.d"] {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join(name);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink("nowhere", &link).unwrap();
        let wrong = file::in_directory(directory.path())
            .and_then(|files| Sources::default().load_from(&files, |_| None));
        let wrong = wrong.unwrap_err().to_string();
        assert_eq!(
            wrong,
            format!("{}: No such file or directory (os error 2)", link.display())
        );
    }
}

#[test]
fn what_needs_a_restart_stays_until_then() {
    let old = Settings::default();
    let text = "xenstore = \"device\"\nroot = \"/x\"\nschema = \"rfc\"\nvolumes.enabled = true\nservices.directory = \"/y\"";
    let new = load(text).unwrap().settings;
    let mut kept = new.clone();
    let expected = [
        "xenstore = \"device\"",
        "root = \"/x\"",
        "volumes.enabled = true",
        "services.directory = \"/y\"",
    ];
    assert_eq!(kept.keep_until_restart(&old), expected);
    assert_eq!(
        kept,
        Settings {
            schema: schema::Name::Rfc,
            ..old.clone()
        }
    );
    // Still so at the next reading; gone back, there is nothing to say.
    assert_eq!(new.clone().keep_until_restart(&kept), expected);
    assert_eq!(old.clone().keep_until_restart(&kept), [""; 0]);
}

#[test]
fn where_the_wrong_value_is_not_in_a_file() {
    let schema = SETTINGS
        .iter()
        .find(|setting| setting.key == "schema")
        .unwrap();
    let sources = Sources {
        file: None,
        command_line: vec![(schema, vec!["a\nb".to_owned()])],
    };
    let wrong = sources.load_from(&[], |_| None).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "command line: schema is \"a\\u000ab\"; allowed: std or rfc"
    );
    let wrong =
        Sources::default().load_from(&[], |name| (name == "XENSTORE_SCHEMA").then(|| "x".into()));
    assert_eq!(
        wrong.unwrap_err().to_string(),
        "environment XENSTORE_SCHEMA: schema is \"x\"; allowed: std or rfc"
    );
}

#[test]
fn what_the_environment_has_wrong() {
    let load = |name: &'static str, value: &[u8]| {
        let value = OsStr::from_bytes(value).to_owned();
        let loaded =
            Sources::default().load_from(&[], |asked| (asked == name).then(|| value.clone()));
        loaded.map_err(|wrong| wrong.to_string())
    };
    for name in ["RUST_LOG", "XENSTORE_SCHEMA"] {
        assert_eq!(
            load(name, b"\xff"),
            Err(format!("environment {name}: not UTF-8"))
        );
    }
    // env_logger takes these.
    for value in ["xenstore", "info/x"] {
        let loaded = load("RUST_LOG", value.as_bytes()).unwrap();
        assert_eq!(
            (loaded.settings, loaded.origins),
            (Settings::default(), BTreeMap::new())
        );
        let warning = loaded.warning.unwrap();
        let start = format!(
            "RUST_LOG is not used: environment RUST_LOG: loglevel is \"{value}\"; allowed: off, "
        );
        assert!(warning.starts_with(&start), "{warning}");
    }
    assert_eq!(load("RUST_LOG", b"warn").unwrap().warning, None);
}

#[test]
fn what_is_shown_can_be_read_again() {
    let text = "stderr = true\nloglevel = \"debug,a=off\"\nschema = \"rfc\"\nxenstore = \"socket=/a b\"\nroot = '/\"\\'\n\
        node-budget = 100\n\
        [memory]\nperiod = 0.25\n[network]\nmode = \"poll\"\npoll-period = 7\nstacked-links = false\n\
        temporary-addresses = false\nleave-out-interfaces = [\"a*\", \"b\"]\n\
        leave-out-addresses = [\"10.0.0.1\", \"fe80::/10\"]\n\
        [volumes]\nenabled = true\n[services]\ndirectory = \"/srv/facts\"\n";
    let loaded = load(text).unwrap();
    assert_eq!(loaded.origins.len(), SETTINGS.len(), "each is set here");
    let default = Settings::default();
    for setting in &SETTINGS {
        assert_ne!(
            setting.to_toml(&loaded.settings),
            setting.to_toml(&default),
            "{}",
            setting.key
        );
    }
    assert_eq!(load(&loaded.to_toml()).unwrap().settings, loaded.settings);
    assert_eq!(loaded.settings.network.period, Duration::from_secs(7));
    assert_eq!(loaded.settings.memory_period, Duration::from_millis(250));
}

/// The file that is installed: each setting, as it is by default, with all that there is to say of it.
fn example() -> String {
    let mut text = "\
# Settings of xen-guest-agent: each is here, in a comment, as it is by default.
#
# Files conf.d/*.toml beside this one override it, each also those whose names come before; the environment overrides
# files, and the command line everything. `xen-guest-agent config` prints what holds, and from where it is.
# After a change, send the agent SIGHUP.
"
    .to_owned();
    let mut table = "";
    for setting in &SETTINGS {
        if setting.table() != table {
            table = setting.table();
            writeln!(text, "\n[{table}]").unwrap();
        }
        writeln!(
            text,
            "\n# {}.\n# Allowed: {}.",
            setting.doc,
            setting.allowed()
        )
        .unwrap();
        if let Some(variable) = setting.environment {
            writeln!(text, "# In the environment: {variable}.").unwrap();
        }
        if setting.needs_restart {
            writeln!(text, "# A change takes effect after a restart.").unwrap();
        }
        writeln!(
            text,
            "#{} = {}",
            setting.name(),
            setting.to_toml(&Settings::default())
        )
        .unwrap();
    }
    text
}

#[test]
fn example_and_readme_have_all_settings_as_they_are() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../dist/etc/xen-guest-agent/config.toml"
    );
    let text = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(text, example(), "{path} should be:\n{}", example());
    assert!(text.lines().all(|line| line.len() <= 120));
    let readme =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap();
    for setting in &SETTINGS {
        let row = format!(
            "| `{}` | `{}` |",
            setting.key,
            setting.to_toml(&Settings::default())
        );
        assert!(readme.contains(&row), "README.md has no {row}");
    }
    // It sets nothing; with the comments taken off, each setting to its default.
    assert_eq!(load(&text).unwrap().origins, BTreeMap::new());
    let is_setting = |line: &str| {
        line.strip_prefix('#')
            .is_some_and(|rest| rest.starts_with(char::is_alphabetic))
    };
    let lines = text
        .lines()
        .map(|line| if is_setting(line) { &line[1..] } else { line });
    let loaded = load(&lines.collect::<Vec<_>>().join("\n")).unwrap();
    assert_eq!(
        (loaded.settings, loaded.origins.len()),
        (Settings::default(), SETTINGS.len())
    );
}

#[test]
fn places() {
    let cases = [
        ("auto", Some(Endpoint::Auto)),
        ("device", Some(Endpoint::Device)),
        ("socket", Some(Endpoint::Socket(None))),
        (
            "socket=/run/x",
            Some(Endpoint::Socket(Some("/run/x".into()))),
        ),
        ("socket=", None),
        ("embedded", None),
        ("Xen", None),
    ];
    for (text, place) in cases {
        assert_eq!(text.parse().ok(), place, "{text}");
        assert!(
            place.is_none_or(|place| place.to_string() == text),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn no_file_is_too_odd(text in "([a-z.\\[\\]=\"'\n#0-9{} -]|schema|network|root|\\PC){0,40}") {
        if let Err(wrong) = load(&text) {
            prop_assert!(wrong.starts_with("config.toml:") && wrong.lines().count() == 1, "{}", wrong);
        }
    }
}
