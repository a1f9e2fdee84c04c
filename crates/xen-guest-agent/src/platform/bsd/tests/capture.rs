//! Reads the captured data.

use std::fmt::Write as _;
use std::fs;
use std::sync::OnceLock;

use super::super::layout::Layout;
use super::super::link_list::{self, Link};

/// Everything that one kernel sent.
pub(super) struct Capture {
    pub(super) name: &'static str,
    pub(super) records: Vec<Record>,
}

/// A message and where it came from.
#[derive(Clone)]
pub(super) struct Record {
    /// Program that received it: `main`, `i386-binary` or `vnet-jail`.
    pub(super) context: String,
    /// Operation before it, or name of the list.
    pub(super) label: String,
    pub(super) source: String,
    pub(super) kind: u8,
    pub(super) bytes: Vec<u8>,
    pub(super) layout: Layout,
}

impl Record {
    /// Whether the agent's own socket would have received it.
    pub(super) fn is_event(&self) -> bool {
        self.source == "socket proto 0"
    }
}

/// A list of all interfaces.
pub(super) struct List {
    pub(super) context: String,
    pub(super) label: String,
    pub(super) links: Vec<Link>,
}

pub(super) const FREEBSD_12: &str = "freebsd-12.2-amd64";
pub(super) const FREEBSD_13: &str = "freebsd-13.0cur-amd64";
pub(super) const NETBSD: &str = "netbsd-7.99.34-rump-amd64";
pub(super) const OPENBSD: &str = "openbsd-6.5cur-amd64";
pub(super) const SYSTEMS: [&str; 4] = [FREEBSD_12, FREEBSD_13, NETBSD, OPENBSD];

impl Capture {
    /// Returns the data of a kernel, which is read once.
    pub(super) fn read(name: &str) -> &'static Self {
        static CAPTURES: [OnceLock<Capture>; SYSTEMS.len()] = [const { OnceLock::new() }; 4];

        let position = SYSTEMS.iter().position(|system| *system == name).unwrap();
        let name = SYSTEMS[position];
        CAPTURES[position].get_or_init(|| {
            let lines = lines(name, "messages.tsv");
            let lines = lines.iter().filter(|line| !line.starts_with('#'));
            let records = lines.map(|line| record(name, line)).collect();
            Capture { name, records }
        })
    }

    pub(super) fn all() -> impl Iterator<Item = &'static Self> {
        SYSTEMS.into_iter().map(Capture::read)
    }

    /// Returns the records of each list of interfaces, with their end among all records.
    fn groups(&self) -> impl Iterator<Item = (usize, &[Record])> {
        let key = |record: &Record| (record.context.clone(), record.label.clone());
        let groups = self.records.chunk_by(move |a, b| key(a) == key(b));
        let ends = groups.scan(0, |end, group| {
            *end += group.len();
            Some((*end, group))
        });
        ends.filter(|(_, group)| {
            group[0].source == "sysctl" && group[0].label.starts_with("NET_RT_IFLIST")
        })
    }

    fn parse(&self, group: &[Record]) -> Vec<Link> {
        let bytes: Vec<u8> = group
            .iter()
            .flat_map(|record| record.bytes.clone())
            .collect();
        link_list::parse(&bytes, &group[0].layout)
            .unwrap_or_else(|error| panic!("{} {}: {error}", self.name, group[0].label))
    }

    /// Returns all lists of interfaces, with the number of records before the end of each.
    pub(super) fn lists(&self) -> impl Iterator<Item = (usize, List)> {
        self.groups().map(|(end, group)| {
            let list = List {
                context: group[0].context.clone(),
                label: group[0].label.clone(),
                links: self.parse(group),
            };
            (end, list)
        })
    }

    /// Returns the list of this name in the main program.
    pub(super) fn list(&self, label: &str) -> Vec<Link> {
        let mut groups = self.groups();
        let found = groups.find(|(_, group)| group[0].context == "main" && group[0].label == label);
        self.parse(found.unwrap_or_else(|| panic!("no list {label}")).1)
    }
}

/// Returns the lines of a file.
pub(super) fn lines(name: &str, suffix: &str) -> Vec<String> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/bsd");
    let text = fs::read_to_string(format!("{directory}/{name}.{suffix}")).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Returns the fields of the other data whose first field is `kind`.
pub(super) fn others(name: &str, kind: &str) -> Vec<Vec<String>> {
    let lines = lines(name, "other.tsv").into_iter();
    let fields = lines.map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
    fields.filter(|fields| fields[0] == kind).collect()
}

fn record(name: &str, line: &str) -> Record {
    let fields: Vec<&str> = line.split('\t').collect();
    let [context, label, source, kind, len, hex] = fields.try_into().unwrap();
    let layout = match name {
        NETBSD => Layout::NETBSD,
        OPENBSD => Layout::OPENBSD,
        _ if !label.starts_with("NET_RT_IFLISTL") => Layout::FREEBSD,
        _ if context == "i386-binary" => Layout::FREEBSD_I386_LIST,
        _ => Layout::FREEBSD_LIST,
    };
    let bytes = from_hex(hex);
    assert_eq!(bytes.len(), len.parse::<usize>().unwrap(), "{line}");
    Record {
        context: context.to_owned(),
        label: label.to_owned(),
        source: source.to_owned(),
        kind: kind.parse().unwrap(),
        bytes,
        layout,
    }
}

pub(super) fn from_hex(hex: &str) -> Vec<u8> {
    let digit = |digit: u8| u8::try_from(char::from(digit).to_digit(16).unwrap()).unwrap();
    let bytes = hex.as_bytes().chunks_exact(2);
    bytes
        .map(|digits| digit(digits[0]) << 4 | digit(digits[1]))
        .collect()
}

/// Returns an interface as a line: index, name, `+` if it is up, hardware address, addresses.
pub(super) fn shown(link: &Link) -> String {
    let mut text = format!("{} {}", link.index, link.name.to_string_lossy());
    text.push(if link.is_up() { '+' } else { '-' });
    if let Some(mac) = link.mac {
        write!(text, " {mac}").unwrap();
    }
    for address in &link.addresses {
        write!(text, " {}", address.ip).unwrap();
        if address.scope != 0 {
            write!(text, "%{}", address.scope).unwrap();
        }
        write!(text, "/{}", address.prefix).unwrap();
    }
    text
}
