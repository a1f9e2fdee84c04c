//! A network interface for the demo, so that nobody needs to change a real one.

use std::process::Command;

/// Name of the interface.
pub(crate) const NAME: &str = "demo0";

/// A network interface, which is removed when this is dropped.
pub(crate) struct Interface(());

impl Interface {
    /// Creates the interface with an address of a network for documentation (RFC 5737), and sets it
    /// up.
    pub(crate) fn create() -> Result<Self, String> {
        // Some kernels have no dummy interfaces, and veth pairs serve as well.
        ip(&format!("link add {NAME} type dummy"))
            .or_else(|_| ip(&format!("link add {NAME} type veth peer name {NAME}-peer")))?;

        let interface = Interface(());
        ip(&format!("link set {NAME} up"))?;
        ip(&format!("address add 192.0.2.1/24 dev {NAME}"))?;
        Ok(interface)
    }

    /// Returns a command that changes the interface.
    pub(crate) fn example() -> String {
        let command = format!("ip address add 192.0.2.2/24 dev {NAME}");
        if crate::is_in_user_namespace() {
            let process = std::process::id();
            format!("nsenter --preserve-credentials --user --net --target {process} -- {command}")
        } else {
            format!("sudo {command}")
        }
    }
}

impl Drop for Interface {
    fn drop(&mut self) {
        if let Err(error) = ip(&format!("link delete {NAME}")) {
            crate::print_error(&format!(
                "demo: cannot remove the interface {NAME}: {error}"
            ));
        }
    }
}

/// Runs `ip` (package iproute2). If the command fails, returns its standard error.
fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(errors.trim_end().trim_end_matches('.').to_owned())
    }
}
