//! Follow the domains of a host, and send requests about them.
//!
//! This page is for tools in dom0. The last section is for guests.
//!
//! # Events
//!
//! | watch | fires |
//! | --- | --- |
//! | `@introduceDomain` | when a toolstack introduces a domain to the server |
//! | `@releaseDomain` | when a domain shuts down, or is released |
//!
//! - C xenstored before 4.22, and oxenstored, do not say which domain an event is about. List
//!   `/local/domain` after each event, and compare.
//! - A toolstack may introduce a domain before it creates the domain's home. If a new domain has no
//!   name yet, look again a little later, or watch its home.
//! - The home of a domain that has ended may stay. [`Request::is_introduced`] tells whether the
//!   domain is there.
//! - Xen gives the ID of an ended domain to another one later. The node `vm` in the home leads to
//!   the UUID, which stays.
//!
//! ```
//! use std::collections::BTreeSet;
//! use std::time::Duration;
//! use xenstore::{Client, DomId, Nodes, Request, Result};
//! # use xenstore::embedded::{Server, Store, Toolstack};
//!
//! /// Returns the domains that have a home and are introduced.
//! fn running(client: &mut Client) -> Result<BTreeSet<DomId>> {
//!     let mut running = BTreeSet::new();
//!     for name in client.list("/local/domain")? {
//!         if let Ok(domain) = name.parse() {
//!             if client.call(Request::is_introduced(domain))? {
//!                 running.insert(domain);
//!             }
//!         }
//!     }
//!     Ok(running)
//! }
//!
//! # let mut store = Store::new();
//! # store.introduce_guest(5, Toolstack::Xapi);
//! # let server = Server::new(store).spawn()?;
//! // In dom0, use `Client::open()?`.
//! let mut client = Client::new(server.connect(DomId::DOM0)?.into());
//! // Watch first, so that no change is missed between the list and the watch.
//! client.watch("@introduceDomain")?;
//! client.watch("@releaseDomain")?;
//! let mut known = running(&mut client)?;
//!
//! # server.with(|server| {
//! #     server.store_mut().introduce_guest(6, Toolstack::Xapi);
//! #     server.store_mut().destroy_guest(5);
//! # });
//! # let mut changes = Vec::new();
//! // A program waits without limit: `next_watch_event(None)`.
//! while client.next_watch_event(Some(Duration::from_millis(100)))?.is_some() {
//!     let now = running(&mut client)?;
//!     for domain in now.difference(&known) {
//!         println!("domain {domain} started");
//! #       changes.push(format!("+{domain}"));
//!     }
//!     for domain in known.difference(&now) {
//!         println!("domain {domain} ended");
//! #       changes.push(format!("-{domain}"));
//!     }
//!     known = now;
//! }
//! # assert_eq!(changes, ["+6", "-5"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Since Xen 4.22
//!
//! A server with [`Features::WATCH_DEPTH`] names the domain, if the watch has a depth:
//! [`Client::watch_to`] with [`Depth::CHILDREN`], and then [`WatchEvent::domain`]. The first event,
//! which reports that the watch is set, names none. So a program lists the domains once:
//!
//! ```
//! use xenstore::{Client, Depth, DomId, Features};
//! use xenstore::embedded::{Model, Server, Store, Toolstack};
//!
//! let mut store = Store::with_model(Model::CXenstored4_22);
//! store.introduce_guest(5, Toolstack::Xapi);
//! let server = Server::new(store).spawn()?;
//! let mut client = Client::new(server.connect(DomId::DOM0)?.into());
//! assert!(client.features()?.contains(Features::WATCH_DEPTH));
//!
//! client.watch_to("@releaseDomain", Depth::CHILDREN)?;
//! let first = client.next_watch_event(None)?.expect("each watch fires when it is set");
//! assert_eq!(first.domain(), None);
//! server.with(|server| server.store_mut().destroy_guest(5));
//! let event = client.next_watch_event(None)?.expect("a domain ended");
//! assert_eq!(event.domain(), Some(DomId::new(5)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Do not watch `@releaseDomain/5` unless the server has that feature. Other servers accept the
//! watch, and never fire it. On Linux's device the kernel does not pass a depth on, so that a tool
//! in dom0 must use the socket.
//!
//! # Requests about domains
//!
//! Send these with [`Nodes::call`]. Only domain 0 may, except for the first one.
//!
//! | request | |
//! | --- | --- |
//! | [`Request::domain_path`] | Where is the home of a domain? |
//! | [`Request::is_introduced`] | Does the server serve a domain? |
//! | [`Request::introduce`], [`Request::release`] | Start and stop serving it. |
//! | [`Request::resume`] | It continues after a shutdown, such as a suspend that was cancelled. |
//! | [`Request::set_target`] | Give a device model the rights of its guest. |
//! | [`Request::features_of`], [`Request::set_features`] | Which features does the server offer to it? |
//! | [`Request::quota_of`], [`Request::set_quota_of`] | Which quotas does it have? |
//! | [`Request::control`] | Commands to the server itself. |
//!
//! # In a guest
//!
//! [`Path::home`] and the node `domid` tell a guest who it is. After a migration both change,
//! although the connection stays open. A watch on `domid` then fires, because the kernel sets all
//! watches again. A guest may watch `@introduceDomain` and `@releaseDomain`, but gets no events,
//! except of the latter since Xen 4.22.
//!
//! [`Client::watch_to`]: crate::Client::watch_to
//! [`Depth::CHILDREN`]: crate::Depth::CHILDREN
//! [`Features::WATCH_DEPTH`]: crate::Features::WATCH_DEPTH
//! [`Nodes::call`]: crate::Nodes::call
//! [`Path::home`]: crate::Path::home
//! [`Request::control`]: crate::Request::control
//! [`Request::domain_path`]: crate::Request::domain_path
//! [`Request::features_of`]: crate::Request::features_of
//! [`Request::introduce`]: crate::Request::introduce
//! [`Request::is_introduced`]: crate::Request::is_introduced
//! [`Request::quota_of`]: crate::Request::quota_of
//! [`Request::release`]: crate::Request::release
//! [`Request::resume`]: crate::Request::resume
//! [`Request::set_features`]: crate::Request::set_features
//! [`Request::set_quota_of`]: crate::Request::set_quota_of
//! [`Request::set_target`]: crate::Request::set_target
//! [`WatchEvent::domain`]: crate::WatchEvent::domain
