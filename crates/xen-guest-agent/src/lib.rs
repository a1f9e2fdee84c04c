//! Library of the guest agent.
//!
//! [`platform`] knows the operating system, [`collect`] fills a [`guest::Guest`], a [`schema`]
//! renders it to a tree, [`publish`] makes Xenstore equal the tree, [`agent`] decides what to do
//! next, and [`daemon`] is the event loop. `docs/architecture.md` explains the design.

pub mod agent;
pub mod cli;
pub mod collect;
pub mod confine;
pub mod daemon;
pub mod domain;
pub mod error;
pub mod guest;
pub mod logging;
pub mod other_agents;
pub mod platform;
pub mod publish;
pub mod rate_limit;
pub mod root;
pub mod runtime_dir;
pub mod schema;
pub mod service_manager;
pub mod settings;
pub mod show;
pub mod signals;
pub mod status;
mod text;
pub mod withdraw;

/// Names of the modules above. They are the known targets of a log filter.
const MODULES: &[&str] = &[
    "agent",
    "cli",
    "collect",
    "confine",
    "daemon",
    "domain",
    "error",
    "guest",
    "logging",
    "other_agents",
    "platform",
    "publish",
    "rate_limit",
    "root",
    "runtime_dir",
    "schema",
    "service_manager",
    "settings",
    "show",
    "signals",
    "status",
    "text",
    "withdraw",
];
