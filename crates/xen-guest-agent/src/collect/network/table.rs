//! What a sequence of messages about links and addresses makes of the interfaces: no system calls here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::vif::VifNumbers;
use crate::guest::{Address, Device, Interface, Mac};

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A link is there, or changed.
    Link { index: u32, link: Link },
    /// A link is gone, or of no interest (loopback).
    NoLink { index: u32 },
    /// A link has an address, or that changed.
    Address { index: u32, address: Address },
    /// A link has an address no more; with another peer, it may have it still.
    NoAddress {
        index: u32,
        ip: IpAddr,
        prefix: u8,
        has_peer: bool,
    },
}

/// What a message tells of a link: all of it, each time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) mac: Option<Mac>,
    pub(super) permanent_mac: Option<Mac>,
    pub(super) is_up: bool,
    pub(super) master: Option<u32>,
    pub(super) parent: Option<u32>,
}

/// Applies messages to the interfaces of a guest.
#[derive(Debug)]
pub(super) struct Table {
    numbers: VifNumbers,
    /// Addresses of links that are not known: they may come first, and some come after the link's end.
    early: BTreeMap<u32, Vec<Address>>,
    /// What a dump that is under way has told of.
    seen: Option<Seen>,
    /// Whether only a dump can tell what is so.
    is_doubtful: bool,
}

#[derive(Debug, Default)]
struct Seen {
    links: BTreeSet<u32>,
    addresses: BTreeSet<(u32, IpAddr, u8)>,
}

impl Table {
    pub(super) fn new(numbers: VifNumbers) -> Self {
        Table {
            numbers,
            early: BTreeMap::new(),
            seen: None,
            is_doubtful: false,
        }
    }

    /// Whether only a dump can tell what is so. Asking takes it back.
    pub(super) fn take_doubt(&mut self) -> bool {
        std::mem::take(&mut self.is_doubtful)
    }

    /// A dump of everything begins.
    pub(super) fn begin(&mut self) {
        self.seen = Some(Seen::default());
    }

    /// The dump does not come to its end.
    pub(super) fn give_up(&mut self) {
        self.seen = None;
    }

    /// The dump has ended: what it did not tell of is gone. Whether that changed something.
    pub(super) fn end(&mut self, interfaces: &mut BTreeMap<u32, Interface>) -> bool {
        let Some(seen) = self.seen.take() else {
            return false;
        };
        let is_seen = |index: u32, address: &Address| {
            seen.addresses
                .contains(&(index, address.ip, address.prefix))
        };
        let mut changed = false;
        interfaces.retain(|index, interface| {
            let before = interface.addresses.len();
            interface
                .addresses
                .retain(|address| is_seen(*index, address));
            changed |= interface.addresses.len() != before || !seen.links.contains(index);
            seen.links.contains(index)
        });
        self.early.clear();
        changed
    }

    /// Applies one message. Whether it changed something.
    pub(super) fn apply(
        &mut self,
        message: Message,
        interfaces: &mut BTreeMap<u32, Interface>,
    ) -> bool {
        match message {
            Message::Link { index, link } => {
                let mut is_same = true;
                if let Some(seen) = &mut self.seen {
                    // A dump comes after a loss: another link may have the index by now.
                    is_same = !seen.links.insert(index);
                    // The dump tells of addresses after links: these belonged to the other one, or came with this one.
                    self.is_doubtful |=
                        !is_same && seen.addresses.iter().any(|(known, _, _)| *known == index);
                }
                self.link(index, link, is_same, interfaces)
            }
            Message::NoLink { index } => {
                self.early.remove(&index);
                interfaces.remove(&index).is_some()
            }
            Message::Address { index, address } => {
                if let Some(seen) = &mut self.seen {
                    seen.addresses.insert((index, address.ip, address.prefix));
                }
                match interfaces.get_mut(&index) {
                    Some(interface) => put(&mut interface.addresses, address),
                    None => {
                        put(self.early.entry(index).or_default(), address);
                        false
                    }
                }
            }
            Message::NoAddress {
                index,
                ip,
                prefix,
                has_peer,
            } => {
                self.is_doubtful |= has_peer;
                if let Some(seen) = &mut self.seen {
                    seen.addresses.remove(&(index, ip, prefix));
                }
                let interface = interfaces
                    .get_mut(&index)
                    .map(|interface| &mut interface.addresses);
                let is_shown = interface.is_some();
                let Some(addresses) = interface.or_else(|| self.early.get_mut(&index)) else {
                    return false;
                };
                let before = addresses.len();
                addresses.retain(|address| (address.ip, address.prefix) != (ip, prefix));
                is_shown && addresses.len() != before
            }
        }
    }

    fn link(
        &mut self,
        index: u32,
        link: Link,
        is_same: bool,
        interfaces: &mut BTreeMap<u32, Interface>,
    ) -> bool {
        let Link {
            name,
            mac,
            mut permanent_mac,
            is_up,
            master,
            parent,
        } = link;
        let known = interfaces.get(&index).filter(|_| is_same);
        let device = match known {
            Some(known) if known.device != Device::Virtual && known.name == name => known.device,
            // A message may be older than the interface's name: then sysfs knows nothing of it.
            _ => match (self.numbers.device(index, &name), known) {
                (Device::Virtual, Some(known)) => known.device,
                (device, _) => device,
            },
        };
        if permanent_mac.is_none() && master.is_some() && device == Device::Physical {
            permanent_mac = self.numbers.permanent_mac(&name);
        }
        let mut interface = Interface {
            name,
            mac,
            permanent_mac,
            is_up,
            device,
            master,
            parent,
            addresses: Vec::new(),
        };
        match interfaces.get_mut(&index) {
            Some(known) => {
                let addresses = std::mem::take(&mut known.addresses);
                let changed = *known != interface;
                *known = interface;
                known.addresses = addresses;
                changed
            }
            None => {
                interface.addresses = self.early.remove(&index).unwrap_or_default();
                // They came before it, or belonged to a link that had the index before it.
                self.is_doubtful |= !interface.addresses.is_empty();
                interfaces.insert(index, interface);
                true
            }
        }
    }
}

/// Keeps the place of an address that is there already: the order is the kernel's.
fn put(addresses: &mut Vec<Address>, address: Address) -> bool {
    match addresses
        .iter_mut()
        .find(|old| (old.ip, old.prefix) == (address.ip, address.prefix))
    {
        Some(old) => std::mem::replace(old, address) != address,
        None => {
            addresses.push(address);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, is_up: bool) -> Message {
        Message::Link {
            index,
            link: Link {
                name: name.to_owned(),
                is_up,
                ..Link::default()
            },
        }
    }

    fn address(index: u32, ip: &str, prefix: u8) -> Message {
        let ip = ip.parse().unwrap();
        Message::Address {
            index,
            address: Address {
                ip,
                prefix,
                is_secondary: false,
                is_temporary: false,
                is_deprecated: false,
                is_usable: true,
            },
        }
    }

    fn no_address(index: u32, ip: &str, prefix: u8) -> Message {
        Message::NoAddress {
            index,
            ip: ip.parse().unwrap(),
            prefix,
            has_peer: false,
        }
    }

    /// Applies the messages and gives what each changed, and the interfaces as text.
    fn run(
        table: &mut Table,
        interfaces: &mut BTreeMap<u32, Interface>,
        messages: &[Message],
    ) -> (Vec<bool>, String) {
        let changed = messages
            .iter()
            .map(|message| table.apply(message.clone(), interfaces))
            .collect();
        (changed, shown(interfaces))
    }

    fn shown(interfaces: &BTreeMap<u32, Interface>) -> String {
        let one = |(index, interface): (&u32, &Interface)| {
            let ips: Vec<_> = interface
                .addresses
                .iter()
                .map(|a| format!("{}/{}", a.ip, a.prefix))
                .collect();
            format!(
                "{index}:{}{}[{}]",
                interface.name,
                if interface.is_up { "+" } else { "-" },
                ips.join(" ")
            )
        };
        interfaces.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn fresh() -> (Table, BTreeMap<u32, Interface>) {
        (Table::new(VifNumbers::Index), BTreeMap::new())
    }

    #[test]
    fn messages_in_any_order() {
        let cases: [(&[Message], &str); 8] = [
            (
                &[link(2, "eth0", true), address(2, "10.0.0.1", 24)],
                "2:eth0+[10.0.0.1/24]",
            ),
            (
                &[address(2, "10.0.0.1", 24), link(2, "eth0", true)],
                "2:eth0+[10.0.0.1/24]",
            ),
            (
                &[link(2, "eth0", false), link(2, "eth0", true)],
                "2:eth0+[]",
            ),
            (&[link(2, "eth0", true), link(2, "lan", true)], "2:lan+[]"),
            (
                &[
                    link(2, "a", true),
                    address(2, "10.0.0.1", 24),
                    Message::NoLink { index: 2 },
                    link(2, "b", true),
                ],
                "2:b+[]",
            ),
            (
                &[
                    link(2, "a", true),
                    Message::NoLink { index: 2 },
                    address(2, "10.0.0.1", 24),
                ],
                "",
            ),
            (
                &[
                    link(2, "a", true),
                    address(2, "10.0.0.1", 24),
                    address(2, "10.0.0.1", 8),
                    no_address(2, "10.0.0.1", 24),
                ],
                "2:a+[10.0.0.1/8]",
            ),
            (
                &[
                    link(2, "a", true),
                    address(2, "10.0.0.9", 24),
                    address(2, "10.0.0.1", 24),
                    address(2, "10.0.0.9", 24),
                ],
                "2:a+[10.0.0.9/24 10.0.0.1/24]",
            ),
        ];
        for (messages, expected) in cases {
            let (mut table, mut interfaces) = fresh();
            assert_eq!(
                run(&mut table, &mut interfaces, messages).1,
                expected,
                "{messages:?}"
            );
        }
    }

    #[test]
    fn what_changes_nothing_says_so() {
        let (mut table, mut interfaces) = fresh();
        let messages = [link(2, "a", true), address(2, "10.0.0.1", 24)];
        assert_eq!(run(&mut table, &mut interfaces, &messages).0, [true, true]);
        assert_eq!(
            run(&mut table, &mut interfaces, &messages).0,
            [false, false]
        );
        assert_eq!(
            run(
                &mut table,
                &mut interfaces,
                &[no_address(2, "10.0.0.1", 16)]
            )
            .0,
            [false]
        );
    }

    #[test]
    fn a_dump_tells_what_is_gone() {
        let (mut table, mut interfaces) = fresh();
        let all = [
            link(2, "a", true),
            address(2, "10.0.0.1", 24),
            address(2, "10.0.0.2", 24),
            link(3, "b", true),
        ];
        run(&mut table, &mut interfaces, &all);
        table.begin();
        run(&mut table, &mut interfaces, &all);
        assert!(!table.end(&mut interfaces));
        table.begin();
        // The last one comes as an event in the middle of the dump.
        let events = [
            link(2, "a", true),
            address(2, "10.0.0.2", 24),
            no_address(2, "10.0.0.2", 24),
            link(4, "c", true),
        ];
        run(&mut table, &mut interfaces, &events);
        assert!(table.end(&mut interfaces));
        assert_eq!(shown(&interfaces), "2:a+[] 4:c+[]");
    }
}

/// Random histories of a kernel, and what the table makes of its messages, some of which are lost.
#[cfg(test)]
mod properties {
    use super::*;
    use proptest::prelude::*;

    /// What happens in the kernel, or to its messages.
    #[derive(Clone, Debug)]
    enum Event {
        /// A link is made, or changes: index, name, whether it is up, master.
        Link(u32, u8, bool, Option<u32>),
        NoLink(u32),
        Address(u32, u8, u8, bool),
        NoAddress(u32, u8, u8),
        /// An address of a link that is there comes before the link's own message, or after its end.
        Stale(u32, u8),
        /// The reader's buffer is full for so many messages.
        Loss(u8),
    }

    fn event() -> impl Strategy<Value = Event> {
        let index = 2u32..5;
        prop_oneof![
            4 => (index.clone(), 0u8..3, any::<bool>(), prop::option::of(2u32..5))
                .prop_map(|(index, name, is_up, master)| Event::Link(index, name, is_up, master)),
            1 => index.clone().prop_map(Event::NoLink),
            4 => (index.clone(), 0u8..3, 0u8..3, any::<bool>())
                .prop_map(|(index, ip, prefix, is_usable)| Event::Address(index, ip, prefix, is_usable)),
            2 => (index.clone(), 0u8..3, 0u8..3).prop_map(|(index, ip, prefix)| Event::NoAddress(index, ip, prefix)),
            1 => (index, 0u8..3).prop_map(|(index, ip)| Event::Stale(index, ip)),
            1 => (1u8..5).prop_map(Event::Loss),
        ]
    }

    /// Addresses with their prefixes, and whether they are usable.
    type Addresses = BTreeMap<(IpAddr, u8), bool>;

    /// Name, whether it is up, master, addresses.
    type Shown = BTreeMap<u32, (String, bool, Option<u32>, Addresses)>;

    /// The kernel's links and addresses, and what it tells of its changes.
    #[derive(Default)]
    struct Kernel {
        links: BTreeMap<u32, (Link, Addresses)>,
        told: Vec<Message>,
    }

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn told_address(index: u32, (ip, prefix): (IpAddr, u8), is_usable: bool) -> Message {
        Message::Address {
            index,
            address: Address {
                ip,
                prefix,
                is_secondary: false,
                is_temporary: false,
                is_deprecated: false,
                is_usable,
            },
        }
    }

    impl Kernel {
        fn apply(&mut self, event: &Event) {
            match *event {
                Event::Link(index, name, is_up, master) => {
                    let link = Link {
                        name: name.to_string(),
                        is_up,
                        master,
                        ..Link::default()
                    };
                    self.told.push(Message::Link {
                        index,
                        link: link.clone(),
                    });
                    self.links.entry(index).or_default().0 = link;
                }
                Event::NoLink(index) => {
                    if let Some((_, addresses)) = self.links.remove(&index) {
                        let gone = addresses.keys().map(|(ip, prefix)| (*ip, *prefix));
                        self.told
                            .extend(gone.map(|(ip, prefix)| Message::NoAddress {
                                index,
                                ip,
                                prefix,
                                has_peer: false,
                            }));
                        self.told.push(Message::NoLink { index });
                    }
                }
                Event::Address(index, last, prefix, is_usable) => {
                    if let Some((_, addresses)) = self.links.get_mut(&index) {
                        addresses.insert((ip(last), prefix), is_usable);
                        self.told
                            .push(told_address(index, (ip(last), prefix), is_usable));
                    }
                }
                Event::NoAddress(index, last, prefix) => {
                    if let Some((_, addresses)) = self.links.get_mut(&index) {
                        if addresses.remove(&(ip(last), prefix)).is_some() {
                            self.told.push(Message::NoAddress {
                                index,
                                ip: ip(last),
                                prefix,
                                has_peer: false,
                            });
                        }
                    }
                }
                Event::Stale(index, last) => {
                    if !self.links.contains_key(&index) {
                        self.told.push(told_address(index, (ip(last), 24), true));
                    }
                }
                Event::Loss(_) => {}
            }
        }

        fn links(&self) -> Vec<Message> {
            self.links
                .iter()
                .map(|(index, (link, _))| Message::Link {
                    index: *index,
                    link: link.clone(),
                })
                .collect()
        }

        fn addresses(&self) -> Vec<Message> {
            let of = |(index, (_, addresses)): (&u32, &(Link, Addresses))| {
                let index = *index;
                addresses
                    .clone()
                    .into_iter()
                    .map(move |(key, is_usable)| told_address(index, key, is_usable))
            };
            self.links.iter().flat_map(of).collect()
        }

        /// As the table should have it, but for the order of addresses.
        fn shown(&self) -> Shown {
            let one = |(index, (link, addresses)): (&u32, &(Link, Addresses))| {
                (
                    *index,
                    (
                        link.name.clone(),
                        link.is_up,
                        link.master,
                        addresses.clone(),
                    ),
                )
            };
            self.links.iter().map(one).collect()
        }
    }

    fn shown(interfaces: &BTreeMap<u32, Interface>) -> Shown {
        let one = |(index, interface): (&u32, &Interface)| {
            let addresses = interface
                .addresses
                .iter()
                .map(|a| ((a.ip, a.prefix), a.is_usable))
                .collect();
            (
                *index,
                (
                    interface.name.clone(),
                    interface.is_up,
                    interface.master,
                    addresses,
                ),
            )
        };
        interfaces.iter().map(one).collect()
    }

    /// A dump, links first, and what happens `meanwhile`.
    fn dump(
        kernel: &mut Kernel,
        meanwhile: &[Event],
        table: &mut Table,
        interfaces: &mut BTreeMap<u32, Interface>,
    ) {
        table.begin();
        let mut messages = kernel.links();
        for event in meanwhile {
            kernel.apply(event);
        }
        messages.append(&mut kernel.told);
        messages.extend(kernel.addresses());
        for message in messages {
            table.apply(message, interfaces);
        }
        table.end(interfaces);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn the_table_is_the_kernel_s_in_the_end(
            history in prop::collection::vec(event(), 0..60),
            // What happens between a dump's two halves.
            meanwhile in prop::collection::vec(event(), 0..4),
        ) {
            let (mut kernel, mut table, mut interfaces) = (Kernel::default(), Table::new(VifNumbers::Index), BTreeMap::new());
            let (mut to_lose, mut is_lost) = (0, false);
            let mut before = shown(&interfaces);
            // One dump more than there are events: the last is for what was lost at the end.
            for event in history.iter().map(Some).chain([None]) {
                if let Some(event) = event {
                    kernel.apply(event);
                }
                if let Some(Event::Loss(count)) = event {
                    to_lose = *count;
                }
                for message in std::mem::take(&mut kernel.told) {
                    if to_lose > 0 {
                        (to_lose, is_lost) = (to_lose - 1, true);
                    } else {
                        let changed = table.apply(message.clone(), &mut interfaces);
                        let now = shown(&interfaces);
                        prop_assert_eq!(changed, now != before, "{:?}", message);
                        before = now;
                    }
                }
                // As the socket does: it notices a loss when it has read all else, and asks for links, then addresses.
                is_lost |= table.take_doubt();
                if is_lost && (to_lose == 0 || event.is_none()) {
                    dump(&mut kernel, &meanwhile, &mut table, &mut interfaces);
                    is_lost = table.take_doubt();
                    before = shown(&interfaces);
                }
                if !is_lost {
                    prop_assert_eq!(shown(&interfaces), kernel.shown(), "after {:?}", event);
                }
            }
            // Once nothing happens any more, one dump is enough.
            if is_lost {
                dump(&mut kernel, &[], &mut table, &mut interfaces);
            }
            prop_assert_eq!(shown(&interfaces), kernel.shown());
        }
    }
}
