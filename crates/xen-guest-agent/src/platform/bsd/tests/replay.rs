//! Recorded messages through the monitor of links and addresses.

use std::cell::{Cell, RefCell};
use std::os::unix::net::UnixDatagram;

use super::super::layout::Layout;
use super::super::link_list::Link;
use super::super::snapshot::Snapshot;
use super::addresses::Known;
use super::capture::{Capture, FREEBSD_12, FREEBSD_13, List, NETBSD, OPENBSD, Record};
use crate::guest::Interfaces;
use crate::platform::LinkMonitor as _;
use crate::platform::routing_socket::RoutingSocket;

/// Messages and lists of all interfaces that one program saw.
struct History<'a> {
    layout: &'static Layout,
    /// Messages before each list, and the list.
    steps: Vec<(Vec<&'a Record>, List)>,
}

impl<'a> History<'a> {
    fn read(capture: &'a Capture, context: &str) -> Self {
        let mut start = 0;
        let mut steps = Vec::new();
        for (end, list) in capture.lists() {
            // The other lists lack some interfaces or addresses.
            if list.context != context || list.label.contains('=') {
                continue;
            }
            let events = capture.records[start..end].iter();
            let events = events.filter(|record| record.is_event() && record.context == context);
            steps.push((events.collect(), list));
            start = end;
        }
        let layout = match capture.name {
            NETBSD => &Layout::NETBSD,
            OPENBSD => &Layout::OPENBSD,
            _ => &Layout::FREEBSD,
        };
        History { layout, steps }
    }
}

/// The kernel has the next list as soon as the first message before it arrives. The monitor must
/// have it at the end. Returns the numbers of messages and of lists that the monitor read.
fn replay(history: &History<'_>) -> (usize, usize) {
    let current: RefCell<Vec<Link>> = RefCell::default();
    let snapshots = Cell::new(0);
    let read = || {
        snapshots.set(snapshots.get() + 1);
        Ok(Snapshot::new(
            current.borrow().clone(),
            &mut Known::default(),
        ))
    };
    let (ours, kernel) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut monitor = RoutingSocket::new(ours.into(), history.layout, read);
    let mut interfaces = Interfaces::new();
    let mut messages = 0;

    for (number, (events, list)) in history.steps.iter().enumerate() {
        current.replace(list.links.clone());
        if number == 0 {
            assert!(monitor.on_readable(&mut interfaces).unwrap());
        }
        for event in events {
            kernel.send(&event.bytes).unwrap();
            monitor.on_readable(&mut interfaces).unwrap();
            messages += 1;
        }
        let expected = Snapshot::new(list.links.clone(), &mut Known::default());
        assert_eq!(interfaces, expected.interfaces, "{}", list.label);
    }
    (messages, snapshots.get())
}

#[test]
fn monitor_has_each_list_after_the_messages_before_it() {
    for (name, context, expected) in [
        (FREEBSD_12, "main", (768, 568)),
        (FREEBSD_12, "vnet-jail", (45, 31)),
        (FREEBSD_13, "main", (768, 569)),
        (FREEBSD_13, "vnet-jail", (45, 31)),
        (NETBSD, "main", (156, 103)),
        (OPENBSD, "main", (351, 254)),
    ] {
        let history = History::read(Capture::read(name), context);
        assert_eq!(replay(&history), expected, "{name} {context}");
    }
}

/// A history of FreeBSD in one go, as after a suspension of the process.
#[test]
fn many_messages_make_one_snapshot() {
    let capture = Capture::read(FREEBSD_12);
    let history = History::read(capture, "main");
    let snapshots = Cell::new(0);
    let read = || {
        snapshots.set(snapshots.get() + 1);
        Ok(Snapshot::default())
    };
    let (ours, kernel) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut monitor = RoutingSocket::new(ours.into(), history.layout, read);
    let mut interfaces = Interfaces::new();
    monitor.on_readable(&mut interfaces).unwrap();

    kernel.set_nonblocking(true).unwrap();
    let events = history.steps.iter().flat_map(|(events, _)| events);
    let sent = events.take_while(|event| kernel.send(&event.bytes).is_ok());
    assert!(sent.count() > 5);
    monitor.on_readable(&mut interfaces).unwrap();
    assert_eq!(snapshots.get(), 2);
}
