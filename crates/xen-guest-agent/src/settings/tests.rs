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
fn each_mistake_is_one_line() {
    let name = "a name or pattern such as docker*";
    let seconds = "a number of seconds from 0.01 to 86400";
    let directory = "the absolute path of a directory";
    let cases = [
        ("shcema = \"rfc\"", "1: there is no setting shcema; did you mean schema?".to_owned()),
        ("poll_period = 4", "1: there is no setting poll_period; did you mean network.poll-period?".to_owned()),
        ("\n\n[netwrk]\nmode = \"off\"", "4: there is no setting netwrk.mode; did you mean network.mode?".to_owned()),
        ("[network.mode]\nx = 1", "1: network.mode: invalid value a table; expected auto, netlink, poll or off".to_owned()),
        ("root.x = 1", format!("1: root: invalid value a table; expected {directory}")),
        ("[memroy]", "1: there is no setting memroy; did you mean the table memory?".to_owned()),
        ("[memroy]\nx = 1", "2: there is no setting memroy.x; did you mean the table memory?".to_owned()),
        ("network.shcema = 1", "1: there is no setting network.shcema; did you mean schema?".to_owned()),
        ("rust = 1", "1: there is no setting rust".to_owned()),
        ("colour = 1", "1: there is no setting colour".to_owned()),
        ("\"a\\nb\" = 1", "1: there is no setting a...".to_owned()),
        ("network = 5", "1: network: invalid value 5; expected a table".to_owned()),
        ("# x\nschema = \"foo\"", "2: schema: invalid value \"foo\"; expected std or rfc".to_owned()),
        ("schema = [\n\"std\" ]", "1: schema: invalid value [...; expected std or rfc".to_owned()),
        ("stderr = \"true\"", "1: stderr: invalid value \"true\"; expected true or false".to_owned()),
        ("stderr = 1", "1: stderr: invalid value 1; expected true or false".to_owned()),
        ("root = \"\"", format!("1: root: invalid value \"\"; expected {directory}")),
        (
            "root = \"/no/such/directory\"",
            "1: root: invalid value \"/no/such/directory\"; expected the path of an existing directory".to_owned(),
        ),
        (
            "xenstore = \"socket=\"",
            "1: xenstore: invalid value \"socket=\"; expected auto, device, socket or socket=/PATH"
                .to_owned(),
        ),
        (
            "loglevel = \"inof\"",
            "1: loglevel: invalid value \"inof\"; expected off, error, warn, info, debug or trace, or a list such as \
             warn,xenstore=debug"
                .to_owned(),
        ),
        ("memory.period = \"60\"", format!("1: memory.period: invalid value \"60\"; expected {seconds}")),
        ("[memory]\nperiod = 0", format!("2: memory.period: invalid value 0; expected {seconds}")),
        ("[memory]\nperiod = -5", format!("2: memory.period: invalid value -5; expected {seconds}")),
        ("[memory]\nperiod = 1e9", format!("2: memory.period: invalid value 1e9; expected {seconds}")),
        ("[memory]\nperiod = nan", format!("2: memory.period: invalid value nan; expected {seconds}")),
        ("[memory]\nperiod = 0x10", format!("2: memory.period: invalid value 0x10; expected {seconds}")),
        ("[memory]\nperiod = 2026-01-01", format!("2: memory.period: invalid value 2026-01-01; expected {seconds}")),
        ("root = \"x\"", format!("1: root: invalid value \"x\"; expected {directory}")),
        (
            "services.directory = \"/\\u0000\"",
            format!("1: services.directory: invalid value \"/\\u0000\"; expected {directory}"),
        ),
        (
            "network.leave-out-interfaces = [\"a\", 1]",
            format!("1: network.leave-out-interfaces: invalid value 1; expected {name}"),
        ),
        (
            "network.leave-out-interfaces = [\"a\",\n\"[\"]",
            format!("1: network.leave-out-interfaces: invalid value \"[\"; expected {name}"),
        ),
        (
            "network.leave-out-interfaces = \"a\"",
            "1: network.leave-out-interfaces: invalid value \"a\"; expected a list of names or patterns such as [\"docker*\"]"
                .to_owned(),
        ),
        (
            "network.leave-out-addresses = \"10.0.0.0/8\"",
            "1: network.leave-out-addresses: invalid value \"10.0.0.0/8\"; expected a list of addresses or networks such as \
             [\"169.254.0.0/16\"]"
                .to_owned(),
        ),
        (
            "network.leave-out-addresses = [\"::1\", \"10.0.0.0/33\"]",
            "1: network.leave-out-addresses: invalid value \"10.0.0.0/33\"; expected an address or network such as \
             169.254.0.0/16"
                .to_owned(),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(
            load(text).unwrap_err(),
            format!("config.toml:{expected}"),
            "{text}"
        );
    }
    let long = load(&format!("schema = \"{}\"", "x".repeat(500))).unwrap_err();
    let expected = format!(
        "config.toml:1: schema: invalid value \"{}...; expected std or rfc",
        "x".repeat(59)
    );
    assert_eq!(long, expected);
    let long = load(&format!("{} = 1", "schema".repeat(100_000))).unwrap_err();
    let expected = format!(
        "config.toml:1: there is no setting {}...",
        "schema".repeat(10)
    );
    assert_eq!(long, expected);
}

#[test]
fn syntax_errors_are_explained_in_plain_words() {
    for (text, expected) in [
        ("schema = rfc", "1: schema: missing quotes around rfc"),
        (
            "schema = xyz",
            "1: schema: invalid value xyz; expected std or rfc",
        ),
        (
            "stderr = yes",
            "1: stderr: invalid value yes; expected true or false",
        ),
        ("root = /", "1: root: missing quotes around /"),
        (
            "[network]\nleave-out-interfaces = docker*",
            "2: network.leave-out-interfaces: invalid value docker*; expected a list of names or patterns such as [\"docker*\"]",
        ),
        ("schema = \"rfc", "1: the closing quote is missing"),
        (
            "\nschema = \"std\nstderr = true",
            "2: the closing quote is missing",
        ),
        ("schema = 'rfc", "1: the closing quote is missing"),
        ("schema = = 1", "1: there is one equals sign too many"),
        ("schema =", "1: schema: the value is missing"),
        ("schema", "1: expected key = value"),
        ("stderr = true\nstderr = true", "2: stderr is set twice"),
        ("[memory\nperiod = 5", "1: the closing bracket ] is missing"),
        (
            "network.leave-out-interfaces = [\"a\"",
            "1: the closing bracket ] is missing",
        ),
        (
            "network.leave-out-interfaces = [\"a\" \"b\"]",
            "1: a comma is missing",
        ),
    ] {
        assert_eq!(
            load(text).unwrap_err(),
            format!("config.toml:{expected}"),
            "{text}"
        );
    }
}

#[test]
fn all_mistakes_are_reported_in_the_order_of_their_lines() {
    let error =
        load("b = 1\nstderr = 1\nschema = rfc\na = 2\nroot = \"x\n\n[memory]\nperiod = 0\n")
            .unwrap_err();
    let expected = "config.toml:1: there is no setting b
config.toml:2: stderr: invalid value 1; expected true or false
config.toml:3: schema: missing quotes around rfc
config.toml:4: there is no setting a
config.toml:5: the closing quote is missing
config.toml:8: memory.period: invalid value 0; expected a number of seconds from 0.01 to 86400";
    assert_eq!(error, expected);

    let directory = tempfile::tempdir().unwrap();
    let [first, second] = ["b.toml", "a.toml"].map(|name| directory.path().join(name));
    fs::write(&first, "x = 1").unwrap();
    let sources = Sources {
        file: None,
        command_line: vec![(find("schema"), vec!["x".to_owned()])],
    };
    let environment = |name: &str| (name == "XENSTORE_SCHEMA").then(|| "y".into());
    let error = sources
        .load_from(&[first.clone(), second.clone()], environment)
        .unwrap_err();
    let expected = [
        format!("{}:1: there is no setting x", first.display()),
        format!(
            "cannot read the settings file {}: No such file or directory (os error 2)",
            second.display()
        ),
        "environment XENSTORE_SCHEMA: invalid value \"y\"; expected std or rfc".to_owned(),
        "--schema: invalid value \"x\"; expected std or rfc".to_owned(),
    ];
    assert_eq!(error.messages(), expected);
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

/// Loads `config.toml` and `conf.d` in a directory after `change`. Returns the error, without the
/// path of the directory.
fn load_with_mode(path: &str, mode: u32) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    let at = |path: &str| directory.path().join(path);
    fs::create_dir(at("conf.d")).unwrap();
    for name in ["config.toml", "conf.d/a.toml"] {
        fs::write(at(name), "stderr = true").unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    fs::set_permissions(at("conf.d"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).unwrap();
    let group = fs::metadata(at(path)).unwrap().gid();
    let loaded = file::in_directory(directory.path())
        .and_then(|files| Sources::default().load_from(&files, |_| None));
    let error = loaded.err()?.to_string();
    let error = error.replace(&format!("{}/", directory.path().display()), "");
    let error = error.replace(&directory.path().display().to_string(), "");
    Some(error.replace(&format!("group {group}"), "group GROUP"))
}

#[test]
fn settings_that_every_user_may_write_are_refused() {
    for (path, mode, what) in [
        ("config.toml", 0o646, "settings file"),
        ("config.toml", 0o602, "settings file"),
        ("conf.d/a.toml", 0o646, "settings file"),
        ("conf.d", 0o757, "directory"),
        ("conf.d", 0o1757, "directory"),
        ("", 0o757, "directory"),
        ("", 0o1757, "directory"),
    ] {
        let expected =
            format!("refusing the {what} {path}: writable by every user; run: chmod o-w {path}");
        assert_eq!(
            load_with_mode(path, mode),
            Some(expected),
            "{path} {mode:o}"
        );
    }
}

#[test]
fn other_mode_bits_of_settings_are_accepted() {
    for bit in (0..12).map(|bit| 1 << bit).filter(|bit| *bit & 0o022 == 0) {
        for path in ["config.toml", "conf.d/a.toml"] {
            assert_eq!(load_with_mode(path, 0o400 | bit), None, "{path} {bit:o}");
        }
        for path in ["conf.d", ""] {
            assert_eq!(load_with_mode(path, 0o700 | bit), None, "{path} {bit:o}");
        }
    }
}

#[test]
fn settings_that_the_group_of_the_process_may_write_are_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let is_roots = fs::metadata(directory.path()).unwrap().gid() == 0;
    for path in ["config.toml", "conf.d/a.toml", "conf.d", ""] {
        let error = load_with_mode(path, 0o770);
        let reason = format!(" {path}: writable by group GROUP; run: chmod g-w {path}");
        if is_roots || !geteuid().is_root() {
            assert_eq!(error, None, "{path}");
        } else {
            assert!(error.unwrap().ends_with(&reason), "{path}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn group_of_settings_matters_only_to_a_process_of_root() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path();
    chown(path, Some(1234), Some(1234)).unwrap();
    let reason = |mode, is_root| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        file::reason_to_refuse(path, &fs::metadata(path).unwrap(), is_root).is_some()
    };
    assert!(reason(0o664, true));
    assert!(!reason(0o664, false));
    assert!(reason(0o666, false));
}

#[test]
#[ignore = "needs root"]
fn settings_that_another_group_may_write_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    fs::write(&file, "").unwrap();
    for (path, group, mode, is_refused) in [
        (&*file, 0, 0o664, false),
        (&*file, 1234, 0o664, true),
        (&*file, 1234, 0o644, false),
        (directory.path(), 0, 0o775, false),
        (directory.path(), 1234, 0o775, true),
        (directory.path(), 1234, 0o755, false),
    ] {
        chown(path, None, Some(group)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let loaded = file::in_directory(directory.path())
            .and_then(|files| Sources::default().load_from(&files, |_| None));
        let name = path.display();
        let expected = format!(" {name}: writable by group {group}; run: chmod g-w {name}");
        match loaded {
            Ok(_) => assert!(!is_refused, "{} {group} {mode:o}", path.display()),
            Err(error) => assert!(
                is_refused && error.to_string().ends_with(&expected),
                "{error}"
            ),
        }
    }
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
fn file_in_a_sticky_directory_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.toml");
    fs::write(&file, "stderr = true").unwrap();
    let sources = Sources {
        file: Some(file),
        ..Sources::default()
    };
    for (mode, is_read) in [(0o1777, true), (0o777, false)] {
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(sources.load().is_ok(), is_read, "{mode:o}");
    }
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
fn errors_name_the_setting_as_the_user_wrote_it() {
    let error = |key: &str, word: &str| {
        let sources = Sources {
            file: None,
            command_line: vec![(find(key), vec![word.to_owned()])],
        };
        sources.load_from(&[], |_| None).unwrap_err().to_string()
    };
    for (key, word, expected) in [
        (
            "schema",
            "a\nb",
            "--schema: invalid value \"a\\u000ab\"; expected std or rfc",
        ),
        (
            "memory.period",
            "-1",
            "--memory-period: invalid value \"-1\"; expected a number of seconds from 0.01 to 86400",
        ),
        (
            "stderr",
            "no",
            "--stderr: invalid value \"no\"; expected true or false",
        ),
        (
            "root",
            "/nonexistent",
            "--root: invalid value \"/nonexistent\"; expected the path of an existing directory",
        ),
    ] {
        assert_eq!(error(key, word), expected);
    }
    let error =
        Sources::default().load_from(&[], |name| (name == "XENSTORE_SCHEMA").then(|| "x".into()));
    assert_eq!(
        error.unwrap_err().to_string(),
        "environment XENSTORE_SCHEMA: invalid value \"x\"; expected std or rfc"
    );
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
        node-budget = 100\n\
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
