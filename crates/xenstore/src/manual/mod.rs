//! Manual: how to do things with this library.
//!
//! The pages answer questions that concern more than one type. All examples run without Xen, on the
//! [embedded store](crate::embedded); most of them hide the lines that start its server. In your
//! program, replace `Client::new(server.connect(5)?.into())` by `Client::open()?`, and so for an
//! `AsyncClient`. For a `Connection`, use `Connection::new(Transport::open()?)`; for a
//! `SharedClient`, `SharedClient::new(Client::open()?)?`.
//!
//! | page | question |
//! | --- | --- |
//! | [`choosing`] | Which client do I need? One connection or two? What do I do after an error? |
//! | [`event_loops`] | How do I use poll(2), epoll(7) or mio? |
//! | [`transactions`] | When do I need a transaction, and what may its body do? |
//! | [`permissions`] | Who may read and write a node? Where may a guest write? |
//! | [`domains`] | How does a tool in dom0 follow the domains of its host? |
//! | [`servers`] | Which limits and error codes do servers and kernels have? |
//! | [`testing`] | How do I test my program without Xen, and provoke faults? |
//! | [`coming_from`] | Which calls replace those of libxenstore, xenstore-rs or pyxs? |
//! | [`comparison`] | What do others have that this library lacks, and the other way round? |

pub mod choosing;
pub mod coming_from;
pub mod comparison;
pub mod domains;
pub mod event_loops;
pub mod permissions;
pub mod servers;
pub mod testing;
pub mod transactions;
