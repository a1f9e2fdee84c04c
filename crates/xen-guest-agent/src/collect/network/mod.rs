//! Network interfaces and their addresses.

mod netlink;
mod table;
mod vif;

pub use netlink::Netlink;
pub use vif::VifNumbers;
