//! Actions of `examples/confined.rs` and their results in every environment of the agent.

/// Actions that the confined agent needs.
pub const ALLOWED_ACTIONS: [&str; 4] = ["read-etc", "read-proc", "write-state", "unix-socket"];

/// Actions that fail without ending the process, because Landlock, a file mode or a mount denies
/// them.
pub const DENIED_ACTIONS: [&str; 5] = [
    "write-etc",
    "create-etc",
    "write-run",
    "read-home",
    "write-sysctl",
];
