//! Who may do what.

use xenstore::{Access, DomId, Permission};

use crate::bed::{Bed, GUEST, event_paths, refusal};

fn parse(text: &str) -> Vec<Permission> {
    text.split_whitespace()
        .map(|entry| Permission::parse(entry.as_bytes()).unwrap())
        .collect()
}

fn show(permissions: &[Permission]) -> String {
    permissions
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

pub(crate) fn a_new_node_has_its_parents_permissions(bed: &Bed) {
    let mut client = bed.client();
    client.write("data/x", "").unwrap();
    client
        .set_permissions("data/x", &parse(&format!("n{} r7", bed.domain())))
        .unwrap();
    client.write("data/x/a/b", "").unwrap();
    assert_eq!(
        show(&client.permissions("data/x/a/b").unwrap()),
        format!("n{} r7", bed.domain())
    );
}

pub(crate) fn permissions_read_back(bed: &Bed) {
    let mut client = bed.client();
    client.write("data/x", "").unwrap();
    for others in ["n{} r7", "r{}", "b{} n7 w8 b9", "w{} r0"] {
        let permissions = parse(&others.replace("{}", &bed.domain().to_string()));
        client.set_permissions("data/x", &permissions).unwrap();
        assert_eq!(client.permissions("data/x").unwrap(), permissions);
    }
}

pub(crate) fn permissions_of_a_missing_node(bed: &Bed) {
    let mut client = bed.client();
    client.mkdir("data").unwrap();
    let own = [Permission {
        domain: bed.domain(),
        access: Access::None,
    }];
    assert_eq!(refusal(client.permissions("data/x")), "ENOENT");
    assert_eq!(refusal(client.set_permissions("data/x", &own)), "ENOENT");
}

pub(crate) fn guests_write_only_what_is_theirs(bed: &Bed) {
    let mut client = bed.client();
    let home = format!("/local/domain/{GUEST}");
    for path in ["new", "name", "memory/target", "vm/below"] {
        let path = format!("{home}/{path}");
        let results = [
            client.write(&path, "1"),
            client.mkdir(format!("{path}/below")),
        ];
        for result in results {
            if bed.is_guest() {
                assert_eq!(refusal(result), "EACCES", "{path}");
            } else {
                result.unwrap();
            }
        }
    }
    for path in ["data/x", "attr/x", "control/x", "xenserver/attr/x"] {
        client.write(format!("{home}/{path}"), "1").unwrap();
        client.remove(format!("{home}/{path}")).unwrap();
    }
}

pub(crate) fn guests_do_not_see_what_is_not_theirs(bed: &Bed) {
    let mut dom0 = bed.client_of(0);
    dom0.write("/secret/node", "secret").unwrap();
    dom0.write(format!("/local/domain/{GUEST}/data/secret"), "secret")
        .unwrap();
    dom0.set_permissions(format!("/local/domain/{GUEST}/data/secret"), &parse("n0"))
        .unwrap();
    let mut client = bed.client();
    for path in [
        "/secret/node".to_owned(),
        format!("/local/domain/{GUEST}/data/secret"),
    ] {
        if bed.is_guest() {
            assert_eq!(refusal(client.read(&path)), "EACCES", "{path}");
            assert_eq!(refusal(client.list(&path)), "EACCES", "{path}");
            assert_eq!(refusal(client.write(&path, "")), "EACCES", "{path}");
        } else {
            assert_eq!(client.read(&path).unwrap(), b"secret");
        }
    }
    if bed.is_guest() {
        // Whether there is anything is none of its business either; oxenstored says so nevertheless.
        assert_eq!(
            refusal(client.read("/secret/nothing")),
            bed.either("EACCES", "ENOENT")
        );
    }
}

pub(crate) fn a_node_may_be_shared(bed: &Bed) {
    // What the guest owns, it may let domain 0 read: domain 0 may anyhow. What domain 0 owns, it may let the guest use.
    let mut dom0 = bed.client_of(0);
    let mut guest = bed.client_of(GUEST);
    dom0.write("/shared", "").unwrap();
    let cases: [(String, bool, bool); 5] = [
        ("n0".into(), false, false),
        (format!("n0 r{GUEST}"), true, false),
        (format!("n0 w{GUEST}"), false, true),
        (format!("n0 b{GUEST}"), true, true),
        ("r0".into(), true, false),
    ];
    for (permissions, can_read, can_write) in cases {
        dom0.set_permissions("/shared", &parse(&permissions))
            .unwrap();
        assert_eq!(guest.read("/shared").is_ok(), can_read, "{permissions}");
        assert_eq!(
            guest.write("/shared", "guest").is_ok(),
            can_write,
            "{permissions}"
        );
    }
}

pub(crate) fn a_node_is_given_away_only_by_domain_0(bed: &Bed) {
    let mut client = bed.client();
    client.write("data/x", "").unwrap();
    let other: DomId = if bed.is_guest() { 0 } else { GUEST };
    let given = client.set_permissions(
        "data/x",
        &[Permission {
            domain: other,
            access: Access::None,
        }],
    );
    if bed.is_guest() {
        // The protocol's text says EPERM.
        assert_eq!(refusal(given), bed.either("EPERM", "EACCES"));
        assert_eq!(
            client.permissions("data/x").unwrap()[0].domain,
            bed.domain()
        );
    } else {
        given.unwrap();
        assert_eq!(
            show(&client.permissions("data/x").unwrap()),
            format!("n{GUEST}")
        );
        bed.client_of(GUEST)
            .write(format!("{}/data/x", bed.home()), "mine")
            .unwrap();
    }
}

pub(crate) fn a_guest_cannot_make_again_what_it_removed(bed: &Bed) {
    let mut client = bed.client();
    client.write("data/x", "").unwrap();
    client.watch("data", "").unwrap();
    event_paths(&mut client);
    let removed = client.remove("data");
    let made = client.write("data/x", "");
    removed.unwrap();
    if bed.is_guest() {
        assert_eq!(refusal(made), "EACCES");
        assert_eq!(event_paths(&mut client), ["data"]);
    } else {
        made.unwrap();
    }
}
