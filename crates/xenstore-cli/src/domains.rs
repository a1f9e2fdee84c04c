//! The sub-command `domains`.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use xenstore::{Client, DomId, DomainEvent, Domains, Error, Nodes, Path, Result, escape};

use crate::failure::Failure;

/// Time after an event that names no domain until the domains are listed again, because a toolstack
/// may introduce a domain before it creates its home. The time doubles up to [`LONGEST_RECHECK`].
const FIRST_RECHECK: Duration = Duration::from_millis(100);

/// Time between the last two lists after an event.
const LONGEST_RECHECK: Duration = Duration::from_millis(3200);

pub(crate) fn list(client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
    let mut domains = Domains::new();
    domains
        .update(client)
        .map_err(|error| list_failed(&error))?;
    for domain in domains.iter() {
        let name = name(client, domain).map_err(|error| list_failed(&error))?;
        write_line(out, "", domain, &name)?;
    }
    Ok(())
}

/// Prints the running domains, and then those that start and end, without an end.
pub(crate) fn follow(client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
    let watch_failed = |error| Failure::of_request("watch", &error);
    let mut domains = client
        .watch_domains()
        .map_err(|error| Failure::of_request("Unable to add watches of domains", &error))?;

    let mut names = BTreeMap::new();
    let mut recheck = None;
    loop {
        let event = client.next_watch_event(recheck).map_err(watch_failed)?;
        let changes = match &event {
            Some(event) => domains.on_event(client, event),
            None => domains.update(client),
        };
        for change in changes.map_err(|error| list_failed(&error))? {
            print_change(client, out, &mut names, change)?;
        }
        out.flush()?;

        recheck = match event {
            Some(event) if event.domain().is_some() => recheck,
            Some(_) => Some(FIRST_RECHECK),
            None => recheck
                .map(|time| time * 2)
                .filter(|time| *time <= LONGEST_RECHECK),
        };
    }
}

fn print_change(
    client: &mut Client,
    out: &mut dyn Write,
    names: &mut BTreeMap<DomId, String>,
    change: DomainEvent,
) -> Result<(), Failure> {
    match change {
        DomainEvent::Introduced(domain) => {
            let name = name(client, domain).map_err(|error| list_failed(&error))?;
            write_line(out, "+ ", domain, &name)?;
            names.insert(domain, name);
        }
        DomainEvent::Released(domain) => {
            let name = names.remove(&domain).unwrap_or_default();
            write_line(out, "- ", domain, &name)?;
        }
        // A domain that has shut down still exists.
        _ => {}
    }
    Ok(())
}

fn list_failed(error: &Error) -> Failure {
    Failure::of_request("could not list path /local/domain", error)
}

fn write_line(out: &mut dyn Write, sign: &str, domain: DomId, name: &str) -> std::io::Result<()> {
    let line = format!("{sign}{domain} {name}");
    writeln!(out, "{}", line.trim_end())
}

/// Returns the name of a domain, or an empty one if the domain has none.
fn name(client: &mut Client, domain: DomId) -> Result<String, Error> {
    match client.read_text(Path::home(domain).join("name")?) {
        Ok(name) => Ok(escape(&name).into_owned()),
        Err(error) if error.is_fatal() => Err(error),
        Err(_) => Ok(String::new()),
    }
}
