use super::*;

const DATE: &str = "2026-12-01T00:00:00Z";

#[test]
fn sbom_has_the_crates_of_the_tree_and_their_edges() {
    let tree = "0 program v1.0.0 (/source)|MIT\n1 a v0.1.0|MIT/Apache-2.0\n2 b_c v2.0.0+x|MIT\n1 b_c v2.0.0+x|MIT\n";
    let lock =
        "version = 4\n\n[[package]]\nname = \"b_c\"\nversion = \"2.0.0+x\"\nchecksum = \"12ab\"\n";
    let crates = crates(tree, &checksums(lock)).unwrap();
    let bill = Bill {
        crates,
        date: DATE.to_owned(),
    };
    let [program, a, b] = bill.crates.as_slice() else {
        panic!("{:?}", bill.crates)
    };

    assert_eq!(
        (program.uses.clone(), a.uses.clone()),
        (BTreeSet::from([1, 2]), BTreeSet::from([2]))
    );
    assert_eq!(a.licence, "MIT OR Apache-2.0");
    assert_eq!(b.url(), "pkg:cargo/b_c@2.0.0%2Bx");

    let cyclonedx = cyclonedx::document(&bill, program);
    assert_eq!(cyclonedx["metadata"]["component"]["name"], "program");
    assert_eq!(cyclonedx["components"][1]["hashes"][0]["content"], "12ab");
    assert_eq!(
        cyclonedx["dependencies"][1]["dependsOn"][0],
        "pkg:cargo/b_c@2.0.0%2Bx"
    );

    let spdx = spdx::document(&bill, program);
    assert_eq!(
        spdx["relationships"][0]["relatedSpdxElement"],
        "SPDXRef-Package-program-1.0.0"
    );
    assert_eq!(spdx["relationships"].as_array().unwrap().len(), 4);
    assert_eq!(spdx["packages"][2]["SPDXID"], "SPDXRef-Package-b-c-2.0.0-x");
    assert_eq!(spdx["packages"][0]["downloadLocation"], "NOASSERTION");
}

#[test]
fn unexpected_line_of_cargo_tree_is_an_error() {
    assert!(crates("program v1.0.0|MIT\n", &BTreeMap::new()).is_err());
    assert!(crates("0 program v1.0.0\n", &BTreeMap::new()).is_err());
}

#[test]
fn every_crate_of_the_programs_has_a_licence_and_a_checksum() {
    for package in PACKAGES {
        let bill = bill(package, TARGET, DATE).unwrap();
        assert_eq!(bill.crates[0].name, package);
        assert!(bill.crates.len() > 10, "{bill:?}");

        let own = [package, "xenstore-client"];
        for one in &bill.crates {
            assert!(!one.licence.is_empty(), "{one:?}");
            assert_eq!(
                one.checksum.is_none(),
                own.contains(&one.name.as_str()),
                "{one:?}"
            );
        }
        assert!(
            bill.crates.iter().all(|one| one.name != "tokio"),
            "{bill:?}"
        );
    }
}

#[test]
fn crates_are_the_same_for_all_linux_targets() {
    let names = |target| {
        let bills = PACKAGES.map(|package| bill(package, target, DATE).unwrap());
        bills.map(|bill| bill.crates.iter().map(Crate::url).collect::<Vec<_>>())
    };
    for target in [
        "x86_64-unknown-linux-gnu",
        "aarch64-unknown-linux-gnu",
        "aarch64-unknown-linux-musl",
    ] {
        assert_eq!(names(target), names(TARGET), "{target}");
    }
}
