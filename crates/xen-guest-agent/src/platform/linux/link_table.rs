//! Applies a sequence of netlink messages to the interfaces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::message::{Link, Message};
use super::sysfs::Sysfs;
use crate::guest::{Address, Device, Interface, Interfaces};

/// Applies messages to the interfaces of a guest.
#[derive(Debug)]
pub(super) struct LinkTable {
    sysfs: Sysfs,
    /// Addresses of unknown links. An address may arrive before its link, or after the link was
    /// removed.
    orphaned: BTreeMap<u32, Vec<Address>>,
    /// Links and addresses that the dump in progress has reported.
    seen: Option<Seen>,
    /// Whether the messages were ambiguous, so that only a dump gives the true state.
    needs_dump: bool,
}

#[derive(Debug, Default)]
struct Seen {
    links: BTreeSet<u32>,
    addresses: BTreeSet<(u32, IpAddr, u8)>,
}

impl LinkTable {
    pub(super) fn new(sysfs: Sysfs) -> Self {
        LinkTable {
            sysfs,
            orphaned: BTreeMap::new(),
            seen: None,
            needs_dump: false,
        }
    }

    /// Whether only a dump gives the true state. Resets the flag.
    pub(super) fn take_needs_dump(&mut self) -> bool {
        std::mem::take(&mut self.needs_dump)
    }

    /// Starts a dump of all links and addresses.
    pub(super) fn begin_dump(&mut self) {
        self.seen = Some(Seen::default());
    }

    /// Ends an incomplete dump.
    pub(super) fn abort_dump(&mut self) {
        self.seen = None;
    }

    /// Ends a complete dump and removes what it did not report. Returns whether the interfaces
    /// changed.
    pub(super) fn end_dump(&mut self, interfaces: &mut Interfaces) -> bool {
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
        self.orphaned.clear();
        changed
    }

    /// Applies a message. Returns whether the interfaces changed.
    pub(super) fn apply(&mut self, message: Message, interfaces: &mut Interfaces) -> bool {
        match message {
            Message::Link { index, link } => {
                let mut is_same = true;
                if let Some(seen) = &mut self.seen {
                    // A dump follows a loss, so another link may have this index by now.
                    is_same = !seen.links.insert(index);
                    // The dump reports addresses after links. These may belong to an earlier link
                    // of this index.
                    self.needs_dump |=
                        !is_same && seen.addresses.iter().any(|(known, _, _)| *known == index);
                }
                self.link(index, link, is_same, interfaces)
            }
            Message::NoLink { index } => {
                self.orphaned.remove(&index);
                interfaces.remove(&index).is_some()
            }
            Message::Address { index, address } => {
                if let Some(seen) = &mut self.seen {
                    seen.addresses.insert((index, address.ip, address.prefix));
                }
                match interfaces.get_mut(&index) {
                    Some(interface) => put(&mut interface.addresses, address),
                    None => {
                        put(self.orphaned.entry(index).or_default(), address);
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
                self.needs_dump |= has_peer;
                if let Some(seen) = &mut self.seen {
                    seen.addresses.remove(&(index, ip, prefix));
                }
                let interface = interfaces
                    .get_mut(&index)
                    .map(|interface| &mut interface.addresses);
                let is_shown = interface.is_some();
                let Some(addresses) = interface.or_else(|| self.orphaned.get_mut(&index)) else {
                    return false;
                };
                let before = addresses.len();
                addresses.retain(|address| (address.ip, address.prefix) != (ip, prefix));
                is_shown && addresses.len() != before
            }
        }
    }

    fn link(&mut self, index: u32, link: Link, is_same: bool, interfaces: &mut Interfaces) -> bool {
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
            // A message may have an older name of the interface, which sysfs no longer has.
            _ => match (self.sysfs.device(&name), known) {
                (Device::Virtual, Some(known)) => known.device,
                (device, _) => device,
            },
        };
        if permanent_mac.is_none() && master.is_some() && device == Device::Physical {
            permanent_mac = self.sysfs.permanent_mac(&name);
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
                interface.addresses = self.orphaned.remove(&index).unwrap_or_default();
                // These addresses may belong to an earlier link of this index.
                self.needs_dump |= !interface.addresses.is_empty();
                interfaces.insert(index, interface);
                true
            }
        }
    }
}

/// Inserts or updates an address. An existing one keeps its position because the order is the
/// kernel's.
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
    use crate::root::Root;

    pub(super) fn no_sysfs() -> Sysfs {
        Sysfs::new(Root::new("/nonexistent"))
    }

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

    /// Applies the messages. Returns whether each changed the interfaces, and the interfaces as
    /// text.
    fn run(
        table: &mut LinkTable,
        interfaces: &mut Interfaces,
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

    fn fresh() -> (LinkTable, Interfaces) {
        (LinkTable::new(no_sysfs()), Interfaces::new())
    }

    #[test]
    fn messages_are_accepted_in_any_order() {
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
    fn apply_returns_whether_interfaces_changed() {
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
    fn end_of_a_dump_removes_unreported_links_and_addresses() {
        let (mut table, mut interfaces) = fresh();
        let all = [
            link(2, "a", true),
            address(2, "10.0.0.1", 24),
            address(2, "10.0.0.2", 24),
            link(3, "b", true),
        ];
        run(&mut table, &mut interfaces, &all);
        table.begin_dump();
        run(&mut table, &mut interfaces, &all);
        assert!(!table.end_dump(&mut interfaces));
        table.begin_dump();
        // The last link is an event that arrives during the dump.
        let events = [
            link(2, "a", true),
            address(2, "10.0.0.2", 24),
            no_address(2, "10.0.0.2", 24),
            link(4, "c", true),
        ];
        run(&mut table, &mut interfaces, &events);
        assert!(table.end_dump(&mut interfaces));
        assert_eq!(shown(&interfaces), "2:a+[] 4:c+[]");
    }
}

/// Random histories of a kernel whose messages are partly lost.
#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::tests::no_sysfs;
    use super::*;

    /// A change in the kernel, or a loss of messages.
    #[derive(Clone, Debug)]
    enum Event {
        /// A link appears or changes: index, name, whether it is up, master.
        Link(u32, u8, bool, Option<u32>),
        NoLink(u32),
        Address(u32, u8, u8, bool),
        NoAddress(u32, u8, u8),
        /// An address arrives before its link, or after the link was removed.
        Stale(u32, u8),
        /// The kernel drops this number of messages because the reader's buffer is full.
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

    /// The kernel's links and addresses, and its messages about changes.
    #[derive(Default)]
    struct Kernel {
        links: BTreeMap<u32, (Link, Addresses)>,
        messages: Vec<Message>,
    }

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn address_message(index: u32, (ip, prefix): (IpAddr, u8), is_usable: bool) -> Message {
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
                    self.messages.push(Message::Link {
                        index,
                        link: link.clone(),
                    });
                    self.links.entry(index).or_default().0 = link;
                }
                Event::NoLink(index) => {
                    if let Some((_, addresses)) = self.links.remove(&index) {
                        let gone = addresses.keys().map(|(ip, prefix)| (*ip, *prefix));
                        self.messages
                            .extend(gone.map(|(ip, prefix)| Message::NoAddress {
                                index,
                                ip,
                                prefix,
                                has_peer: false,
                            }));
                        self.messages.push(Message::NoLink { index });
                    }
                }
                Event::Address(index, last, prefix, is_usable) => {
                    if let Some((_, addresses)) = self.links.get_mut(&index) {
                        addresses.insert((ip(last), prefix), is_usable);
                        self.messages
                            .push(address_message(index, (ip(last), prefix), is_usable));
                    }
                }
                Event::NoAddress(index, last, prefix) => {
                    if let Some((_, addresses)) = self.links.get_mut(&index) {
                        if addresses.remove(&(ip(last), prefix)).is_some() {
                            self.messages.push(Message::NoAddress {
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
                        self.messages
                            .push(address_message(index, (ip(last), 24), true));
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
                    .map(move |(key, is_usable)| address_message(index, key, is_usable))
            };
            self.links.iter().flat_map(of).collect()
        }

        /// Returns the expected interfaces. The order of addresses is not part of it.
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

    /// Makes a dump, links first, during which the events `meanwhile` happen.
    fn dump(
        kernel: &mut Kernel,
        meanwhile: &[Event],
        table: &mut LinkTable,
        interfaces: &mut Interfaces,
    ) {
        table.begin_dump();
        let mut messages = kernel.links();
        for event in meanwhile {
            kernel.apply(event);
        }
        messages.append(&mut kernel.messages);
        messages.extend(kernel.addresses());
        for message in messages {
            table.apply(message, interfaces);
        }
        table.end_dump(interfaces);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn table_converges_to_the_kernels_state(
            history in prop::collection::vec(event(), 0..60),
            // These events happen between the two halves of a dump.
            meanwhile in prop::collection::vec(event(), 0..4),
        ) {
            let (mut kernel, mut table, mut interfaces) = (Kernel::default(), LinkTable::new(no_sysfs()), BTreeMap::new());
            let (mut to_lose, mut is_lost) = (0, false);
            let mut before = shown(&interfaces);
            // One more dump than events covers a loss at the end.
            for event in history.iter().map(Some).chain([None]) {
                if let Some(event) = event {
                    kernel.apply(event);
                }
                if let Some(Event::Loss(count)) = event {
                    to_lose = *count;
                }
                for message in std::mem::take(&mut kernel.messages) {
                    if to_lose > 0 {
                        (to_lose, is_lost) = (to_lose - 1, true);
                    } else {
                        let changed = table.apply(message.clone(), &mut interfaces);
                        let now = shown(&interfaces);
                        prop_assert_eq!(changed, now != before, "{:?}", message);
                        before = now;
                    }
                }
                // The socket notices a loss after all other messages, then requests links and
                // addresses.
                is_lost |= table.take_needs_dump();
                if is_lost && (to_lose == 0 || event.is_none()) {
                    dump(&mut kernel, &meanwhile, &mut table, &mut interfaces);
                    is_lost = table.take_needs_dump();
                    before = shown(&interfaces);
                }
                if !is_lost {
                    prop_assert_eq!(shown(&interfaces), kernel.shown(), "after {:?}", event);
                }
            }
            // Without further events one dump is enough.
            if is_lost {
                dump(&mut kernel, &[], &mut table, &mut interfaces);
            }
            prop_assert_eq!(shown(&interfaces), kernel.shown());
        }
    }
}
