//! Names of the kernel, from uname(3).

/// Returns the name of the kernel, as `uname -s` prints it.
pub fn system() -> String {
    rustix::system::uname()
        .sysname()
        .to_string_lossy()
        .into_owned()
}

/// Returns the release of the kernel, as `uname -r` prints it.
pub fn release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// Returns the node name of the system if it has one, as `uname -n` prints it.
pub fn host_name() -> Option<String> {
    let names = rustix::system::uname();
    let name = names.nodename().to_string_lossy();
    (!name.is_empty()).then(|| name.into_owned())
}
