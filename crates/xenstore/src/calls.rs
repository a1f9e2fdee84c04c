//! The calls that all clients have, written once: with `&mut self` where they wait and `&self` where they are async.
//!
//! A type that uses these has a method `call`, from a request to the payload of its reply, and `pipeline`.

use crate::error::{Error, Result};
use crate::path::Path;
use crate::permission::Permission;
use crate::wire;

/// Calls about nodes. The first word is `self`, then how it is taken, and `async` and `.await` where they are due.
macro_rules! node_calls {
    ($me:ident [$($receiver:tt)*] [$($async:tt)*] [$($await:tt)*]) => {
        /// The value of the node at `path`.
        ///
        /// # Errors
        /// `ENOENT` where there is none, `EACCES` where it may not be read. Every call may also fail with
        /// [`Error::InvalidPath`](crate::Error::InvalidPath), and with the errors that end a connection
        /// ([`Error::is_fatal`](crate::Error::is_fatal)).
        pub $($async)* fn read($($receiver)*, path: impl AsRef<str>) -> Result<Vec<u8>> {
            $me.call(Request::read(path)?)$($await)*
        }

        /// The value of the node at `path` as text. What is not UTF-8 in it becomes U+FFFD.
        ///
        /// # Errors
        /// As for [`read`](Self::read).
        pub $($async)* fn read_text($($receiver)*, path: impl AsRef<str>) -> Result<String> {
            let value = $me.read(path)$($await)*?;
            Ok(String::from_utf8(value).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
        }

        /// Sets the value of the node at `path`; the node and its parents are made where they are missing.
        ///
        /// # Errors
        /// `EACCES` where it may not be written, `ENOSPC` (C xenstored) or `EQUOTA` (oxenstored) where a quota is full,
        /// `E2BIG` or `ENOSPC` where the value is too long.
        pub $($async)* fn write($($receiver)*, path: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<()> {
            $me.call(Request::write(path, value)?)$($await)*.map(drop)
        }

        /// Makes an empty node at `path`, unless there is one.
        ///
        /// # Errors
        /// As for [`write`](Self::write).
        pub $($async)* fn mkdir($($receiver)*, path: impl AsRef<str>) -> Result<()> {
            $me.call(Request::mkdir(path)?)$($await)*.map(drop)
        }

        /// Removes the node at `path` and all below it, at once: it is one request, whatever changes there meanwhile. None
        /// being there is no error.
        ///
        /// # Errors
        /// `ENOENT` where the node above is missing too, `EACCES` where it may not be removed.
        pub $($async)* fn remove($($receiver)*, path: impl AsRef<str>) -> Result<()> {
            $me.call(Request::remove(path)?)$($await)*.map(drop)
        }

        /// The names of the children of `path`, however many they are.
        ///
        /// # Errors
        /// `ENOENT`, `EACCES`; `E2BIG` where the names have more than 4096 bytes and the server (oxenstored, or FreeBSD's
        /// kernel) does not know `DIRECTORY_PART`; [`Error::InvalidReply`](crate::Error::InvalidReply) for more than 4 MiB of
        /// names, and where they changed 1000 times while they were read.
        pub $($async)* fn list($($receiver)*, path: impl AsRef<str>) -> Result<Vec<String>> {
            $me.call(Request::list(path)?)$($await)*.map(|names| calls::parse_names(&names))
        }

        /// The node at `path` and all below it with their values: each node before those below it, and names in order.
        ///
        /// The tree may change meanwhile: a node that goes is left out, and one that comes may be or not; in a
        /// transaction it does not change. What may not be read is left out too.
        ///
        /// # Errors
        /// As for [`read`](Self::read) where `path` itself cannot be read, and as for [`list`](Self::list);
        /// [`Error::InvalidReply`](crate::Error::InvalidReply) for more than 256 MiB.
        pub $($async)* fn walk($($receiver)*, path: impl AsRef<str>) -> Result<Vec<(Path, Vec<u8>)>> {
            let mut walk = Walk::new(path)?;
            let mut nodes = Vec::new();
            loop {
                let requests = walk.requests()?;
                if requests.is_empty() {
                    return walk::values(nodes);
                }
                nodes.extend(walk.take($me.pipeline(requests)$($await)*?)?);
            }
        }

        /// Owner (the first entry) and permissions of the node at `path`.
        ///
        /// # Errors
        /// `ENOENT`, `EACCES`, [`Error::InvalidReply`](crate::Error::InvalidReply) for permissions of no known kind.
        pub $($async)* fn permissions($($receiver)*, path: impl AsRef<str>) -> Result<Vec<Permission>> {
            calls::parse_permissions(&$me.call(Request::permissions(path)?)$($await)*?)
        }

        /// Sets owner (the first entry) and permissions of the node at `path`.
        ///
        /// # Errors
        /// `ENOENT`, `EACCES`, `EPERM` for giving a node away without being privileged.
        pub $($async)* fn set_permissions(
            $($receiver)*, path: impl AsRef<str>, permissions: &[Permission],
        ) -> Result<()> {
            $me.call(Request::set_permissions(path, permissions)?)$($await)*.map(drop)
        }
    };
}

/// Calls about domains and the server.
macro_rules! domain_calls {
    ($me:ident [$($receiver:tt)*] [$($async:tt)*] [$($await:tt)*]) => {
        /// The absolute path that relative ones of `domain` start from; see [`Request::domain_path`].
        ///
        /// # Errors
        /// Only those that end a connection, and [`Error::InvalidReply`](crate::Error::InvalidReply) where the reply is no path.
        pub $($async)* fn domain_path($($receiver)*, domain: DomId) -> Result<Path> {
            calls::parse_path(&$me.call(Request::domain_path(domain))$($await)*?)
        }

        /// Tells the server of a new domain; see [`Request::introduce`].
        ///
        /// # Errors
        /// `EACCES` for guests, `EINVAL`, and what the hypervisor says.
        pub $($async)* fn introduce($($receiver)*, domain: DomId, frame: u64, event_channel: u32) -> Result<()> {
            $me.call(Request::introduce(domain, frame, event_channel))$($await)*.map(drop)
        }

        /// Tells the server that it need not serve a domain any more; see [`Request::release`].
        ///
        /// # Errors
        /// `EACCES` for guests, `ENOENT`, `EINVAL`.
        pub $($async)* fn release($($receiver)*, domain: DomId) -> Result<()> {
            $me.call(Request::release(domain))$($await)*.map(drop)
        }

        /// Whether the server serves `domain`; see [`Request::is_introduced`].
        ///
        /// # Errors
        /// `EACCES` for guests.
        pub $($async)* fn is_introduced($($receiver)*, domain: DomId) -> Result<bool> {
            calls::parse_truth(&$me.call(Request::is_introduced(domain))$($await)*?)
        }

        /// Tells the server that a domain which had shut down goes on; see [`Request::resume`].
        ///
        /// # Errors
        /// `EACCES` for guests, `ENOENT`, `EINVAL`.
        pub $($async)* fn resume($($receiver)*, domain: DomId) -> Result<()> {
            $me.call(Request::resume(domain))$($await)*.map(drop)
        }

        /// Gives `domain` all the rights of `target`; see [`Request::set_target`].
        ///
        /// # Errors
        /// `EACCES` for guests, `ENOENT`.
        pub $($async)* fn set_target($($receiver)*, domain: DomId, target: DomId) -> Result<()> {
            $me.call(Request::set_target(domain, target))$($await)*.map(drop)
        }

        /// A command to the server itself; see [`Request::control`].
        ///
        /// # Errors
        /// `EACCES` for guests, `EINVAL` for a command that the server does not know.
        pub $($async)* fn control($($receiver)*, command: &str, parameters: &[&str]) -> Result<String> {
            $me.call(Request::control(command, parameters)?)$($await)*.map(|reply| calls::parse_text(&reply))
        }

        /// The features that the server offers to a domain; see [`Request::features`].
        ///
        /// # Errors
        /// `EACCES` for guests that ask for others, `ENOSYS` or `EINVAL` from servers that do not know it.
        pub $($async)* fn features($($receiver)*, domain: Option<DomId>) -> Result<u32> {
            calls::parse_number(&$me.call(Request::features(domain))$($await)*?)
        }

        /// Sets the features that the server offers to a domain; see [`Request::set_features`].
        ///
        /// # Errors
        /// `EACCES` for guests, `EBUSY`, `EINVAL`, and as for [`features`](Self::features).
        pub $($async)* fn set_features($($receiver)*, domain: DomId, features: u32) -> Result<()> {
            $me.call(Request::set_features(domain, features))$($await)*.map(drop)
        }

        /// The names of the server's quotas; see [`Request::quota_names`].
        ///
        /// # Errors
        /// `EACCES` for guests, `ENOSYS` or `EINVAL` from servers that do not know it.
        pub $($async)* fn quota_names($($receiver)*) -> Result<Vec<String>> {
            let names = calls::parse_text(&$me.call(Request::quota_names())$($await)*?);
            Ok(names.split_ascii_whitespace().map(str::to_owned).collect())
        }

        /// The value of a quota; see [`Request::quota`].
        ///
        /// # Errors
        /// As for [`quota_names`](Self::quota_names); `EINVAL` for a quota that the server does not have.
        pub $($async)* fn quota($($receiver)*, domain: Option<DomId>, name: &str) -> Result<u32> {
            calls::parse_number(&$me.call(Request::quota(domain, name)?)$($await)*?)
        }

        /// Sets a quota; see [`Request::set_quota`].
        ///
        /// # Errors
        /// As for [`quota`](Self::quota).
        pub $($async)* fn set_quota($($receiver)*, domain: Option<DomId>, name: &str, value: u32) -> Result<()> {
            $me.call(Request::set_quota(domain, name, value)?)$($await)*.map(drop)
        }
    };
}

pub(crate) use {domain_calls, node_calls};

pub(crate) fn parse_names(payload: &[u8]) -> Vec<String> {
    wire::strings(payload)
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

pub(crate) fn parse_permissions(payload: &[u8]) -> Result<Vec<Permission>> {
    wire::strings(payload)
        .map(|text| {
            let wrong =
                || Error::InvalidReply(format!("'{}' is not a permission", text.escape_ascii()));
            Permission::parse(text).ok_or_else(wrong)
        })
        .collect()
}

pub(crate) fn parse_path(payload: &[u8]) -> Result<Path> {
    Path::new(parse_text(payload))
        .map_err(|error| Error::InvalidReply(format!("a domain's path: {error}")))
}

pub(crate) fn parse_text(payload: &[u8]) -> String {
    String::from_utf8_lossy(wire::strings(payload).next().unwrap_or_default()).into_owned()
}

pub(crate) fn parse_number(payload: &[u8]) -> Result<u32> {
    let text = parse_text(payload);
    text.parse()
        .map_err(|_| Error::InvalidReply(format!("'{}' is not a number", text.escape_debug())))
}

pub(crate) fn parse_truth(payload: &[u8]) -> Result<bool> {
    match parse_text(payload).as_str() {
        "T" => Ok(true),
        "F" => Ok(false),
        other => Err(Error::InvalidReply(format!(
            "'{}' is neither T nor F",
            other.escape_debug()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_mean_what_they_say_or_are_refused() {
        assert_eq!(
            parse_path(b"/local/domain/5\0").unwrap().as_str(),
            "/local/domain/5"
        );
        assert_eq!(parse_number(b"128\0").unwrap(), 128);
        assert_eq!(
            (parse_truth(b"T\0").unwrap(), parse_truth(b"F\0").unwrap()),
            (true, false)
        );
        assert!(matches!(
            parse_path(b"no path\0"),
            Err(Error::InvalidReply(_))
        ));
        assert!(matches!(parse_truth(b"\0"), Err(Error::InvalidReply(_))));
        for text in [b"".as_slice(), b"-1\0", b"1 2\0", b"4294967296\0"] {
            assert!(
                matches!(parse_number(text), Err(Error::InvalidReply(_))),
                "{}",
                text.escape_ascii()
            );
        }
        assert!(matches!(
            parse_permissions(b"n0\0r\0"),
            Err(Error::InvalidReply(_))
        ));
    }
}
