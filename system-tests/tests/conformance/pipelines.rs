//! Pipelines of many requests.

use xenstore::{Nodes, Request};

use crate::testbed::{Testbed, refusal};

pub(crate) fn pipeline_replies_keep_their_order(testbed: &Testbed) {
    let mut client = testbed.client();
    let path = |n: usize| format!("data/{n}");
    let value = |n: usize| format!("value {n}");
    let writes = client
        .pipeline((0..100).map(|n| Request::write(path(n), value(n)).unwrap()))
        .unwrap();
    assert_eq!(writes.len(), 100);
    for reply in writes {
        reply.unwrap();
    }
    let reads = client
        .pipeline((0..100).map(|n| Request::read(path(n)).unwrap()))
        .unwrap();
    let reads: Vec<_> = reads
        .into_iter()
        .map(|reply| String::from_utf8(reply.unwrap()).unwrap())
        .collect();
    assert_eq!(reads, (0..100).map(value).collect::<Vec<_>>());
}

pub(crate) fn refused_request_does_not_affect_the_rest_of_a_pipeline(testbed: &Testbed) {
    let mut client = testbed.client();
    let replies = client
        .pipeline([
            Request::write("data/x", "1").unwrap().untyped(),
            Request::read("data/nothing").unwrap(),
            Request::remove("data/nothing/below").unwrap().untyped(),
            Request::write("data/y", "2").unwrap().untyped(),
            Request::read("data/x").unwrap(),
        ])
        .unwrap();
    let mut replies = replies.into_iter();
    let mut next = || replies.next().unwrap();
    next().unwrap();
    assert_eq!(refusal(next()), "ENOENT");
    assert_eq!(refusal(next()), "ENOENT");
    next().unwrap();
    assert_eq!(next().unwrap(), b"1");
    assert_eq!(client.read("data/y").unwrap(), b"2");
}

pub(crate) fn large_replies_are_complete(testbed: &Testbed) {
    let mut client = testbed.client();
    let value = |n: usize| vec![b'a' + u8::try_from(n % 26).unwrap(); 1900];
    let path = |n: usize| format!("data/{n}");
    for reply in client
        .pipeline((0..100).map(|n| Request::write(path(n), value(n)).unwrap()))
        .unwrap()
    {
        reply.unwrap();
    }
    let reads = client
        .pipeline((0..100).map(|n| Request::read(path(n)).unwrap()))
        .unwrap();
    for (n, read) in reads.into_iter().enumerate() {
        assert_eq!(read.unwrap(), value(n), "{n}");
    }
}

pub(crate) fn concurrent_clients_get_their_own_replies(testbed: &Testbed) {
    std::thread::scope(|scope| {
        for id in 0..4 {
            let mut client = testbed.client();
            scope.spawn(move || {
                for round in 0..20 {
                    let path = |n: usize| format!("data/{id}/{n}");
                    let value = |n: usize| format!("{id} {round} {n}");
                    let both = |n| {
                        [
                            Request::write(path(n), value(n)).unwrap().untyped(),
                            Request::read(path(n)).unwrap(),
                        ]
                    };
                    let replies = client.pipeline((0..20).flat_map(both)).unwrap();
                    for (n, reply) in replies.into_iter().skip(1).step_by(2).enumerate() {
                        assert_eq!(String::from_utf8(reply.unwrap()).unwrap(), value(n));
                    }
                }
            });
        }
    });
}
