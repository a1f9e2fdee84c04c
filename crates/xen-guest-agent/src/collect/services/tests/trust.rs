//! Files that the agent must not read on behalf of a user.

use super::*;

/// Returns the names of all files that the agent refuses to read.
fn refused(directory: &Path) -> Vec<String> {
    let path = directory.to_str().unwrap();
    let opened = SafeDir::open(&Root::default(), path, false).unwrap();
    let names = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| match opened.read(name, 100) {
            Err(error) => error.kind() == ErrorKind::PermissionDenied,
            Ok(text) => text != b"password = hunter2",
        })
        .collect();
    names.sort();
    names
}

#[test]
fn links_out_of_local_file_systems_are_not_followed() {
    let testbed = Testbed::with_directory();
    let directory = testbed.at("etc/agent/services.d");
    let opened = SafeDir::open(&Root::default(), directory.to_str().unwrap(), false).unwrap();
    // proc(5) stands for a file system of another kind, because the test must not mount one.
    symlink("/proc/self/status", directory.join("direct.conf")).unwrap();
    symlink("/proc", testbed.at("etc/agent/other")).unwrap();
    symlink("../other/self/status", directory.join("nested.conf")).unwrap();
    for name in ["direct.conf", "nested.conf"] {
        let error = opened.read(name, 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "/proc is not on a local file system");
    }

    let error = SafeDir::open(&Root::default(), "/proc/self/task", true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn links_to_devices_are_not_opened() {
    let testbed = Testbed::with_directory();
    let directory = testbed.at("etc/agent/services.d");
    let opened = SafeDir::open(&Root::default(), directory.to_str().unwrap(), false).unwrap();
    symlink("/dev/null", directory.join("null.conf")).unwrap();
    rustix::fs::mkfifoat(CWD, testbed.at("fifo"), Mode::from(0o600)).unwrap();
    symlink("../../../fifo", directory.join("fifo.conf")).unwrap();
    for name in ["null.conf", "fifo.conf"] {
        let error = opened.read(name, 100).unwrap_err();
        assert_eq!(error.to_string(), "not a regular file", "{name}");
    }
}

#[test]
#[ignore = "needs root"]
fn user_who_may_write_to_the_directory_reveals_only_own_files() {
    const USER: u32 = 1234;
    let testbed = Testbed::with_directory();
    let directory = testbed.at("etc/agent/services.d");
    let own = |path: &PathBuf, user| lchown(path, Some(user), Some(user)).unwrap();
    let file = |name: &str, user, mode| {
        let path = testbed.at(name);
        fs::write(&path, "password = hunter2").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        own(&path, user);
        path
    };
    let link = |target: &PathBuf, name: &str, user| {
        symlink(target, directory.join(name)).unwrap();
        own(&directory.join(name), user);
    };
    own(&directory, USER);
    let secret = file("secret", 0, 0o600);
    let public = file("public", 0, 0o644);
    let theirs = file("theirs", USER, 0o600);
    let strangers = file("strangers", USER + 1, 0o644);

    link(&secret, "secret.conf", USER);
    link(&public, "public.conf", USER);
    link(&secret, "root-secret.conf", 0);
    link(&strangers, "strangers.conf", 0);
    link(&theirs, "foreign.conf", USER + 1);
    fs::hard_link(&secret, directory.join("hard.conf")).unwrap();
    let names = refused(&directory);
    assert_eq!(names.len(), 6, "{names:?}");

    for name in fs::read_dir(&directory).unwrap() {
        fs::remove_file(name.unwrap().path()).unwrap();
    }
    link(&theirs, "own.conf", USER);
    link(&theirs, "root-own.conf", 0);
    link(&public, "root-public.conf", 0);
    file("etc/agent/services.d/plain.conf", USER, 0o600);
    file("etc/agent/services.d/root-plain.conf", 0, 0o644);
    assert_eq!(refused(&directory), [""; 0]);

    // If only root may write, the file of a link may be as private as root likes.
    own(&directory, 0);
    link(&secret, "secret.conf", 0);
    let names = refused(&directory);
    assert_eq!(names, ["own.conf", "plain.conf", "root-own.conf"]);
}

/// Changes owner and mode of a file.
fn give(path: &Path, user: u32, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    lchown(path, Some(user), None).unwrap();
}

#[test]
#[ignore = "needs root"]
fn directory_of_root_behind_a_path_of_a_user_is_refused() {
    const USER: u32 = 1234;
    let testbed = Testbed::with_directory();
    let base = fs::canonicalize(testbed.directory.path()).unwrap();
    let (app, secret) = (base.join("app"), base.join("secret"));
    testbed.make("app/plain");
    testbed.make("secret");
    give(&secret, 0, 0o700);
    give(&base, 0, 0o755);
    give(&app, USER, 0o755);
    symlink(&secret, app.join("root-link")).unwrap();
    symlink(&secret, base.join("user-link")).unwrap();
    lchown(base.join("user-link"), Some(USER), None).unwrap();
    symlink("user-link", base.join("nested")).unwrap();
    symlink("secret", base.join("good")).unwrap();

    let open = |path: &str| {
        let path = base.join(path);
        let opened = SafeDir::open(&Root::default(), path.to_str().unwrap(), false);
        opened.map(drop).map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            error
                .to_string()
                .replace(&format!("{}/", base.display()), "")
        })
    };
    let owned = |path: &str| {
        Err(format!(
            "{path} is owned by user {USER}, but only root and the owner of the directory are \
             trusted; run: chown -h root {path}"
        ))
    };
    assert_eq!(open("app/plain"), owned("app"));
    assert_eq!(open("app/root-link"), owned("app"));
    assert_eq!(open("user-link"), owned("user-link"));
    assert_eq!(open("nested"), owned("user-link"));
    assert_eq!(open("good"), Ok(()));

    // A user may lead the agent to a directory of the same user, but not of another.
    give(&secret, USER, 0o700);
    for path in ["user-link", "nested", "app/root-link", "good"] {
        assert_eq!(open(path), Ok(()), "{path}");
    }
    give(&secret, USER + 1, 0o700);
    assert_eq!(open("user-link"), owned("user-link"));

    // Others could rename another directory of root to the path, but not in a sticky directory.
    for (mode, is_refused) in [
        (0o777, true),
        (0o775, true),
        (0o1777, false),
        (0o755, false),
    ] {
        give(&app, 0, mode);
        let reason = "others than root may write to app; run: chmod go-w app".to_owned();
        let expected = if is_refused { Err(reason) } else { Ok(()) };
        assert_eq!(open("app/plain"), expected, "{mode:o}");
    }
}

#[test]
#[ignore = "needs root"]
fn private_file_of_root_in_a_directory_of_a_user_is_refused() {
    let testbed = Testbed::with_directory();
    let directory = testbed.at("etc/agent/services.d");
    testbed.make("app");
    let file = testbed.at("app/file");
    fs::write(&file, "password = hunter2").unwrap();
    symlink(&file, directory.join("a.conf")).unwrap();
    for (owner, directory_mode, mode, is_refused) in [
        (0, 0o755, 0o600, false),
        (1234, 0o755, 0o600, true),
        (1234, 0o755, 0o644, false),
        (0, 0o775, 0o600, true),
        (0, 0o1777, 0o600, false),
    ] {
        give(&testbed.at("app"), owner, directory_mode);
        give(&file, 0, mode);
        assert_eq!(
            !refused(&directory).is_empty(),
            is_refused,
            "{owner} {directory_mode:o} {mode:o}"
        );
    }
}

#[test]
#[ignore = "needs root"]
fn private_file_in_a_group_writable_directory_is_refused() {
    let testbed = Testbed::with_directory();
    let directory = testbed.at("etc/agent/services.d");
    testbed.write("a.conf", "password = hunter2");
    give(&directory.join("a.conf"), 0, 0o600);
    // An access control list looks like a directory that root's group may write.
    for (group, mode, is_refused) in [(0, 0o755, false), (0, 0o775, true), (1234, 0o775, true)] {
        give(&directory, 0, mode);
        lchown(&directory, None, Some(group)).unwrap();
        assert_eq!(!refused(&directory).is_empty(), is_refused, "{mode:o}");
    }
}

#[test]
#[ignore = "needs root and mount namespaces"]
fn private_file_on_a_read_only_mount_is_read() {
    const DIRECTORY: &str = "TEST_READ_ONLY_DIRECTORY";
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let opened = SafeDir::open(&Root::default(), directory.to_str().unwrap(), false).unwrap();
        assert_eq!(opened.read("a.conf", 100).unwrap(), b"password = hunter2");
        return;
    }
    // As Kubernetes mounts a volume.
    let testbed = Testbed::with_directory();
    let directory = testbed.at("etc/agent/services.d");
    fs::create_dir(directory.join("..1")).unwrap();
    fs::write(directory.join("..1/a.conf"), "password = hunter2").unwrap();
    give(&directory.join("..1/a.conf"), 0, 0o400);
    give(&directory.join("..1"), 0, 0o777);
    give(&directory, 0, 0o777);
    symlink("..1", directory.join("..data")).unwrap();
    symlink("..data/a.conf", directory.join("a.conf")).unwrap();
    assert!(refused(&directory).contains(&"a.conf".to_owned()));

    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && \
                  exec \"$2\" --exact --include-ignored \"$3\"";
    let name = "collect::services::tests::private_file_on_a_read_only_mount_is_read";
    let status = std::process::Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(&directory)
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(DIRECTORY, &directory)
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}
