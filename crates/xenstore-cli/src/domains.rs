//! The sub-command `domains`.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use xenstore::{Client, DomId, Error, Nodes, Path, Request, Result, escape};

use crate::failure::Failure;

/// Parent of the homes of all domains.
const HOMES: &str = "/local/domain";

/// Events that a domain starts or ends. They do not say which one.
const EVENTS: [&str; 2] = ["@introduceDomain", "@releaseDomain"];

/// Time after an event until the domains are listed again, because a toolstack may introduce a
/// domain before it creates its home. The time doubles up to [`LONGEST_RECHECK`].
const FIRST_RECHECK: Duration = Duration::from_millis(100);

/// Time between the last two lists after an event.
const LONGEST_RECHECK: Duration = Duration::from_millis(3200);

/// Names of the running domains.
type Domains = BTreeMap<DomId, String>;

pub(crate) fn list(client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
    for (domain, name) in running(client, &Domains::new())? {
        write_line(out, "", domain, &name)?;
    }
    Ok(())
}

/// Prints the running domains, and then those that start and end, without an end.
pub(crate) fn follow(client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
    for event in EVENTS {
        let what = || format!("Unable to add watch on {event}");
        client
            .watch(event)
            .map_err(|error| Failure::of_request(&what(), &error))?;
    }

    let mut known = Domains::new();
    let mut recheck = None;
    loop {
        let domains = running(client, &known)?;
        print_changes(out, &known, &domains)?;
        out.flush()?;
        known = domains;

        let failed = |error| Failure::of_request("watch", &error);
        match client.next_watch_event(recheck).map_err(failed)? {
            Some(_) => {
                recheck = Some(FIRST_RECHECK);
                // One list serves all events that have arrived.
                while client
                    .next_watch_event(Some(Duration::ZERO))
                    .map_err(failed)?
                    .is_some()
                {}
            }
            None => {
                recheck = recheck
                    .map(|time| time * 2)
                    .filter(|time| *time <= LONGEST_RECHECK);
            }
        }
    }
}

fn print_changes(out: &mut dyn Write, before: &Domains, after: &Domains) -> std::io::Result<()> {
    for (&domain, name) in before {
        if !after.contains_key(&domain) {
            write_line(out, "- ", domain, name)?;
        }
    }
    for (&domain, name) in after {
        if !before.contains_key(&domain) {
            write_line(out, "+ ", domain, name)?;
        }
    }
    Ok(())
}

fn write_line(out: &mut dyn Write, sign: &str, domain: DomId, name: &str) -> std::io::Result<()> {
    let line = format!("{sign}{domain} {name}");
    writeln!(out, "{}", line.trim_end())
}

/// Returns the domains that have a home and are introduced. Names are read only of domains that are
/// not in `known`.
fn running(client: &mut Client, known: &Domains) -> Result<Domains, Failure> {
    let failed = |error| Failure::of_request(&format!("could not list path {HOMES}"), &error);
    let homes = client.list(HOMES).map_err(failed)?;
    let mut domains = Domains::new();
    for domain in homes.iter().filter_map(|name| name.parse::<DomId>().ok()) {
        // The home of a domain that has ended may still be there.
        if client
            .call(Request::is_introduced(domain))
            .map_err(failed)?
        {
            let name = match known.get(&domain) {
                Some(name) => name.clone(),
                None => name(client, domain).map_err(failed)?,
            };
            domains.insert(domain, name);
        }
    }
    Ok(domains)
}

/// Returns the name of a domain, or an empty one if the domain has none.
fn name(client: &mut Client, domain: DomId) -> Result<String, Error> {
    match client.read_text(Path::home(domain).join("name")?) {
        Ok(name) => Ok(escape(&name).into_owned()),
        Err(error) if error.is_fatal() => Err(error),
        Err(_) => Ok(String::new()),
    }
}
