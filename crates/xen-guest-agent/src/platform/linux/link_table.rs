//! Applies a sequence of netlink messages to the interfaces.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::message::{Link, Message};
use super::sysfs::Sysfs;
use crate::guest::{Address, Device, Interface, Interfaces};

/// Maximum number of addresses of unknown links. A dump reports links first, so that only links
/// that appear meanwhile have any.
const MAX_ORPHANED: usize = 256;

/// Applies messages to the interfaces of a guest. A message takes logarithmic time, except that
/// removing one of many addresses moves those after it.
#[derive(Debug)]
pub(super) struct LinkTable {
    sysfs: Sysfs,
    /// Number of the current or last dump.
    dump: u64,
    is_dumping: bool,
    /// All links, with the dump in or after which the kernel last reported each.
    links: BTreeMap<u32, u64>,
    /// All addresses of these links, with the dump in or after which the kernel last reported each.
    addresses: BTreeMap<AddressKey, u64>,
    /// Addresses of unknown links with their interface indices. An address may arrive before its
    /// link, or after the link was removed.
    orphaned: Vec<(u32, Address)>,
    /// Position of the address that was updated last among the addresses of its link. The next one
    /// is usually its neighbour.
    cursor: usize,
    /// Whether the messages were ambiguous, so that only a dump gives the true state.
    needs_dump: bool,
    /// First error of sysfs since the last dump began.
    error: Option<io::Error>,
    /// Whether there was such an error.
    has_failed: bool,
}

/// Interface index, address and prefix length.
type AddressKey = (u32, IpAddr, u8);

fn key(index: u32, address: &Address) -> AddressKey {
    (index, address.ip, address.prefix)
}

impl LinkTable {
    pub(super) fn new(sysfs: Sysfs) -> Self {
        LinkTable {
            sysfs,
            dump: 0,
            is_dumping: false,
            links: BTreeMap::new(),
            addresses: BTreeMap::new(),
            orphaned: Vec::new(),
            cursor: 0,
            needs_dump: false,
            error: None,
            has_failed: false,
        }
    }

    /// Whether only a dump gives the true state. Resets the flag.
    pub(super) fn take_needs_dump(&mut self) -> bool {
        std::mem::take(&mut self.needs_dump)
    }

    /// Returns the first error of sysfs since the last dump began, once.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// Whether sysfs could not be read since the last dump began, so that some links may have the
    /// wrong kind.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Starts a dump of all links and addresses.
    pub(super) fn begin_dump(&mut self) {
        self.dump += 1;
        self.is_dumping = true;
        self.orphaned.clear();
        (self.error, self.has_failed) = (None, false);
    }

    /// Ends an incomplete dump.
    pub(super) fn abort_dump(&mut self) {
        self.is_dumping = false;
    }

    /// Ends a complete dump and removes what it did not report. Returns whether the interfaces
    /// changed.
    pub(super) fn end_dump(&mut self, interfaces: &mut Interfaces) -> bool {
        if !std::mem::take(&mut self.is_dumping) {
            return false;
        }

        let mut changed = false;
        interfaces.retain(|index, interface| {
            let is_reported = self.links.get(index) == Some(&self.dump);
            let before = interface.addresses.len();
            interface
                .addresses
                .retain(|address| self.addresses.get(&key(*index, address)) == Some(&self.dump));
            changed |= interface.addresses.len() != before || !is_reported;
            is_reported
        });

        self.links.retain(|_, dump| *dump == self.dump);
        self.addresses
            .retain(|(index, ..), dump| *dump == self.dump && self.links.contains_key(index));
        self.orphaned.clear();
        changed
    }

    /// Applies a message. Returns whether the interfaces changed.
    pub(super) fn apply(&mut self, message: Message, interfaces: &mut Interfaces) -> bool {
        match message {
            Message::Link { index, link } => self.link(index, &link, interfaces),
            Message::NoLink { index } => {
                self.orphaned.retain(|(orphan, _)| *orphan != index);
                self.links.remove(&index);
                let removed = interfaces.remove(&index);
                for address in removed.iter().flat_map(|interface| &interface.addresses) {
                    self.addresses.remove(&key(index, address));
                }
                removed.is_some()
            }
            Message::Address { index, address } => match interfaces.get_mut(&index) {
                Some(interface) => self.address(index, address, &mut interface.addresses),
                None => {
                    self.orphan(index, address);
                    false
                }
            },
            Message::NoAddress {
                index,
                ip,
                prefix,
                has_peer,
            } => {
                self.needs_dump |= has_peer;
                let gone = (index, ip, prefix);
                self.orphaned
                    .retain(|(orphan, address)| key(*orphan, address) != gone);
                if self.addresses.remove(&gone).is_none() {
                    return false;
                }
                if let Some(interface) = interfaces.get_mut(&index) {
                    interface
                        .addresses
                        .retain(|address| key(index, address) != gone);
                }
                true
            }
        }
    }

    fn link(&mut self, index: u32, link: &Link, interfaces: &mut Interfaces) -> bool {
        let last = self.links.insert(index, self.dump);
        // A dump follows a loss, so another link may have this index by now.
        let is_same = !self.is_dumping || last == Some(self.dump);
        if !is_same {
            // The dump reports addresses after links. These may belong to an earlier link of this
            // index.
            let mut addresses = self.addresses.range(keys_of_link(index));
            self.needs_dump |= addresses.any(|(_, dump)| *dump == self.dump);
        }

        let mut interface = self.interface(link, interfaces.get(&index), is_same);

        match interfaces.get_mut(&index) {
            Some(known) => {
                let addresses = std::mem::take(&mut known.addresses);
                let changed = *known != interface;
                *known = interface;
                known.addresses = addresses;
                changed
            }
            None => {
                let (own, others) = std::mem::take(&mut self.orphaned)
                    .into_iter()
                    .partition(|(orphan, _)| *orphan == index);
                self.orphaned = others;
                for (_, address) in own {
                    self.address(index, address, &mut interface.addresses);
                    // These addresses may belong to an earlier link of this index.
                    self.needs_dump = true;
                }
                interfaces.insert(index, interface);
                true
            }
        }
    }

    /// Returns the interface of a link without its addresses. `old` had this index before, and
    /// `is_same` tells whether it surely is the same link.
    fn interface(&mut self, link: &Link, old: Option<&Interface>, is_same: bool) -> Interface {
        let known = old.filter(|_| is_same);
        let namesake = old.filter(|old| old.name == link.name);
        let device = match known {
            _ if link.is_loopback => Device::Loopback,
            Some(known) if known.device != Device::Virtual && namesake.is_some() => known.device,
            // A message may have an older name of the interface, which sysfs no longer has.
            _ => match (self.device(&link.name), known) {
                (Some(Device::Virtual), Some(known)) => known.device,
                (Some(device), _) => device,
                (None, _) => namesake.map_or(Device::Virtual, |old| old.device),
            },
        };

        let mut permanent_mac = link.permanent_mac;
        if permanent_mac.is_none() && link.master.is_some() && device == Device::Physical {
            let read = self.sysfs.permanent_mac(&link.name);
            permanent_mac = self
                .record_error(read)
                .unwrap_or_else(|| namesake.and_then(|old| old.permanent_mac));
        }

        Interface {
            name: link.name.clone(),
            mac: link.mac,
            permanent_mac,
            is_up: link.is_up,
            device,
            master: link.master,
            parent: link.parent,
            addresses: Vec::new(),
        }
    }

    /// Returns the kind of a link, or `None` if it cannot be read.
    fn device(&mut self, name: &OsStr) -> Option<Device> {
        let device = self.sysfs.device(name);
        self.record_error(device)
    }

    /// Returns the value, or records the first error.
    fn record_error<T>(&mut self, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                if !std::mem::replace(&mut self.has_failed, true) {
                    self.error = Some(error);
                }
                None
            }
        }
    }

    /// Inserts or updates an address. An existing one keeps its position because the order is the
    /// kernel's. Returns whether the addresses changed.
    fn address(&mut self, index: u32, address: Address, addresses: &mut Vec<Address>) -> bool {
        let address_key = key(index, &address);
        if self.addresses.insert(address_key, self.dump).is_none() {
            self.cursor = addresses.len();
            addresses.push(address);
            return true;
        }

        // The search goes outwards, because dumps have IPv6 addresses in reverse order.
        let cursor = self.cursor.min(addresses.len());
        let mut positions = (0..=addresses.len())
            .flat_map(|steps| [Some(cursor + steps), cursor.checked_sub(steps)])
            .flatten();
        let position = positions.find(|position| {
            let known = addresses.get(*position);
            known.is_some_and(|known| key(index, known) == address_key)
        });

        let known = position.and_then(|position| {
            self.cursor = position;
            addresses.get_mut(position)
        });
        known.is_some_and(|known| std::mem::replace(known, address) != address)
    }

    /// Keeps the address of an unknown link until the link appears.
    fn orphan(&mut self, index: u32, address: Address) {
        self.orphaned
            .retain(|(orphan, known)| key(*orphan, known) != key(index, &address));
        if self.orphaned.len() == MAX_ORPHANED {
            self.orphaned.clear();
            self.needs_dump = true;
        }
        self.orphaned.push((index, address));
    }
}

/// Returns the range of the keys of a link's addresses.
fn keys_of_link(index: u32) -> RangeInclusive<AddressKey> {
    let first = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let last = IpAddr::V6(Ipv6Addr::from(u128::MAX));
    (index, first, 0)..=(index, last, u8::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::root::Root;

    pub(super) fn no_sysfs() -> Sysfs {
        Sysfs::new(Root::new("/nonexistent"))
    }

    fn link(index: u32, name: &str, is_up: bool) -> Message {
        Message::Link {
            index,
            link: Link {
                name: name.into(),
                is_up,
                ..Link::default()
            },
        }
    }

    fn address(index: u32, ip: &str, prefix: u8) -> Message {
        address_message(index, (ip.parse().unwrap(), prefix), true)
    }

    pub(super) fn address_message(
        index: u32,
        (ip, prefix): (IpAddr, u8),
        is_usable: bool,
    ) -> Message {
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
                interface.name.to_string_lossy(),
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
    fn addresses_of_unknown_links_are_bounded() {
        let (mut table, mut interfaces) = fresh();
        for last in 0..10 * u32::try_from(MAX_ORPHANED).unwrap() {
            let ip = std::net::Ipv4Addr::from(last).to_string();
            assert!(!table.apply(address(last % 7, &ip, 32), &mut interfaces));
            assert!(table.orphaned.len() <= MAX_ORPHANED);
        }
        assert!(table.take_needs_dump(), "the discarded addresses are lost");
    }

    #[test]
    fn unreadable_sysfs_keeps_the_kind_and_is_reported_once() {
        let root = tempfile::tempdir().unwrap();
        let device = root.path().join("sys/class/net/eth0/device");
        let vif = |nodename: &str| {
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join("devtype"), "vif\n").unwrap();
            fs::write(device.join("nodename"), nodename).unwrap();
        };
        let mut table = LinkTable::new(Sysfs::new(Root::new(root.path())));
        let mut interfaces = Interfaces::new();
        let mut dump = |table: &mut LinkTable| {
            table.begin_dump();
            run(table, &mut interfaces, &[link(2, "eth0", true)]);
            table.end_dump(&mut interfaces);
            interfaces[&2].device
        };
        vif("device/vif/3\n");
        assert_eq!(dump(&mut table), Device::Vif(3));
        assert!(!table.has_failed());

        // A directory cannot be read as a file, even by root.
        fs::remove_dir_all(&device).unwrap();
        fs::create_dir_all(device.join("devtype")).unwrap();
        assert_eq!(dump(&mut table), Device::Vif(3));
        assert!(table.take_error().is_some() && table.take_error().is_none());
        assert!(table.has_failed());

        fs::remove_dir_all(&device).unwrap();
        vif("device/vif/4\n");
        assert_eq!(dump(&mut table), Device::Vif(4));
        assert!(!table.has_failed());

        fs::remove_dir_all(&device).unwrap();
        assert_eq!(dump(&mut table), Device::Virtual);
        assert!(!table.has_failed());
    }

    #[test]
    fn dumps_are_searched_in_either_order() {
        let (mut table, mut interfaces) = fresh();
        table.apply(link(2, "a", true), &mut interfaces);
        let all: Vec<_> = (0..100)
            .map(|last| address(2, &format!("10.0.0.{last}"), 24))
            .collect();
        for message in all.iter().chain(all.iter().rev()).chain(&all) {
            let before = table.cursor;
            table.apply(message.clone(), &mut interfaces);
            assert!(table.cursor.abs_diff(before) <= 1);
        }
        assert_eq!(interfaces[&2].addresses.len(), 100);
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
    use std::ffi::OsString;

    use proptest::prelude::*;

    use super::tests::{address_message, no_sysfs};
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
    type Shown = BTreeMap<u32, (OsString, bool, Option<u32>, Addresses)>;

    /// The kernel's links and addresses, and its messages about changes.
    #[derive(Default)]
    struct Kernel {
        links: BTreeMap<u32, (Link, Addresses)>,
        messages: Vec<Message>,
    }

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    impl Kernel {
        fn apply(&mut self, event: &Event) {
            match *event {
                Event::Link(index, name, is_up, master) => {
                    let link = Link {
                        name: name.to_string().into(),
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
