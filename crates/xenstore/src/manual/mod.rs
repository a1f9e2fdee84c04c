//! Manual: how to do things with this library.
//!
//! The pages answer questions that concern more than one type. All examples run without Xen, on the
//! [embedded store](crate::embedded). In a guest or in dom0, replace the lines that start a server
//! by `open` of the client.
//!
//! | page | question |
//! | --- | --- |
//! | [`choosing`] | Which client do I need? One connection or two? What do I do after an error? |
//! | [`event_loops`] | How do I use poll(2), epoll(7) or mio? |
//! | [`transactions`] | When do I need a transaction, and what may its body do? |
//! | [`servers`] | Which limits and error codes do servers and kernels have? |
//! | [`testing`] | How do I test my program without Xen, and provoke faults? |

pub mod choosing;
pub mod event_loops;
pub mod servers;
pub mod testing;
pub mod transactions;
