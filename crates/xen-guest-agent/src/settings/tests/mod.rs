mod messages;
mod permissions;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode};
use rustix::process::geteuid;

use super::*;

fn find(key: &str) -> &'static Setting {
    SETTINGS.iter().find(|setting| setting.key == key).unwrap()
}

/// Loads the settings with `text` as the only file. Messages name the file without its directory.
fn load(text: &str) -> Result<Loaded, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    fs::write(&file, text).unwrap();
    let loaded = Sources::default().load_from(&[file], |_| None);
    loaded.map_err(|error| {
        error
            .to_string()
            .replace(&format!("{}/", directory.path().display()), "")
    })
}

#[test]
fn later_sources_override_earlier_ones() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    fs::create_dir(directory.path().join("conf.d")).unwrap();
    write(
        "config.toml",
        "root = \"/etc\"\nxenstore = \"device\"\nschema = \"rfc\"\nloglevel = \"off\"\nstderr = true",
    );
    write(
        "conf.d/20-b.toml",
        "xenstore = \"socket\"\n[network]\nleave-out-interfaces = [\"b\"]\n",
    );
    write(
        "conf.d/10-a.toml",
        "xenstore = \"socket=/a\"\nroot = \"/usr\"\n[network]\nleave-out-interfaces = [\"a\"]\n",
    );
    write("conf.d/.30-c.toml", "wrong");
    write("conf.d/30-c.toml~", "wrong");
    let files = file::in_directory(directory.path()).unwrap();
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
    root = "/usr"  # /conf.d/10-a.toml:2
    confine = "auto"  # default
    node-budget = 700  # default

    [memory]
    period = 60  # default

    [network]
    mode = "auto"  # default
    poll-period = 60  # default
    stacked-links = true  # default
    temporary-addresses = true  # default
    extra-interfaces = []  # default
    leave-out-interfaces = ["b"]  # /conf.d/20-b.toml:3
    leave-out-addresses = []  # default

    [volumes]
    enabled = false  # default

    [services]
    directory = "/etc/xen-guest-agent/services.d"  # default
    "#);
    // An empty variable counts as unset.
    let loaded = sources
        .load_from(&files, |_| Some(OsString::new()))
        .unwrap();
    assert_eq!(loaded.settings.schema, schema::Name::Rfc);
}

#[test]
fn defaults_apply_without_files() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(file::in_directory(directory.path()), Ok(Vec::new()));
    let loaded = Sources::default().load_from(&[], |_| None).unwrap();
    assert_eq!(
        (loaded.settings, loaded.origins),
        (Settings::default(), BTreeMap::new())
    );
    // A file from --config must exist.
    let missing = directory.path().join("x");
    let error = Sources {
        file: Some(missing.clone()),
        ..Sources::default()
    }
    .load()
    .unwrap_err()
    .to_string();
    assert_eq!(
        error,
        format!(
            "cannot read the settings file {}: No such file or directory (os error 2)",
            missing.display()
        )
    );
}

#[test]
fn unreadable_files_are_errors() {
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
    let at_directory = directory.path().display();
    for (name, expected) in [
        (
            "fifo",
            "cannot read the settings file DIR/fifo: not a regular file",
        ),
        (
            "endless",
            "cannot read the settings file DIR/endless: not a regular file",
        ),
        (
            "huge",
            "cannot read the settings file DIR/huge: larger than 1048576 bytes",
        ),
        ("latin-1", "DIR/latin-1:2: not UTF-8"),
        (
            "line\nbreak",
            "DIR/line\\u000abreak:1: there is no setting x",
        ),
        (
            "missing\n",
            "cannot read the settings file DIR/missing\\u000a: No such file or directory (os error 2)",
        ),
    ] {
        let error = Sources::default().load_from(&[at(name)], |_| None);
        let expected = expected.replace("DIR", &at_directory.to_string());
        assert_eq!(error.unwrap_err().to_string(), expected);
    }
    // The origin of a value is a comment, which ends with the line.
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
fn link_to_dev_null_is_an_empty_file() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("conf.d")).unwrap();
    fs::write(directory.path().join("conf.d/a.toml"), "stderr = true").unwrap();
    for name in ["config.toml", "conf.d/b.toml"] {
        symlink("/dev/null", directory.path().join(name)).unwrap();
    }
    let files = file::in_directory(directory.path()).unwrap();
    assert_eq!(files.len(), 3);
    let loaded = Sources::default().load_from(&files, |_| None).unwrap();
    assert!(loaded.settings.stderr);
}

#[test]
fn path_of_settings_need_not_be_utf_8() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(OsStr::from_bytes(b"\xff.toml"));
    let load = || Sources::default().load_from(std::slice::from_ref(&file), |_| None);
    fs::write(&file, "stderr = true").unwrap();
    assert!(load().unwrap().settings.stderr);

    fs::remove_file(&file).unwrap();
    let (name, error) = (file.display(), load().unwrap_err().to_string());
    let expected = format!("cannot read the settings file {name}: No such file");
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn dangling_links_are_errors() {
    for name in ["config.toml", "conf.d/a.toml", "conf.d"] {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join(name);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink("nowhere", &link).unwrap();
        let error = file::in_directory(directory.path())
            .and_then(|files| Sources::default().load_from(&files, |_| None));
        let error = error.unwrap_err().to_string();
        let what = if name == "conf.d" {
            "directory"
        } else {
            "settings file"
        };
        let link = link.display();
        let expected =
            format!("cannot read the {what} {link}: No such file or directory (os error 2)");
        assert_eq!(error, expected);
    }
}

#[test]
fn settings_that_need_a_restart_keep_their_value() {
    let old = Settings::default();
    let text = "xenstore = \"device\"\nroot = \"/proc\"\nschema = \"rfc\"\nvolumes.enabled = true\nservices.directory = \"/y\"";
    let new = load(text).unwrap().settings;
    let mut kept = new.clone();
    let expected = [
        "xenstore = \"device\"",
        "root = \"/proc\"",
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
    // The same holds for the next reload. After a change back nothing is pending.
    assert_eq!(new.clone().keep_until_restart(&kept), expected);
    assert_eq!(old.clone().keep_until_restart(&kept), [""; 0]);
}

#[test]
fn root_is_checked_without_reading_files() {
    let sources = |word: &str| Sources {
        file: Some("/nonexistent.toml".into()),
        command_line: vec![(find("root"), vec![word.to_owned()])],
    };
    assert_eq!(sources("/proc").root(), Ok("/proc".into()));
    assert_eq!(Sources::default().root(), Ok("/".into()));
    let error = sources("relative").root().unwrap_err();
    assert_eq!(
        error.messages(),
        ["--root: invalid value \"relative\"; expected the absolute path of a directory"]
    );
}

#[test]
fn invalid_rust_log_is_ignored_with_a_warning() {
    let load = |name: &'static str, value: &[u8]| {
        let value = OsStr::from_bytes(value).to_owned();
        let loaded =
            Sources::default().load_from(&[], |asked| (asked == name).then(|| value.clone()));
        loaded.map_err(|error| error.to_string())
    };
    for name in ["RUST_LOG", "XENSTORE_SCHEMA"] {
        assert_eq!(
            load(name, b"\xff"),
            Err(format!("environment {name}: not UTF-8"))
        );
    }
    // env_logger accepts these.
    for value in ["xenstore", "info/x"] {
        let loaded = load("RUST_LOG", value.as_bytes()).unwrap();
        assert_eq!(
            (loaded.settings, loaded.origins),
            (Settings::default(), BTreeMap::new())
        );
        let warning = loaded.warning.unwrap();
        let start = format!(
            "ignoring RUST_LOG: environment RUST_LOG: invalid value \"{value}\"; expected off, "
        );
        assert!(warning.starts_with(&start), "{warning}");
    }
    assert_eq!(load("RUST_LOG", b"warn").unwrap().warning, None);
}

#[test]
fn printed_settings_can_be_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("\"\\");
    fs::create_dir(&root).unwrap();
    let root = root.display();
    let text = "stderr = true\nloglevel = \"debug,a=off\"\nschema = \"rfc\"\nxenstore = \"socket=/a b\"\nroot = 'ROOT'\n\
        confine = \"user\"\nnode-budget = 100\n\
        [memory]\nperiod = 0.25\n[network]\nmode = \"poll\"\npoll-period = 7\nstacked-links = false\n\
        temporary-addresses = false\nextra-interfaces = [\"lo\"]\nleave-out-interfaces = [\"a*\", \"b\"]\n\
        leave-out-addresses = [\"10.0.0.1\", \"fe80::/10\"]\n\
        [volumes]\nenabled = true\n[services]\ndirectory = \"/srv/facts\"\n";
    let loaded = load(&text.replace("ROOT", &root.to_string())).unwrap();
    assert_eq!(loaded.origins.len(), SETTINGS.len(), "the text sets all");
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

#[test]
fn installed_file_and_readme_have_all_settings_and_their_defaults() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../dist/etc/xen-guest-agent/config.toml"
    );
    let text = fs::read_to_string(path).unwrap();
    let readme =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap();
    for setting in &SETTINGS {
        let default = setting.to_toml(&Settings::default());
        let row = format!("| `{}` | `{default}` |", setting.key);
        assert!(readme.contains(&row), "README.md has no {row}");
        let line = format!("\n#{} = {default}\n", setting.name());
        assert!(
            text.contains(&line),
            "{path} has no {line}; run: cargo xtask generate"
        );
    }
    // The file sets nothing. Without the comment signs it sets everything to the default.
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
fn host_bits_of_networks_are_cleared() {
    let loaded = load("network.leave-out-addresses = [\"10.0.0.1/8\", \"192.0.2.1\"]").unwrap();
    let expected = "[\"10.0.0.0/8\", \"192.0.2.1/32\"]";
    let setting = find("network.leave-out-addresses");
    assert_eq!(setting.to_toml(&loaded.settings), expected);
}

#[test]
fn endpoints() {
    let cases = [
        ("auto", Some(Endpoint::Auto)),
        ("device", Some(Endpoint::Device)),
        ("socket", Some(Endpoint::Socket(None))),
        (
            "socket=/run/x",
            Some(Endpoint::Socket(Some("/run/x".into()))),
        ),
        ("socket=", None),
        ("socket=relative", None),
        ("embedded", None),
        ("Xen", None),
    ];
    for (text, endpoint) in cases {
        assert_eq!(text.parse().ok(), endpoint, "{text}");
        assert!(
            endpoint.is_none_or(|endpoint| endpoint.to_string() == text),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn arbitrary_files_give_one_line_errors_or_settings(text in "([a-z.\\[\\]=\"'\n#0-9{} -]|schema|network|root|\\PC){0,40}") {
        if let Err(error) = load(&text) {
            prop_assert!(error.lines().all(|line| line.starts_with("config.toml:")), "{}", error);
        }
    }
}
