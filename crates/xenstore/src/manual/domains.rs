//! Follow the domains of a host, and send requests about them.
//!
//! This page is for tools in dom0. The last section is for guests.
//!
//! # Follow them
//!
//! [`Client::watch_domains`] and [`SharedClient::watch_domains`] set the watches, and return a list
//! of [`Domains`]. Pass each watch event to the list. It returns what changed, beginning with the
//! domains that exist already:
//!
//! ```
//! use xenstore::{Client, DomId, DomainEvent, Nodes, Optional, Path};
//! # use xenstore::embedded::{Server, Store, Toolstack};
//! # let mut store = Store::new();
//! # store.introduce_guest(5, Toolstack::Xapi);
//! # let server = Server::new(store).spawn()?;
//!
//! // In dom0, use `Client::open()?`.
//! let mut client = Client::new(server.connect(DomId::DOM0)?.into());
//! let mut domains = client.watch_domains()?;
//! # let mut changes = Vec::new();
//! while let Some(event) = client.next_watch_event(None)? {
//!     for change in domains.on_event(&mut client, &event)? {
//! #       changes.push(change);
//!         match change {
//!             DomainEvent::Introduced(domain) => {
//!                 let name = Path::home(domain).join("name")?;
//!                 println!("{domain}: {:?} started", client.read_text(name).optional()?);
//!             }
//!             DomainEvent::Released(domain) => println!("{domain} ended"),
//!             _ => {}
//!         }
//! #       if change == DomainEvent::Introduced(5.into()) {
//! #           server.with(|server| server.store_mut().destroy_guest(5));
//! #       }
//!     }
//! #   if changes.last() == Some(&DomainEvent::Released(5.into())) {
//! #       break;
//! #   }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! To have the list first and then its changes, call [`update`] after `watch_domains`. Events report
//! only later changes then:
//!
//! ```
//! # use xenstore::{Client, DomId};
//! # use xenstore::embedded::{Server, Store, Toolstack};
//! # let mut store = Store::new();
//! # store.introduce_guest(5, Toolstack::Xapi);
//! # let server = Server::new(store).spawn()?;
//! # let mut client = Client::new(server.connect(DomId::DOM0)?.into());
//! let mut domains = client.watch_domains()?;
//! domains.update(&mut client)?;
//! for domain in domains.iter() {
//!     println!("{domain} runs already");
//! }
//! # assert!(domains.iter().eq([0.into(), 5.into()]));
//! # while let Some(event) = client.next_watch_event(Some(std::time::Duration::ZERO))? {
//! #     assert_eq!(domains.on_event(&mut client, &event)?, []);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`AsyncClient::watch_domains`] returns the changes as a stream. A [`Connection`] cannot update
//! [`Domains`], which waits for replies: watch `@introduceDomain` and `@releaseDomain` yourself, and
//! send [`Request::is_introduced`] for each home.
//!
//! # Know the servers
//!
//! | | C xenstored before 4.22, oxenstored | C xenstored since 4.22 |
//! | --- | --- | --- |
//! | an event names the domain | no | if the watch has a depth: [`WatchEvent::domain`] |
//! | a shutdown is told from an end | no | yes, as [`DomainEvent::Shutdown`] |
//! | a domain without a home is found | no: call [`update`] later | yes |
//! | `@releaseDomain/5` | accepted, but never fires | fires for domain 5 |
//!
//! - The library asks the server once whether it has [`Features::WATCH_DEPTH`], and hides the
//!   difference as far as possible. On Linux's device the kernel does not pass a depth on, so that
//!   a tool in dom0 should use the socket, as `open` does.
//! - libxl and xapi create the home first. Other toolstacks may not. If a new domain has no name
//!   yet, read it again a little later, or watch its home.
//! - Xen gives the ID of an ended domain to another one later. The node `vm` in the home leads to
//!   the UUID, which stays.
//!
//! # Requests about domains
//!
//! Send these with [`Nodes::call`]. Every domain may send the first one, and
//! [`Request::features`] about itself. Only domain 0 may send the others.
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
//! The node `domid` has the ID of the guest, and [`Path::home`] makes its home of that. After a
//! migration both change. A watch of `domid` fires then, see
//! [`choosing`](super::choosing#after-an-error). A guest may watch `@introduceDomain` and `@releaseDomain`, but gets no events,
//! except of the latter since Xen 4.22.
//!
//! [`AsyncClient::watch_domains`]: crate::AsyncClient::watch_domains
//! [`Client::watch_domains`]: crate::Client::watch_domains
//! [`Connection`]: crate::Connection
//! [`DomainEvent::Shutdown`]: crate::DomainEvent::Shutdown
//! [`Domains`]: crate::Domains
//! [`Features::WATCH_DEPTH`]: crate::Features::WATCH_DEPTH
//! [`Nodes::call`]: crate::Nodes::call
//! [`Path::home`]: crate::Path::home
//! [`Request::control`]: crate::Request::control
//! [`Request::domain_path`]: crate::Request::domain_path
//! [`Request::features_of`]: crate::Request::features_of
//! [`Request::features`]: crate::Request::features
//! [`Request::introduce`]: crate::Request::introduce
//! [`Request::is_introduced`]: crate::Request::is_introduced
//! [`Request::quota_of`]: crate::Request::quota_of
//! [`Request::release`]: crate::Request::release
//! [`Request::resume`]: crate::Request::resume
//! [`Request::set_features`]: crate::Request::set_features
//! [`Request::set_quota_of`]: crate::Request::set_quota_of
//! [`Request::set_target`]: crate::Request::set_target
//! [`SharedClient::watch_domains`]: crate::SharedClient::watch_domains
//! [`update`]: crate::Domains::update
//! [`WatchEvent::domain`]: crate::WatchEvent::domain
