//! Permissions.

use xenstore::{Nodes, Permissions};

use crate::testbed::{GUEST, Testbed, event_paths, refusal};

fn parse(text: &str) -> Permissions {
    text.parse().unwrap()
}

pub(crate) fn new_node_inherits_permissions(testbed: &Testbed) {
    let mut client = testbed.client();
    client.write("data/x", "").unwrap();
    client
        .set_permissions("data/x", &parse(&format!("n{} r7", testbed.domain())))
        .unwrap();
    client.write("data/x/a/b", "").unwrap();
    assert_eq!(
        client.permissions("data/x/a/b").unwrap().to_string(),
        format!("n{} r7", testbed.domain())
    );
}

pub(crate) fn permissions_are_read_back(testbed: &Testbed) {
    let mut client = testbed.client();
    client.write("data/x", "").unwrap();
    for others in ["n{} r7", "r{}", "b{} n7 w8 b9", "w{} r0"] {
        let permissions = parse(&others.replace("{}", &testbed.domain().to_string()));
        client.set_permissions("data/x", &permissions).unwrap();
        assert_eq!(client.permissions("data/x").unwrap(), permissions);
    }
}

pub(crate) fn permissions_of_a_missing_node_are_enoent(testbed: &Testbed) {
    let mut client = testbed.client();
    client.mkdir("data").unwrap();
    let own = Permissions::owner_only(testbed.domain());
    assert_eq!(refusal(client.permissions("data/x")), "ENOENT");
    assert_eq!(refusal(client.set_permissions("data/x", &own)), "ENOENT");
}

pub(crate) fn guest_writes_only_its_own_nodes(testbed: &Testbed) {
    let mut client = testbed.client();
    let home = format!("/local/domain/{GUEST}");
    for path in ["new", "name", "memory/target", "vm/below"] {
        let path = format!("{home}/{path}");
        let results = [
            client.write(&path, "1"),
            client.mkdir(format!("{path}/below")),
        ];
        for result in results {
            if testbed.is_guest() {
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

pub(crate) fn guest_cannot_read_foreign_nodes(testbed: &Testbed) {
    let mut dom0 = testbed.client_of(0);
    dom0.write("/secret/node", "secret").unwrap();
    dom0.write(format!("/local/domain/{GUEST}/data/secret"), "secret")
        .unwrap();
    dom0.set_permissions(format!("/local/domain/{GUEST}/data/secret"), &parse("n0"))
        .unwrap();
    let mut client = testbed.client();
    for path in [
        "/secret/node".to_owned(),
        format!("/local/domain/{GUEST}/data/secret"),
    ] {
        if testbed.is_guest() {
            assert_eq!(refusal(client.read(&path)), "EACCES", "{path}");
            assert_eq!(refusal(client.list(&path)), "EACCES", "{path}");
            assert_eq!(refusal(client.write(&path, "")), "EACCES", "{path}");
        } else {
            assert_eq!(client.read(&path).unwrap(), b"secret");
        }
    }
    if testbed.is_guest() {
        // The guest should not learn whether the node exists, but oxenstored reveals it.
        assert_eq!(
            refusal(client.read("/secret/nothing")),
            testbed.either("EACCES", "ENOENT")
        );
    }
}

pub(crate) fn permissions_grant_access_to_another_domain(testbed: &Testbed) {
    // Domain 0 may read all nodes in any case, so only its own nodes are shared here.
    let mut dom0 = testbed.client_of(0);
    let mut guest = testbed.client_of(GUEST);
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

pub(crate) fn only_domain_0_may_change_the_owner(testbed: &Testbed) {
    let mut client = testbed.client();
    client.write("data/x", "").unwrap();
    let other: u16 = if testbed.is_guest() { 0 } else { GUEST };
    let given = client.set_permissions("data/x", &Permissions::owner_only(other));
    if testbed.is_guest() {
        // The protocol specifies EPERM.
        assert_eq!(refusal(given), testbed.either("EPERM", "EACCES"));
        assert_eq!(
            client.permissions("data/x").unwrap().owner,
            testbed.domain().into()
        );
    } else {
        given.unwrap();
        assert_eq!(
            client.permissions("data/x").unwrap().to_string(),
            format!("n{GUEST}")
        );
        testbed
            .client_of(GUEST)
            .write(format!("{}/data/x", testbed.home()), "mine")
            .unwrap();
    }
}

pub(crate) fn guest_cannot_recreate_a_removed_toolstack_node(testbed: &Testbed) {
    let mut client = testbed.client();
    client.write("data/x", "").unwrap();
    client.watch("data", "").unwrap();
    event_paths(&mut client);
    let removed = client.remove("data");
    let made = client.write("data/x", "");
    removed.unwrap();
    if testbed.is_guest() {
        assert_eq!(refusal(made), "EACCES");
        assert_eq!(event_paths(&mut client), ["data"]);
    } else {
        made.unwrap();
    }
}
