//! Messages about mistakes.

use super::*;

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
fn valid_settings_beside_invalid_ones_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let [file, missing] = ["a.toml", "b.toml"].map(|name| directory.path().join(name));
    let text = "root = \"/nonexistent\"\nschema = \"x\"\nxenstore = \"device\"\n";
    fs::write(&file, text).unwrap();
    let (loaded, messages) = Sources::default().read(&[file, missing], |_| None);
    let expected = Settings {
        xenstore: Endpoint::Device,
        ..Settings::default()
    };
    assert_eq!(loaded.settings, expected);
    assert_eq!(messages.len(), 3, "{messages:?}");

    let invalid = [
        Sources {
            file: Some("/nonexistent.toml".into()),
            ..Sources::default()
        },
        Sources {
            command_line: vec![(find("schema"), vec!["x".to_owned()])],
            ..Sources::default()
        },
    ];
    for sources in invalid {
        let error = sources.load_valid().unwrap_err();
        assert_eq!(error.messages().len(), 1, "{error}");
    }
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
