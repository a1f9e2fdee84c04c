//! Settings that others may write.

use super::*;

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
