//! Transactions.

use xenstore::{Error, ErrorCode, Nodes, Permissions, Request, Result};

use crate::client::Client;
use crate::testbed::{Testbed, event_paths, refusal};

pub(crate) fn commit_is_visible_immediately(testbed: &Testbed) {
    let mut client = testbed.client();
    let mut other = testbed.client();
    client.write("data/x", "before").unwrap();
    let returned = client
        .transaction(|transaction| {
            transaction.write("data/x", "after")?;
            transaction.write("data/y", "new")?;
            assert_eq!(other.read("data/x").unwrap(), b"before");
            assert_eq!(refusal(other.read("data/y")), "ENOENT");
            Ok(42)
        })
        .unwrap();
    assert_eq!(returned, 42);
    assert_eq!(other.read("data/x").unwrap(), b"after");
    assert_eq!(other.read("data/y").unwrap(), b"new");
}

pub(crate) fn error_aborts_the_transaction(testbed: &Testbed) {
    let mut client = testbed.client();
    client.write("data/x", "before").unwrap();
    let mut runs = 0;
    let result: Result<()> = client.transaction(|transaction| {
        runs += 1;
        transaction.write("data/x", "after")?;
        transaction.write("data/y", "new")?;
        transaction.read("data/nothing").map(drop)
    });
    assert_eq!(refusal(result), "ENOENT");
    assert_eq!(runs, 1);
    assert_eq!(client.read("data/x").unwrap(), b"before");
    assert_eq!(refusal(client.read("data/y")), "ENOENT");
}

pub(crate) fn transaction_reads_its_own_writes(testbed: &Testbed) {
    let mut client = testbed.client();
    client.write("data/x", "before").unwrap();
    client
        .transaction(|transaction| {
            assert_eq!(transaction.read("data/x")?, b"before");
            transaction.write("data/x", "after")?;
            assert_eq!(transaction.read("data/x")?, b"after");
            transaction.write("data/x/y", "below")?;
            assert_eq!(transaction.list("data/x")?, ["y"]);
            Ok(())
        })
        .unwrap();
}

pub(crate) fn transaction_is_isolated_from_other_writes(testbed: &Testbed) {
    let mut client = testbed.client();
    let mut other = testbed.client();
    client.write("data/x", "before").unwrap();
    let mut runs = 0;
    client
        .transaction(|transaction| {
            runs += 1;
            let first = transaction.read("data/x")?;
            if runs == 1 {
                other.write("data/x", "meanwhile").unwrap();
            }
            assert_eq!(transaction.read("data/x")?, first);
            Ok(())
        })
        .unwrap();
    assert_eq!(client.read("data/x").unwrap(), b"meanwhile");
}

pub(crate) fn conflict_repeats_the_transaction(testbed: &Testbed) {
    let mut client = testbed.client();
    let mut other = testbed.client();
    client.write("data/count", "1").unwrap();
    let mut runs = 0;
    client
        .transaction(|transaction| {
            runs += 1;
            let count: u32 = String::from_utf8(transaction.read("data/count")?)
                .unwrap()
                .parse()
                .unwrap();
            if runs == 1 {
                other.write("data/count", "10").unwrap();
            }
            transaction.write("data/count", (count + 1).to_string())
        })
        .unwrap();
    assert_eq!(
        (runs, client.read("data/count").unwrap()),
        (2, b"11".to_vec())
    );
}

pub(crate) fn list_mkdir_and_remove_in_a_transaction(testbed: &Testbed) {
    let mut client = testbed.client();
    client.write("data/old/below", "").unwrap();
    client
        .transaction(|transaction| {
            transaction.mkdir("data/new")?;
            transaction.remove("data/old")?;
            assert_eq!(refusal(transaction.read("data/old/below")), "ENOENT");
            let mut names = transaction.list("data")?;
            names.retain(|name| ["new", "old"].contains(&name.as_str()));
            assert_eq!(names, ["new"]);
            Ok(())
        })
        .unwrap();
    assert_eq!(client.read("data/new").unwrap(), b"");
    assert_eq!(refusal(client.read("data/old")), "ENOENT");
}

pub(crate) fn permissions_are_committed(testbed: &Testbed) {
    let mut client = testbed.client();
    let permissions = Permissions::readable_by_all(testbed.domain());
    client
        .transaction(|transaction| {
            transaction.write("data/x", "")?;
            transaction.set_permissions("data/x", &permissions)?;
            assert_eq!(transaction.permissions("data/x")?, permissions);
            Ok(())
        })
        .unwrap();
    assert_eq!(client.permissions("data/x").unwrap(), permissions);
}

pub(crate) fn events_are_sent_at_commit(testbed: &Testbed) {
    let mut client = testbed.client();
    let mut watcher = testbed.client();
    watcher.watch("data/x", "").unwrap();
    watcher.watch("data/y", "").unwrap();
    event_paths(&mut watcher);
    client
        .transaction(|transaction| {
            transaction.write("data/x", "1")?;
            transaction.write("data/y", "1")?;
            assert!(event_paths(&mut watcher).is_empty());
            Ok(())
        })
        .unwrap();
    let mut paths = event_paths(&mut watcher);
    paths.sort();
    assert_eq!(paths, ["data/x", "data/y"]);

    // An aborted transaction causes no events.
    let abandoned: Result<()> = client.transaction(|transaction| {
        transaction.write("data/x", "2")?;
        transaction.read("data/nothing").map(drop)
    });
    assert_eq!(refusal(abandoned), "ENOENT");
    assert!(event_paths(&mut watcher).is_empty());
}

pub(crate) fn empty_transaction(testbed: &Testbed) {
    let mut client = testbed.client();
    client.transaction(|_| Ok(())).unwrap();
    client
        .write("data/x", "the connection still works")
        .unwrap();
}

pub(crate) fn refused_request_in_a_transaction(testbed: &Testbed) {
    let mut client = testbed.client();
    client
        .transaction(|transaction| {
            // A failed request does not abort the transaction.
            assert_eq!(refusal(transaction.read("data/nothing")), "ENOENT");
            if testbed.is_guest() {
                assert_eq!(refusal(transaction.write("name", "new")), "EACCES");
            }
            assert!(matches!(
                transaction.read("data//nothing"),
                Err(Error::InvalidPath(_))
            ));
            transaction.write("data/x", "value")
        })
        .unwrap();
    assert_eq!(client.read("data/x").unwrap(), b"value");
}

pub(crate) fn pipeline_in_a_transaction(testbed: &Testbed) {
    let mut client = testbed.client();
    let mut other = testbed.client();
    client
        .transaction(|transaction| {
            let writes =
                (0..20).map(|n| Request::write(format!("data/{n}"), n.to_string()).unwrap());
            transaction
                .pipeline(writes)?
                .into_iter()
                .collect::<Result<Vec<_>>>()?;
            assert_eq!(refusal(other.read("data/7")), "ENOENT");
            Ok(())
        })
        .unwrap();
    assert_eq!(other.read("data/7").unwrap(), b"7");
}

pub(crate) fn transaction_quota(testbed: &Testbed) {
    /// Nests transactions of different clients. Returns how many could be opened and the error of
    /// the next.
    fn nest(clients: &mut [Client]) -> (usize, Option<ErrorCode>) {
        let Some((client, rest)) = clients.split_first_mut() else {
            return (0, None);
        };
        let nested = client.transaction(|_| Ok(nest(rest)));
        nested.map_or_else(
            |error| (0, error.code().cloned()),
            |(count, code)| (count + 1, code),
        )
    }
    let mut clients: Vec<_> = (0..15).map(|_| testbed.client()).collect();
    let (count, refused) = nest(&mut clients);
    let refused = refused.as_ref().map(ErrorCode::name);

    // The quota is 10. The servers allow one more, or one less.
    let expected = if testbed.is_guest() {
        let count = testbed.by_model(11, 9, 11);
        (count, Some(testbed.either("ENOSPC", "EQUOTA")))
    } else {
        (15, None)
    };
    assert_eq!((count, refused), expected);
}
