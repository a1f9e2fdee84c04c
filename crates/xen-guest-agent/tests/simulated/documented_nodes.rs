//! Compares `docs/schema-std.md` and `docs/schema-rfc.md` with the nodes that the agent publishes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use xen_guest_agent::guest::Mac;
use xen_guest_agent::schema::Name;
use xen_guest_agent::schema::layout::{LAYOUT, Upkeep};

use crate::harness::Harness;
use crate::sample_guests;

const APPENDIX: &str = "Appendix: how the agent writes these nodes";

/// A row of a table of nodes, for readers.
#[derive(Debug)]
struct Row {
    pattern: String,
    format: String,
    example: String,
}

/// How the agent writes a node: a row of the appendix.
#[derive(Debug, PartialEq)]
struct Rules {
    write_order: u8,
    priority: u8,
    priority_of_first: u8,
    upkeep: Upkeep,
    removes_stale: bool,
}

fn document(schema: Name) -> String {
    let name = match schema {
        Name::Std => "schema-std.md",
        Name::Rfc => "schema-rfc.md",
    };
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    fs::read_to_string(docs.join(name)).unwrap()
}

/// The text below a heading, up to the next heading of the same level.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let (_, text) = document
        .split_once(&format!("\n## {heading}\n"))
        .unwrap_or_else(|| panic!("no {heading}"));
    text.split_once("\n## ").map_or(text, |(text, _)| text)
}

/// The texts between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The cells of each row of a table of nodes.
fn table<const COLUMNS: usize>(section: &str) -> Vec<[&str; COLUMNS]> {
    let lines = section.lines().filter(|line| line.starts_with("| `"));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            cells.try_into().unwrap_or_else(|_| panic!("{line}"))
        })
        .collect()
}

fn rows(section: &str) -> Vec<Row> {
    table(section)
        .into_iter()
        .map(|[node, value, example, readers]| {
            let only = |cell| match quoted(cell).collect::<Vec<_>>()[..] {
                [text] => text.to_owned(),
                _ => panic!("not one text in backquotes: {cell}"),
            };
            let (format, meaning) = value.split_once(": ").unwrap_or_else(|| panic!("{value}"));
            assert!(!meaning.is_empty() && !readers.is_empty(), "{node}");
            Row {
                pattern: only(node),
                format: format.to_owned(),
                example: only(example),
            }
        })
        .collect()
}

/// The rows of all nodes that a schema publishes.
fn documented(schema: Name) -> Vec<Row> {
    let mut all = rows(section(&document(schema), "Nodes"));
    all.extend(rows(section(&document(Name::Std), "Nodes of both schemas")));
    all
}

/// The appendices of both documents, by the pattern of the node.
fn appendix() -> BTreeMap<String, Rules> {
    let mut all = BTreeMap::new();
    for document in [document(Name::Std), document(Name::Rfc)] {
        for [nodes, write_order, priority, upkeep, stale] in table(section(&document, APPENDIX)) {
            for node in quoted(nodes) {
                let (priority, first) = priority
                    .split_once(", first ")
                    .unwrap_or((priority, priority));
                let rules = Rules {
                    write_order: write_order.parse().unwrap(),
                    priority: priority.parse().unwrap(),
                    priority_of_first: first.parse().unwrap(),
                    upkeep: match upkeep {
                        "watched" => Upkeep::Watched,
                        "polled" => Upkeep::Polled,
                        "rewritten" => Upkeep::Rewritten,
                        _ => panic!("{node}: {upkeep}"),
                    },
                    removes_stale: match stale {
                        "removed" => true,
                        "kept" => false,
                        _ => panic!("{node}: {stale}"),
                    },
                };
                assert!(all.insert(node.to_owned(), rules).is_none(), "{node} twice");
            }
        }
    }
    all
}

/// The rules that the agent follows for a node.
fn rules(path: &xenstore::Path) -> Rules {
    let rank = (LAYOUT.rank)(path);

    // The agent owns only the services that it published itself, so no claim covers them.
    let (removes_stale, upkeep) = match LAYOUT.claims.iter().find(|claim| claim.owns(path)) {
        Some(claim) => (claim.removes_stale, claim.upkeep),
        None if path.as_str().starts_with("data/service/") => (true, Upkeep::Polled),
        None => panic!("no claim covers {path}"),
    };
    Rules {
        write_order: rank.write_order,
        priority: rank.priority,
        priority_of_first: rank.priority_of_first,
        upkeep,
        removes_stale,
    }
}

/// The nodes that the agent publishes for all sample guests, with the values that it gives them.
fn published(schema: Name) -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::<String, BTreeSet<String>>::new();
    for sample in sample_guests::all() {
        let mut harness = Harness::with_schema(sample.guest, schema);
        let before = harness.nodes();
        harness.connect();
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

/// The only row that fits a path.
fn row_of<'a>(rows: &'a [Row], path: &str) -> &'a Row {
    let fitting: Vec<_> = rows.iter().filter(|row| row.fits(path)).collect();
    let [row] = fitting[..] else {
        panic!("{path} has {fitting:?}")
    };
    row
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

    /// Whether a value has the documented format.
    fn takes(&self, path: &str, value: &str) -> bool {
        let is_date = |value: &str| {
            let fields: Vec<_> = value.split_whitespace().collect();
            value.len() == 24 && fields.len() == 5 && is_number(fields[2]) && is_number(fields[4])
        };
        let is_ascii = |max| {
            (1..=max).contains(&value.len())
                && value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        };

        // The last part of such a path repeats the value.
        let fits_path =
            !self.pattern.ends_with("<address>") || path.ends_with(&value.replace(['.', ':'], "_"));
        fits_path
            && match self.format.as_str() {
                "text" => is_ascii(255),
                "long text" => is_ascii(2000),
                "UTF-8 text" => !value.is_empty() && !value.contains(char::is_control),
                "digits" => !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()),
                "number" | "KiB" | "bytes" => is_number(value),
                "date" => is_date(value),
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
fn every_published_node_is_documented() {
    let appendix = appendix();
    for schema in [Name::Std, Name::Rfc] {
        let rows = documented(schema);
        for (path, values) in published(schema) {
            let row = row_of(&rows, &path);
            for value in values {
                assert!(
                    row.takes(&path, &value),
                    "{schema:?}: {path} = {value}: {row:?}"
                );
            }
            let rules = rules(&xenstore::Path::new(path.as_str()).unwrap());
            assert_eq!(appendix.get(&row.pattern), Some(&rules), "{path}");
        }
    }
}

#[test]
fn every_documented_node_is_published() {
    let mut appendix = appendix();
    for schema in [Name::Std, Name::Rfc] {
        let published = published(schema);
        for row in documented(schema) {
            assert!(
                published.keys().any(|path| row.fits(path)),
                "{schema:?}: no sample guest has {row:?}"
            );
            appendix.remove(&row.pattern);
        }
    }
    assert_eq!(appendix, BTreeMap::new(), "only in the appendix");
}

#[test]
fn examples_have_the_documented_format() {
    for schema in [Name::Std, Name::Rfc] {
        let rows = documented(schema);
        for row in &rows {
            let parent = row
                .pattern
                .rsplit_once('/')
                .map_or("", |(parent, _)| parent);
            let path = format!("{parent}/{}", row.example.replace(['.', ':'], "_"));
            assert!(row.takes(&path, &row.example), "{row:?}");
        }
        let document = document(schema);
        let lines: Vec<_> = section(&document, "Example")
            .lines()
            .filter_map(|line| line.split_once(" = "))
            .collect();
        assert!(lines.len() > 10, "{lines:?}");
        for (path, value) in lines {
            assert!(row_of(&rows, path).takes(path, value), "{path} = {value}");
        }
    }
}

#[test]
fn every_claim_is_a_documented_node_or_a_leftover() {
    let std = document(Name::Std);
    let mut leftovers: BTreeSet<_> = quoted(section(&std, "Leftovers")).collect();
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
    assert_eq!(leftovers, BTreeSet::new(), "documented, but not claimed");
}

#[test]
fn every_watch_is_documented() {
    // The requests of the agent include the watches of its collectors.
    let mut harness = Harness::with_schema(sample_guests::all().remove(0).guest, Name::Std);
    harness.connect();
    let watches: BTreeSet<_> = harness
        .take_requests()
        .into_iter()
        .filter(|(kind, _)| *kind == xenstore::wire::MessageKind::WATCH)
        .map(|(_, path)| path)
        .collect();
    let std = document(Name::Std);
    let (_, text) = section(&std, APPENDIX)
        .split_once("\n### Watches\n")
        .unwrap();
    let (sentence, _) = text.split_once(". ").unwrap();
    assert_eq!(watches, quoted(sentence).map(str::to_owned).collect());
    assert!(watches.len() <= 8, "{watches:?}");
}
