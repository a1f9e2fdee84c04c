//! Domains of a host that start and end.

use std::collections::BTreeSet;

use crate::channel::Channel;
use crate::client::Client;
use crate::depth::Depth;
use crate::domid::DomId;
use crate::error::{Optional, Result};
use crate::event::{INTRODUCE_DOMAIN, RELEASE_DOMAIN, WatchEvent, WatchId};
use crate::nodes::Nodes;
use crate::request::Request;
use crate::shared::SharedClient;

/// Parent of the homes of all domains.
pub(crate) const HOMES: &str = "/local/domain";

/// Start or end of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DomainEvent {
    /// The server serves the domain from now on, or already did when the program began to follow
    /// the domains.
    Introduced(DomId),
    /// The domain has shut down, and still exists. Only a server that names the domain of an event
    /// reports this; see [`Domains`].
    Shutdown(DomId),
    /// The domain does not exist any more.
    Released(DomId),
}

/// The domains of a host, for programs of domain 0 that follow their start and end.
///
/// [`Client::watch_domains`] sets the necessary watches. Their first events report the domains that
/// exist already:
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use xenstore::{Client, DomainEvent, Nodes, Optional, Path, escape};
/// # use xenstore::embedded::{Server, Store, Toolstack};
/// # let mut store = Store::new();
/// # store.introduce_guest(5, Toolstack::Xapi);
/// # let server = Server::new(store).spawn()?;
///
/// // In dom0, use `Client::open()?`.
/// let mut client = Client::new(server.connect(0)?.into());
/// let mut domains = client.watch_domains()?;
/// loop {
///     let Some(event) = client.next_watch_event(None)? else { continue };
///     for event in domains.on_event(&mut client, &event)? {
///         match event {
///             DomainEvent::Introduced(domain) => {
///                 let name = client.read_text(Path::home(domain).join("name")?).optional()?;
///                 println!("{domain} runs: {}", escape(&name.unwrap_or_default()));
/// #               server.with(|server| server.store_mut().destroy_guest(5));
///             }
///             DomainEvent::Released(domain) => {
///                 println!("{domain} has ended");
/// #               return Ok(());
///             }
///             _ => {}
///         }
///     }
/// }
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
///
/// # How domains are found
/// A server with [`Features::WATCH_DEPTH`](crate::Features::WATCH_DEPTH), which is C xenstored since
/// Xen 4.22, names the domain of each event. The domain may have no home yet.
///
/// Other servers report only that some domain has started or ended. `on_event` then lists the homes
/// in `/local/domain`, and asks for each of them and for all known domains whether they are
/// introduced. So a home that remains after its domain does no harm. A domain without a home is not
/// found. The toolstacks libxl and xapi create the home first; if another one does not, call
/// [`update`](Self::update) some time after an event.
///
/// A domain that ends before the library has asked about it may not be reported at all. If another
/// domain gets its id before that, the blocking clients report [`Shutdown`](DomainEvent::Shutdown),
/// [`Released`](DomainEvent::Released) and [`Introduced`](DomainEvent::Introduced) where the server
/// names the domain. The async client may report only the first of these, and with other servers
/// nothing is reported.
#[derive(Debug, Default)]
pub struct Domains {
    introduced: BTreeSet<DomId>,
    /// Introduced domains that were reported as shut down.
    shut_down: BTreeSet<DomId>,
    watches: Vec<WatchId>,
    /// Domains that events named, and that the server was not asked about successfully since.
    named: BTreeSet<DomId>,
    /// Whether `introduced` is complete, apart from events that were not processed yet.
    is_current: bool,
}

impl Domains {
    /// Returns an empty list, without watches. The first [`update`](Self::update) fills it.
    pub fn new() -> Self {
        Domains::default()
    }

    fn with_watches(watches: [WatchId; 2]) -> Self {
        Domains {
            watches: watches.into(),
            ..Domains::default()
        }
    }

    /// Returns the domains that were reported as introduced and not as released since.
    pub fn iter(&self) -> impl Iterator<Item = DomId> {
        self.introduced.iter().copied()
    }

    /// Returns the watches of [`Client::watch_domains`]. To stop following the domains,
    /// [unwatch](Client::unwatch) them.
    pub fn watches(&self) -> &[WatchId] {
        &self.watches
    }

    /// Returns the changes that a watch event reports. There are none for an event that is not about
    /// domains, so that a program can pass all of its events.
    ///
    /// # Errors
    /// `EACCES` if the client is no domain 0, and the errors of all calls. The next event about
    /// domains makes up for one that failed.
    pub fn on_event(
        &mut self,
        nodes: &mut impl Nodes,
        event: &WatchEvent,
    ) -> Result<Vec<DomainEvent>> {
        let is_about_domains = event.path.is_at_or_below(INTRODUCE_DOMAIN) || is_release(event);
        if is_about_domains {
            self.step(nodes, Some(event))
        } else {
            Ok(Vec::new())
        }
    }

    /// Lists the domains, and returns the changes since the last call of this function or of
    /// [`on_event`](Self::on_event).
    ///
    /// ```
    /// # #[cfg(feature = "embedded")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use xenstore::{Client, Domains};
    /// # use xenstore::embedded::{Server, Store, Toolstack};
    /// # let mut store = Store::new();
    /// # store.introduce_guest(5, Toolstack::Xapi);
    /// # let server = Server::new(store).spawn()?;
    ///
    /// // In dom0, use `Client::open()?`.
    /// let mut client = Client::new(server.connect(0)?.into());
    /// let mut domains = Domains::new();
    /// domains.update(&mut client)?;
    /// assert!(domains.iter().eq([0.into(), 5.into()]));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "embedded"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// Those of [`on_event`](Self::on_event).
    pub fn update(&mut self, nodes: &mut impl Nodes) -> Result<Vec<DomainEvent>> {
        self.step(nodes, None)
    }

    fn step(
        &mut self,
        nodes: &mut impl Nodes,
        event: Option<&WatchEvent>,
    ) -> Result<Vec<DomainEvent>> {
        let asked = match self.begin(event) {
            Some(domain) => vec![domain],
            None => self.with_homes(nodes.list(HOMES).optional()?),
        };
        let replies = nodes.pipeline(asked.iter().map(|domain| Request::is_introduced(*domain)))?;
        self.finish(event, asked, replies)
    }

    /// Returns the domain to ask about, or `None` to ask about all.
    pub(crate) fn begin(&mut self, event: Option<&WatchEvent>) -> Option<DomId> {
        let was_current = std::mem::replace(&mut self.is_current, false);
        let named = event.and_then(WatchEvent::domain);
        self.named.extend(named);
        named.filter(|_| was_current)
    }

    /// Returns the known domains, those that have a home, and those that events have named.
    pub(crate) fn with_homes(&self, homes: Option<Vec<String>>) -> Vec<DomId> {
        let homes = homes.unwrap_or_default();
        let with_home = homes.iter().filter_map(|name| name.parse().ok());
        let all: BTreeSet<_> = with_home
            .chain(self.iter())
            .chain(self.named.iter().copied())
            .collect();
        all.into_iter().collect()
    }

    /// Returns the changes, from the replies about the domains in `asked`.
    pub(crate) fn finish(
        &mut self,
        event: Option<&WatchEvent>,
        asked: Vec<DomId>,
        replies: Vec<Result<bool>>,
    ) -> Result<Vec<DomainEvent>> {
        let replies = replies.into_iter().collect::<Result<Vec<_>>>()?;
        let named = event.and_then(WatchEvent::domain);
        let named_by = |is_wanted: bool| named.filter(|_| event.map(is_release) == Some(is_wanted));
        let (mut started, mut ended) = (Vec::new(), Vec::new());
        for (domain, is_introduced) in asked.into_iter().zip(replies) {
            // A shut down domain is introduced only after its end, so that this is another one.
            let is_replaced = named_by(false) == Some(domain) && self.shut_down.contains(&domain);
            if (is_replaced || !is_introduced) && self.introduced.remove(&domain) {
                self.shut_down.remove(&domain);
                ended.push(DomainEvent::Released(domain));
            }
            if is_introduced && self.introduced.insert(domain) {
                started.push(DomainEvent::Introduced(domain));
            }
        }
        self.named.clear();
        self.is_current = true;

        // The server sends the same event for a shutdown and for the end.
        let shut_down = named_by(true).filter(|domain| self.introduced.contains(domain));
        self.shut_down.extend(shut_down);
        let shut_down = shut_down.map(DomainEvent::Shutdown);
        Ok(ended.into_iter().chain(started).chain(shut_down).collect())
    }
}

fn is_release(event: &WatchEvent) -> bool {
    event.path.is_at_or_below(RELEASE_DOMAIN)
}

impl<C: Channel> Client<C> {
    /// Sets the watches to follow the domains of a host; see [`Domains`].
    ///
    /// # Errors
    /// Those of [`watch_to`](Self::watch_to).
    pub fn watch_domains(&mut self) -> Result<Domains> {
        let introduced = self.watch_to(INTRODUCE_DOMAIN, Depth::CHILDREN)?;
        let released = self.watch_to(RELEASE_DOMAIN, Depth::CHILDREN);
        if released.is_err() {
            let _ = self.unwatch(introduced);
        }
        Ok(Domains::with_watches([introduced, released?]))
    }
}

impl SharedClient {
    /// Sets the watches to follow the domains of a host; see [`Domains`].
    ///
    /// # Errors
    /// Those of [`watch_to`](Self::watch_to).
    pub fn watch_domains(&self) -> Result<Domains> {
        let introduced = self.watch_to(INTRODUCE_DOMAIN, Depth::CHILDREN)?;
        let released = self.watch_to(RELEASE_DOMAIN, Depth::CHILDREN);
        if released.is_err() {
            let _ = self.unwatch(introduced);
        }
        Ok(Domains::with_watches([introduced, released?]))
    }
}

#[cfg(all(test, feature = "embedded"))]
mod tests {
    use DomainEvent::{Introduced, Released, Shutdown};

    use super::*;
    use crate::embedded::{Model, Server, Store};

    #[test]
    fn shutdown_is_told_from_the_end() {
        let mut store = Store::with_model(Model::CXenstored4_22);
        store.introduce(5);
        let server = Server::new(store).spawn().unwrap();
        let mut client = Client::new(server.connect(0).unwrap().into());
        let mut domains = Domains::new();
        domains.update(&mut client).unwrap();

        // The embedded server knows no shutdown, which has the event of an end.
        let event = WatchEvent {
            path: "@releaseDomain/5".parse().unwrap(),
            token: String::new(),
        };
        let mut on_event = || domains.on_event(&mut client, &event).unwrap();
        let domain = DomId::new(5);
        assert_eq!(on_event(), [Introduced(domain), Shutdown(domain)]);
        assert_eq!(on_event(), [Shutdown(domain)]);
        server.with(|server| server.store_mut().release(5));
        assert_eq!(on_event(), [Released(domain)]);
        assert_eq!(on_event(), []);
    }
}
