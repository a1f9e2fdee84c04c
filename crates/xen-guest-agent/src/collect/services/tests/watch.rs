//! Changes of the directory.

use super::*;

#[test]
#[ignore = "needs a free inotify instance, which other programs may use up"]
fn changes_are_reported_at_once() {
    let mut testbed = Testbed::with_directory();
    let at = |testbed: &Testbed, name: &str| testbed.at("etc/agent/services.d").join(name);
    let mut step = |what: &str, change: &dyn Fn(&Testbed), expected: &str| {
        assert!(!testbed.is_reported(), "before: {what}");
        change(&testbed);
        assert!(testbed.is_reported(), "{what}");
        testbed.read();
        assert_eq!(testbed.shown(), expected, "{what}");
    };
    step(
        "a new file",
        &|testbed| testbed.write("a.conf", "x = 1"),
        "a/x=1",
    );
    step(
        "written again",
        &|testbed| testbed.write("a.conf", "x = 2"),
        "a/x=2",
    );
    step(
        "moved to its place",
        &|testbed| {
            fs::write(testbed.at("new"), "x = 3").unwrap();
            fs::rename(testbed.at("new"), at(testbed, "a.conf")).unwrap();
        },
        "a/x=3",
    );
    step(
        "another name",
        &|testbed| fs::rename(at(testbed, "a.conf"), at(testbed, "b.conf")).unwrap(),
        "b/x=3 -a",
    );
    step(
        "a link",
        &|testbed| symlink("b.conf", at(testbed, "c.conf")).unwrap(),
        "b/x=3 c/x=3 -a",
    );
    step(
        "removed",
        &|testbed| fs::remove_file(at(testbed, "b.conf")).unwrap(),
        "-a -b -c",
    );
    step(
        "many",
        &|testbed| (0..1000).for_each(|_| testbed.write("d.conf", "x = 4")),
        "d/x=4 -a -b -c",
    );
}

#[test]
#[ignore = "needs a free inotify instance, which other programs may use up"]
fn creation_removal_and_replacement_of_the_directory_are_reported() {
    let mut testbed = Testbed::new();
    testbed.read();
    let directory = |testbed: &Testbed| testbed.at("etc/agent/services.d");
    let mut step = |what: &str, change: &dyn Fn(&Testbed), expected: &str| {
        change(&testbed);
        assert!(testbed.is_reported(), "{what}");
        testbed.read();
        assert_eq!(testbed.shown(), expected, "{what}");
        // The end of a watch is an event, too.
        testbed.read();
        assert!(!testbed.is_reported(), "{what}");
    };
    step(
        "it comes",
        &|testbed| fs::create_dir(directory(testbed)).unwrap(),
        "",
    );
    step(
        "a file in it",
        &|testbed| testbed.write("a.conf", "x = 1"),
        "a/x=1",
    );
    step(
        "moved away",
        &|testbed| fs::rename(directory(testbed), testbed.at("etc/agent/old")).unwrap(),
        "-a",
    );
    step(
        "and back",
        &|testbed| fs::rename(testbed.at("etc/agent/old"), directory(testbed)).unwrap(),
        "a/x=1",
    );
    step(
        "replaced",
        &|testbed| {
            fs::create_dir(testbed.at("new")).unwrap();
            fs::write(testbed.at("new/b.conf"), "x = 2").unwrap();
            fs::rename(directory(testbed), testbed.at("old")).unwrap();
            fs::rename(testbed.at("new"), directory(testbed)).unwrap();
        },
        "b/x=2 -a",
    );
    // The old directory is no longer watched.
    fs::write(testbed.at("old/c.conf"), "x = 1").unwrap();
    assert!(!testbed.is_reported());
    let mut step = |what: &str, change: &dyn Fn(&Testbed), expected: &str| {
        change(&testbed);
        assert!(testbed.is_reported(), "{what}");
        testbed.read();
        assert_eq!(testbed.shown(), expected, "{what}");
    };
    step(
        "written to",
        &|testbed| testbed.write("b.conf", "x = 3"),
        "b/x=3 -a",
    );
    step(
        "removed",
        &|testbed| fs::remove_dir_all(directory(testbed)).unwrap(),
        "-a -b",
    );
    step(
        "all is removed",
        &|testbed| fs::remove_dir_all(testbed.at("etc")).unwrap(),
        "-a -b",
    );
    // No watch is left, so the next poll finds the directory.
    testbed.make("etc/agent/services.d");
    testbed.write("a.conf", "x = 4");
    assert!(!testbed.is_reported());
    assert!(testbed.poll());
    assert_eq!(testbed.shown(), "a/x=4 -b");
    testbed.write("a.conf", "x = 5");
    assert!(testbed.is_reported());
}

#[test]
#[ignore = "needs a free inotify instance, which other programs may use up"]
fn descriptor_of_an_unreadable_directory_is_not_readable_all_the_time() {
    let mut testbed = Testbed::new();
    fs::write(testbed.at("etc/agent/services.d"), "a file").unwrap();
    testbed.read();
    assert!(!testbed.is_reported());
    std::thread::sleep(Duration::from_millis(10));
    assert!(!testbed.is_reported());
}

#[test]
#[ignore = "needs a free inotify instance, which other programs may use up"]
fn unreported_changes_are_found_by_polls() {
    let mut testbed = Testbed::new();
    fs::remove_dir_all(testbed.at("etc")).unwrap();
    testbed.read();
    assert!(!testbed.poll());
    testbed.make("etc/agent");
    assert!(!testbed.poll());
    assert!(testbed.services.watch.as_ref().unwrap().is_reliable());
    assert!(!testbed.is_reported());
    testbed.make("etc/agent/services.d");
    assert!(testbed.is_reported(), "the poll has watched the parent");
    testbed.read();
    // These changes are outside of the directory.
    fs::write(testbed.at("a"), "x = 1").unwrap();
    symlink("/a", testbed.at("etc/agent/services.d/a.conf")).unwrap();
    testbed.read();
    fs::write(testbed.at("a"), "x = 2").unwrap();
    assert!(!testbed.poll());
    assert!(testbed.services.poll(&mut testbed.known, true));
    assert_eq!(testbed.shown(), "a/x=2");
}

#[test]
fn polls_find_changes_without_a_watch() {
    let mut testbed = Testbed::with_directory();
    testbed.services.watch = None;
    testbed.write("b.conf", "x = 1");
    assert!(testbed.poll());
    assert_eq!(testbed.shown(), "b/x=1");
}

#[test]
fn reads_after_changes_are_rate_limited() {
    let mut testbed = Testbed::with_directory();
    let start = clock::now();
    let mut reads = 0;
    for millisecond in (0..20_000).step_by(10) {
        let now = start + Duration::from_millis(millisecond);
        testbed.services.resume(now);
        if testbed.services.deadline().is_none() {
            testbed.services.on_changed(&mut testbed.known, now);
            reads += 1;
        } else {
            assert!(testbed.services.watch().is_none(), "poll(2) would not wait");
        }
    }
    assert!((20..=30).contains(&reads), "{reads} reads in 20 s");

    // The last change is read after the pause.
    testbed.write("web.conf", "state = up");
    let later = testbed.services.deadline().unwrap();
    testbed.services.resume(later);
    assert!(testbed.services.on_changed(&mut testbed.known, later));
}
