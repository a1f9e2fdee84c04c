//! `docs/schema-std.md` and `docs/schema-rfc.md` say what is published, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use xen_guest_agent::guest::Mac;
use xen_guest_agent::schema::Name;
use xen_guest_agent::schema::layout::{LAYOUT, Upkeep};

use crate::guests;
use crate::harness::Harness;

/// A row of a table of nodes.
#[derive(Debug)]
struct Row {
    pattern: String,
    format: String,
    example: String,
    since: String,
    removes_stale: bool,
    upkeep: Upkeep,
    order: u8,
    /// And that of the first of its siblings, where that is another.
    worth: (u8, u8),
}

fn document(name: &str) -> String {
    fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../docs")
            .join(name),
    )
    .unwrap()
}

/// The text below a heading, up to the next.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let (_, text) = document
        .split_once(&format!("\n## {heading}\n"))
        .unwrap_or_else(|| panic!("no {heading}"));
    text.split_once("\n## ").map_or(text, |(text, _)| text)
}

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn rows(section: &str) -> Vec<Row> {
    section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(row)
        .collect()
}

/// `5`, or `5, first 2`.
fn worths(cell: &str) -> (u8, u8) {
    let (all, first) = cell.split_once(", first ").unwrap_or((cell, cell));
    (all.parse().unwrap(), first.parse().unwrap())
}

fn row(line: &str) -> Row {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [
        node,
        value,
        example,
        readers,
        since,
        stale,
        upkeep,
        order,
        worth,
    ] = cells[..]
    else {
        panic!("{line}")
    };
    let only = |cell| {
        quoted(cell)
            .next()
            .unwrap_or_else(|| panic!("{line}"))
            .to_owned()
    };
    let (format, meaning) = value.split_once(": ").unwrap_or_else(|| panic!("{line}"));
    assert!(!meaning.is_empty() && !readers.is_empty(), "{line}");
    Row {
        pattern: only(node),
        format: format.to_owned(),
        example: only(example),
        since: since.to_owned(),
        removes_stale: match stale {
            "removed" => true,
            "stays" => false,
            _ => panic!("{line}"),
        },
        upkeep: match upkeep {
            "watch" => Upkeep::Watched,
            "comparison" => Upkeep::Polled,
            "rewriting" => Upkeep::Rewritten,
            _ => panic!("{line}"),
        },
        order: order.parse().unwrap(),
        worth: worths(worth),
    }
}

/// What a schema is said to publish.
fn documented(schema: Name) -> Vec<Row> {
    let std = document("schema-std.md");
    let own = match schema {
        Name::Std => rows(section(&std, "Nodes")),
        Name::Rfc => rows(section(&document("schema-rfc.md"), "Nodes")),
    };
    own.into_iter()
        .chain(rows(section(&std, "Nodes of both schemas")))
        .collect()
}

/// All that is published of all guests: a path, with the values that were seen there.
fn published(schema: Name) -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::<String, BTreeSet<String>>::new();
    for sample in guests::all() {
        let mut harness = Harness::new(sample.guest, schema);
        let before = harness.nodes();
        harness.start();
        for (path, value) in harness
            .nodes()
            .into_iter()
            .filter(|(path, _)| !before.contains_key(path))
        {
            all.entry(path).or_default().insert(value);
        }
    }
    all
}

fn is_number(text: &str) -> bool {
    text.parse::<u64>()
        .is_ok_and(|number| number.to_string() == text)
}

fn version(text: &str) -> [u32; 3] {
    let parts: Vec<u32> = text.split('.').map(|part| part.parse().unwrap()).collect();
    parts.try_into().unwrap()
}

impl Row {
    fn fits(&self, path: &str) -> bool {
        let (pattern, path): (Vec<_>, Vec<_>) =
            (self.pattern.split('/').collect(), path.split('/').collect());
        let fits = |(pattern, name): (&&str, &&str)| match *pattern {
            "<id>" | "<n>" | "<ifindex>" => is_number(name),
            "<m>" => is_number(name) && *name != "0",
            "<service>" | "<key>" => name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_@".contains(&byte)),
            "<address>" => name
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || byte == b'_'),
            _ => pattern == name,
        };
        pattern.len() == path.len() && pattern.iter().zip(&path).all(fits)
    }

    /// Whether a value has the format.
    fn takes(&self, path: &str, value: &str) -> bool {
        let is_stamp = |value: &str| {
            let fields: Vec<_> = value.split_whitespace().collect();
            value.len() == 24 && fields.len() == 5 && is_number(fields[2]) && is_number(fields[4])
        };
        let follows =
            !self.pattern.ends_with("<address>") || path.ends_with(&value.replace(['.', ':'], "_"));
        let is_ascii = |most| {
            (1..=most).contains(&value.len())
                && value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        };
        follows
            && match self.format.as_str() {
                "text" => is_ascii(255),
                "long text" => is_ascii(2000),
                "UTF-8 text" => !value.is_empty() && !value.contains(char::is_control),
                "digits" => !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()),
                "number" | "KiB" | "bytes" => is_number(value),
                "date" => is_stamp(value),
                "IPv4 address" => value.parse::<Ipv4Addr>().is_ok(),
                "IPv6 address" => value
                    .parse::<Ipv6Addr>()
                    .is_ok_and(|ip| ip.to_string() == value),
                "MAC address" => Mac::parse(value).is_some_and(|mac| mac.to_string() == value),
                "`1`" => value == "1",
                other => panic!("unknown format {other}"),
            }
    }
}

#[test]
fn every_node_has_a_row_and_every_row_a_node() {
    for schema in [Name::Std, Name::Rfc] {
        let rows = documented(schema);
        let published = published(schema);
        for (path, values) in &published {
            let fitting: Vec<_> = rows.iter().filter(|row| row.fits(path)).collect();
            let [row] = fitting[..] else {
                panic!("{schema:?}: {path} has {fitting:?}")
            };
            for value in values {
                assert!(
                    row.takes(path, value),
                    "{schema:?}: {path} = {value}: {row:?}"
                );
            }
            let path = xenstore::Path::new(path.as_str()).unwrap();
            let rank = (LAYOUT.rank)(&path);
            assert_eq!(
                (row.order, row.worth),
                (rank.write_order, (rank.priority, rank.priority_of_first)),
                "{path}"
            );
            // Of services, those that the agent published itself are its own: no claim tells them from others.
            let held = match LAYOUT.claims.iter().find(|claim| claim.owns(&path)) {
                Some(claim) => (claim.removes_stale, claim.upkeep),
                None if path.starts_with("data/service/") => (true, Upkeep::Polled),
                None => panic!("{path} is nobody's"),
            };
            assert_eq!((row.removes_stale, row.upkeep), held, "{path}");
        }
        for row in rows {
            assert!(
                published.keys().any(|path| row.fits(path)),
                "{schema:?}: nothing is published at {row:?}"
            );
            let home = row.pattern.rsplit_once('/').map_or("", |(home, _)| home);
            assert!(
                row.takes(
                    &format!("{home}/{}", row.example.replace(['.', ':'], "_")),
                    &row.example
                ),
                "{row:?}"
            );
            assert!(
                version(&row.since) <= version(env!("CARGO_PKG_VERSION")),
                "{row:?}"
            );
        }
    }
}

#[test]
fn all_that_is_claimed_is_published_or_a_leftover() {
    let std = document("schema-std.md");
    let (leftovers, _) = section(&std, "Leftovers").split_once('.').unwrap();
    let mut leftovers: BTreeSet<_> = quoted(leftovers).collect();
    let rows: Vec<_> = [Name::Std, Name::Rfc]
        .into_iter()
        .flat_map(documented)
        .collect();
    for claim in LAYOUT.claims {
        let node = format!("{}/{}", claim.parent, claim.child);
        let is_documented = rows.iter().any(|row| {
            let below = row.pattern.strip_prefix(&node);
            below.is_some_and(|rest| rest.is_empty() || (claim.is_tree && rest.starts_with('/')))
        });
        assert!(
            is_documented != leftovers.remove(node.as_str()),
            "{claim:?}"
        );
    }
    assert_eq!(leftovers, BTreeSet::new(), "no longer claimed");
}

#[test]
fn the_watches() {
    // By what the agent asks for, its collectors' watches included.
    let mut harness = Harness::new(guests::all().remove(0).guest, Name::Std);
    harness.start();
    let watches = harness
        .take_requests()
        .into_iter()
        .filter(|(kind, _)| *kind == xenstore::wire::Kind::WATCH);
    let set: BTreeSet<_> = watches.map(|(_, path)| path).collect();
    let std = document("schema-std.md");
    let (first, _) = section(&std, "Watches").split_once(", where").unwrap();
    assert_eq!(set, quoted(first).map(str::to_owned).collect());
    assert!(set.len() <= 8, "{set:?}");
}
