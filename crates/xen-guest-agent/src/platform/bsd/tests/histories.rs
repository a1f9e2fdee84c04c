//! Histories: the operations on a running kernel, its messages, and its lists in between.

use std::collections::{BTreeMap, BTreeSet};

use super::super::link_list::Link;
use super::super::message::Message;
use super::capture::{
    Capture, FREEBSD_12, FREEBSD_13, NETBSD, OPENBSD, Record, SYSTEMS, lines, shown,
};

/// Poll that finds the effect of an operation without a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finder {
    /// Nothing, because the operation changes nothing that the agent publishes.
    NoEffect,
    /// The full poll every ten minutes.
    FullPoll,
}

/// Successful operations without a message about an interface or an address, by the start of their
/// name.
const SILENT: &[(&str, Finder)] = &[
    // Hardware addresses.
    ("SIOCSIFLLADDR", Finder::FullPoll),
    // How interfaces are stacked. A VLAN takes the hardware address of its parent.
    ("SIOCSETVLAN", Finder::FullPoll),
    ("SIOCSIFPARENT", Finder::FullPoll),
    ("-laggport", Finder::FullPoll),
    ("bridge add", Finder::FullPoll),
    ("bridge delete", Finder::FullPoll),
    // States of addresses: the preferred lifetime changes, or DAD starts again.
    (
        "SIOCAIFADDR_IN6 epair0a 2001:db8::1/64 again",
        Finder::FullPoll,
    ),
    (
        "SIOCAIFADDR_IN6 pair0 2001:db8::1/64 again",
        Finder::FullPoll,
    ),
    ("SIOCSIFINFO_FLAGS", Finder::FullPoll),
    // The name stays the same.
    ("ifconfig name wan0 wan0", Finder::NoEffect),
    // Settings that the agent does not publish.
    ("SIOCSIFMTU shmif0", Finder::NoEffect),
    ("SIOCSIFMETRIC", Finder::NoEffect),
    ("SIOCSIFDESCR", Finder::NoEffect),
    ("SIOCSLINKSTR", Finder::NoEffect),
    ("SIOCSVH carp0", Finder::NoEffect),
    ("SIOCSVNETID", Finder::NoEffect),
    ("SIOCSIFRDOMAIN", Finder::NoEffect),
    ("ifconfig group", Finder::NoEffect),
    ("ifconfig -group", Finder::NoEffect),
    ("ifconfig wan0 promisc", Finder::NoEffect),
    ("ifconfig wan0 -promisc", Finder::NoEffect),
    ("ifconfig wan0 arp", Finder::NoEffect),
    ("ifconfig wan0 -arp", Finder::NoEffect),
    ("IP_DROP_MEMBERSHIP", Finder::NoEffect),
    ("route write", Finder::NoEffect),
    // The interface was up before.
    ("ifconfig lo0 up", Finder::NoEffect),
    ("ifconfig pair1 up", Finder::NoEffect),
];

/// An operation, and whether it succeeded.
struct Operation {
    name: String,
    succeeded: bool,
    messages: String,
}

/// Returns the operations of the main program, and of the one in a jail if `with_jail`.
fn operations(name: &str, with_jail: bool) -> Vec<Operation> {
    let lines = lines(name, "summary.txt");
    let pairs = lines.chunks_exact(2);
    let operation =
        |line: &String| line.starts_with("OP\t") || with_jail && line.starts_with("JAIL:OP\t");
    pairs
        .filter(|pair| operation(&pair[0]))
        .map(|pair| {
            let mut fields = pair[0].split('\t').skip(1);
            Operation {
                name: fields.next().unwrap().to_owned(),
                succeeded: !fields.next().is_some_and(|result| result.starts_with('-')),
                messages: pair[1].clone(),
            }
        })
        .collect()
}

#[test]
fn operation_without_a_message_is_known_to_be_silent() {
    let mut used = BTreeSet::new();
    let mut counts = BTreeMap::<_, [usize; 2]>::new();
    let mut count = |name, succeeded| counts.entry(name).or_default()[usize::from(succeeded)] += 1;
    for name in SYSTEMS {
        for operation in operations(name, true) {
            count(name, operation.succeeded);
            let reports = ["IFINFO ", "ADDR ", "ANNOUNCE ", "CHGADDRATTR "];
            let messages = operation.messages.as_str();
            let is_reported = reports.iter().any(|report| messages.contains(report));
            if is_reported || !operation.succeeded {
                continue;
            }
            let silent = SILENT
                .iter()
                .find(|(start, _)| operation.name.starts_with(start));
            let silent = silent.unwrap_or_else(|| panic!("{name}: {} is silent", operation.name));
            used.insert(silent.0);
        }
    }
    let unused: Vec<_> = SILENT
        .iter()
        .filter(|(start, _)| !used.contains(start))
        .collect();
    assert!(unused.is_empty(), "{unused:?}");
    // Numbers of failed and successful operations.
    let expected = [
        (FREEBSD_12, [11, 133]),
        (FREEBSD_13, [12, 132]),
        (NETBSD, [8, 46]),
        (OPENBSD, [9, 80]),
    ];
    assert_eq!(counts, expected.into());
}

/// An interface whose entry in the next list differs, without a message with its index in between.
fn unreported(capture: &Capture) -> (usize, BTreeSet<String>) {
    let mut unreported = BTreeSet::new();
    let mut steps = 0;
    let mut last: BTreeMap<String, (usize, BTreeMap<u32, Link>)> = BTreeMap::new();
    for (end, list) in capture.lists() {
        // The other lists lack some interfaces or addresses.
        if list.label.contains('=') {
            continue;
        }
        let links: BTreeMap<_, _> = list
            .links
            .into_iter()
            .map(|link| (link.index, link))
            .collect();
        if let Some((start, before)) = last.get(&list.context) {
            steps += 1;
            let between = &capture.records[*start..end];
            let reported = reported(between, &list.context);
            let indices: BTreeSet<_> = before.keys().chain(links.keys()).collect();
            for index in indices {
                let [before, after] = [before, &links].map(|links| links.get(index).map(shown));
                if before != after && !reported.contains(index) {
                    let show = |line: Option<String>| line.unwrap_or_default();
                    unreported.insert(format!("{} => {}", show(before), show(after)));
                }
            }
        }
        last.insert(list.context, (end, links));
    }
    (steps, unreported)
}

/// Returns the indices in the events that make the agent read the interfaces.
fn reported(records: &[Record], context: &str) -> BTreeSet<u32> {
    let events = records
        .iter()
        .filter(|record| record.is_event() && record.context == context);
    let messages = events.map(|record| Message::split(&record.bytes, &record.layout).unwrap().0);
    let messages = messages.filter(|message| message.kind.may_change_interfaces());
    messages.map(|message| message.index).collect()
}

/// Replays each history from list to list.
#[test]
fn change_of_an_interface_is_reported() {
    for (name, steps) in [
        (FREEBSD_12, 29),
        (FREEBSD_13, 29),
        (NETBSD, 6),
        (OPENBSD, 7),
    ] {
        let (replayed, unreported) = unreported(Capture::read(name));
        assert_eq!(unreported, BTreeSet::new(), "{name}");
        assert_eq!(replayed, steps, "{name}");
    }
}

/// Addresses by interface name, as the operations leave them.
#[derive(Default)]
struct Expected(BTreeMap<String, BTreeMap<String, u8>>);

impl Expected {
    fn apply(&mut self, operation: &Operation) {
        if !operation.succeeded {
            return;
        }
        let words: Vec<&str> = operation
            .name
            .split(' ')
            .filter(|word| *word != "alias")
            .collect();
        match words[..] {
            ["SIOCAIFADDR" | "SIOCAIFADDR_IN6", interface, address, ..]
                if address.contains(['.', ':']) =>
            {
                // This one expires before the next list.
                if operation.name.contains("vltime 6") {
                    return;
                }
                let prefix = words.iter().find_map(|word| word.split_once('/'));
                let prefix = prefix.map_or(32, |(_, prefix)| prefix.parse().unwrap());
                let address = address.split('/').next().unwrap();
                let addresses = self.0.entry(interface.to_owned()).or_default();
                addresses.insert(address.to_owned(), prefix);
            }
            ["SIOCDIFADDR" | "SIOCDIFADDR_IN6", interface, address] => {
                if let Some(addresses) = self.0.get_mut(interface) {
                    addresses.remove(address);
                    // The operation of the program of i386 names no address.
                    if address == "32bit" {
                        addresses.clear();
                    }
                }
            }
            ["ifconfig", "name", old, new] => {
                let addresses = self.0.remove(old).unwrap_or_default();
                self.0.insert(new.to_owned(), addresses);
            }
            ["ifconfig", "destroy", interface] => {
                self.0.remove(interface);
                if interface == "epair0a" {
                    self.0.remove("epair0b");
                }
            }
            ["close", device] => {
                self.0.remove(device.trim_start_matches("/dev/"));
            }
            _ => {}
        }
    }

    fn lines(&self) -> BTreeSet<String> {
        let all = self.0.iter().flat_map(|(interface, addresses)| {
            let addresses = addresses.iter().filter(|(ip, _)| !ip.starts_with("fe80:"));
            addresses.map(move |(ip, prefix)| format!("{interface} {ip}/{prefix}"))
        });
        all.collect()
    }
}

fn lines_of(links: &[Link]) -> BTreeSet<String> {
    let all = links.iter().flat_map(|link| {
        let addresses = link.addresses.iter().filter(|address| {
            let ip = address.ip.to_string();
            !ip.starts_with("fe80:") && ip != "::1"
        });
        addresses.map(|address| {
            format!(
                "{} {}/{}",
                link.name.to_string_lossy(),
                address.ip,
                address.prefix
            )
        })
    });
    all.collect()
}

/// Applies the operations to a model, and compares it with each list. An address that the kernel
/// adds by itself is left out.
#[test]
fn lists_have_the_addresses_that_the_operations_left() {
    let mut compared = BTreeMap::new();
    for capture in Capture::all() {
        let operations = operations(capture.name, false);
        let mut operations = operations.iter().peekable();
        let mut expected = Expected::default();
        let mut last = String::new();
        let mut position = 0;
        for (end, list) in capture.lists() {
            for record in &capture.records[position..end] {
                let label = record.label.split(" ->").next().unwrap();
                let is_new = record.source.starts_with("socket") && last != label;
                let known = operations.clone().any(|operation| operation.name == label);
                if record.context != "vnet-jail" && is_new && known {
                    for operation in operations.by_ref() {
                        expected.apply(operation);
                        if operation.name == label {
                            break;
                        }
                    }
                    label.clone_into(&mut last);
                }
            }
            position = end;
            if list.context == "vnet-jail" || list.label.contains('=') {
                continue;
            }
            let mut found = lines_of(&list.links);
            // The rump kernel of NetBSD has this address from the start.
            if capture.name == NETBSD {
                found.remove("lo0 127.0.0.1/8");
                expected.0.remove("lo0");
            }
            assert_eq!(found, expected.lines(), "{} {}", capture.name, list.label);
            *compared.entry(capture.name).or_insert(0) += 1;
        }
    }
    assert_eq!(
        compared,
        [
            (FREEBSD_12, 26),
            (FREEBSD_13, 26),
            (NETBSD, 7),
            (OPENBSD, 8)
        ]
        .into()
    );
}
