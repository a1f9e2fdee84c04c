//! Nodes and their values.

use xenstore::{ErrorCode, Request};

use crate::bed::{Bed, GUEST, refusal};
use crate::client::Client;

pub(crate) fn a_value_reads_back(bed: &Bed) {
    let mut client = bed.client();
    client.write("data/x", "hello").unwrap();
    assert_eq!(client.read("data/x").unwrap(), b"hello");
    assert_eq!(
        bed.client().read("data/x").unwrap(),
        b"hello",
        "for another client too"
    );
}

pub(crate) fn a_value_is_replaced(bed: &Bed) {
    let mut client = bed.client();
    for value in ["long and longer", "short", ""] {
        client.write("data/x", value).unwrap();
        assert_eq!(client.read("data/x").unwrap(), value.as_bytes());
    }
}

pub(crate) fn a_value_may_be_empty(bed: &Bed) {
    let mut client = bed.client();
    client.write("data/x", "").unwrap();
    assert_eq!(client.read("data/x").unwrap(), b"");
}

pub(crate) fn a_value_may_be_any_bytes(bed: &Bed) {
    let mut client = bed.client();
    let every: Vec<u8> = (0..=255).collect();
    for value in [
        every.as_slice(),
        b"\0",
        b"trailing\0",
        b"\0leading",
        "text in UTF-8: \u{e4}\u{2192}".as_bytes(),
    ] {
        client.write("data/x", value).unwrap();
        assert_eq!(client.read("data/x").unwrap(), value);
    }
}

pub(crate) fn a_value_of_2000_bytes_is_taken(bed: &Bed) {
    let mut client = bed.client();
    let value = vec![b'v'; 2000];
    client.write("data/x", &value).unwrap();
    assert_eq!(client.read("data/x").unwrap(), value);
}

pub(crate) fn a_value_may_be_only_so_long(bed: &Bed) {
    let mut client = bed.client();
    client.write("data/x", "before").unwrap();
    let mut longest = 0;
    let mut refused = None;
    for len in 2000..=2100 {
        match client.write("data/x", vec![b'v'; len]) {
            Ok(()) => longest = len,
            Err(error) => {
                refused = error.code().cloned();
                break;
            }
        }
    }
    // C xenstored counts what else belongs to the node, and not for domain 0; oxenstored the value alone, for everyone.
    let expected = match (bed.is_oxenstored(), bed.is_guest()) {
        (true, _) => (2048, Some(ErrorCode::E2BIG)),
        (false, true) => (2015, Some(ErrorCode::ENOSPC)),
        (false, false) => (2100, None),
    };
    assert_eq!((longest, refused), expected);
    // What was refused has changed nothing.
    assert_eq!(client.read("data/x").unwrap().len(), longest);
}

pub(crate) fn missing_parents_are_made(bed: &Bed) {
    let mut client = bed.client();
    client.write("data/a/b/c", "deep").unwrap();
    assert_eq!(client.read("data/a/b/c").unwrap(), b"deep");
    assert_eq!(client.read("data/a/b").unwrap(), b"");
    assert_eq!(client.list("data/a").unwrap(), ["b"]);
}

pub(crate) fn mkdir_makes_an_empty_node(bed: &Bed) {
    let mut client = bed.client();
    client.mkdir("data/a/b").unwrap();
    assert_eq!(client.read("data/a/b").unwrap(), b"");
    assert_eq!(client.read("data/a").unwrap(), b"");
}

pub(crate) fn mkdir_leaves_a_node_as_it_is(bed: &Bed) {
    let mut client = bed.client();
    client.write("data/x", "value").unwrap();
    client.write("data/x/y", "below").unwrap();
    client.mkdir("data/x").unwrap();
    assert_eq!(client.read("data/x").unwrap(), b"value");
    assert_eq!(client.read("data/x/y").unwrap(), b"below");
}

pub(crate) fn a_node_is_removed_with_all_below(bed: &Bed) {
    let mut client = bed.client();
    for path in ["data/a", "data/a/b", "data/a/b/c", "data/a/d", "data/ab"] {
        client.write(path, "value").unwrap();
    }
    client.remove("data/a").unwrap();
    for path in ["data/a", "data/a/b", "data/a/b/c", "data/a/d"] {
        assert_eq!(refusal(client.read(path)), "ENOENT", "{path}");
    }
    assert_eq!(client.read("data/ab").unwrap(), b"value");
    // And it does not come back with what was in it.
    client.write("data/a", "again").unwrap();
    assert!(client.list("data/a").unwrap().is_empty());
}

pub(crate) fn removing_what_is_not_there_is_no_error(bed: &Bed) {
    let mut client = bed.client();
    client.mkdir("data").unwrap();
    client.remove("data/x").unwrap();
    client.write("data/x", "").unwrap();
    client.remove("data/x").unwrap();
    client.remove("data/x").unwrap();
}

pub(crate) fn removing_below_what_is_not_there_is_an_error(bed: &Bed) {
    let mut client = bed.client();
    client.mkdir("data").unwrap();
    assert_eq!(refusal(client.remove("data/x/y")), "ENOENT");
}

pub(crate) fn a_missing_node_is_enoent(bed: &Bed) {
    let mut client = bed.client();
    client.mkdir("data").unwrap();
    for path in ["data/x", "data/x/y"] {
        assert_eq!(refusal(client.read(path)), "ENOENT");
        assert_eq!(refusal(client.list(path)), "ENOENT");
        assert_eq!(refusal(client.permissions(path)), "ENOENT");
    }
}

pub(crate) fn relative_paths_start_at_the_domains_home(bed: &Bed) {
    let mut client = bed.client();
    let absolute = format!("{}/data/x", bed.home());
    client.write("data/x", "relative").unwrap();
    assert_eq!(client.read(&absolute).unwrap(), b"relative");
    client.write(&absolute, "absolute").unwrap();
    assert_eq!(client.read("data/x").unwrap(), b"absolute");
    assert_eq!(bed.client_of(0).read(&absolute).unwrap(), b"absolute");
}

pub(crate) fn every_domain_has_its_path(bed: &Bed) {
    let mut client = bed.client();
    // Whether there is such a domain or not.
    for domain in [0, GUEST, 77] {
        assert_eq!(
            client.domain_path(domain).unwrap().as_str(),
            format!("/local/domain/{domain}")
        );
    }
}

pub(crate) fn every_character_of_a_path_is_taken(bed: &Bed) {
    let mut client = bed.client();
    let name = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_@";
    client
        .write(format!("data/{name}/{name}"), "value")
        .unwrap();
    assert_eq!(client.list(format!("data/{name}")).unwrap(), [name]);
    assert_eq!(
        client.read(format!("data/{name}/{name}")).unwrap(),
        b"value"
    );
}

pub(crate) fn long_paths_are_taken_up_to_the_servers_limit(bed: &Bed) {
    let mut client = bed.client();
    let path = |len: usize| format!("data/{}", "p".repeat(len - "data/".len()));
    client.write(path(900), "value").unwrap();
    assert_eq!(client.read(path(900)).unwrap(), b"value");
    // oxenstored is set to 1024 bytes of absolute path, C xenstored has the protocol's 2048 of a relative one.
    let too_long = path(1030);
    if bed.is_oxenstored() {
        assert_eq!(refusal(client.write(&too_long, "value")), "EINVAL");
    } else {
        client.write(&too_long, "value").unwrap();
        assert_eq!(client.read(&too_long).unwrap(), b"value");
    }
}

pub(crate) fn nodes_are_limited_for_guests(bed: &Bed) {
    let mut client = bed.client();
    let write = |client: &mut Client, n: usize| client.write(format!("data/{}/{n}", n / 100), "");
    let mut written = 0;
    let refused = loop {
        match write(&mut client, written) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        if written == 1200 {
            assert!(!bed.is_guest(), "more nodes than the quota");
            return;
        }
    };
    assert!(bed.is_guest(), "{refused}");
    assert_eq!(
        refused.code().unwrap().name(),
        bed.either("ENOSPC", "EQUOTA")
    );
    assert!((900..1000).contains(&written), "{written}");
    // Existing nodes can still be written, and one that goes makes room for another.
    client.write("data/0/0", "value").unwrap();
    client.remove("data/0/0").unwrap();
    client.write("data/0/another", "").unwrap();
    assert_eq!(
        refusal(client.write("data/0/one-more", "")),
        bed.either("ENOSPC", "EQUOTA")
    );
    let all = (0..10).map(|n| Request::list(format!("data/{n}")).unwrap());
    let lists = client.pipeline(all).unwrap();
    let nodes: usize = lists
        .into_iter()
        .filter_map(Result::ok)
        .map(|list| list.split(|byte| *byte == 0).count() - 1)
        .sum();
    assert_eq!(nodes, written);
}

pub(crate) fn a_value_as_text(bed: &Bed) {
    let mut client = bed.client();
    client.write("data/x", "text: \u{e4}").unwrap();
    assert_eq!(client.read_text("data/x").unwrap(), "text: \u{e4}");
    client.write("data/x", b"no text: \xff").unwrap();
    assert_eq!(client.read_text("data/x").unwrap(), "no text: \u{fffd}");
}

pub(crate) fn a_walk_finds_all_below(bed: &Bed) {
    let mut client = bed.client();
    let mut expected = vec![("data/w".to_owned(), Vec::new())];
    for n in 100..250 {
        client
            .write(format!("data/w/{n}/below"), n.to_string())
            .unwrap();
        expected.push((format!("data/w/{n}"), Vec::new()));
        expected.push((format!("data/w/{n}/below"), n.to_string().into_bytes()));
    }
    let mut found = client.walk("data/w").unwrap();
    assert_eq!(
        found
            .drain(..)
            .map(|(path, value)| (path.to_string(), value))
            .collect::<Vec<_>>(),
        expected
    );
    let within = client
        .transaction(|transaction| transaction.walk("data/w"))
        .unwrap();
    assert_eq!(within.len(), expected.len());
}

pub(crate) fn a_walk_of_nothing_is_enoent(bed: &Bed) {
    let mut client = bed.client();
    client.mkdir("data").unwrap();
    assert_eq!(refusal(client.walk("data/nothing")), "ENOENT");
}
