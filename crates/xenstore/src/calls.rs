//! Calls that the blocking and the async client and their transactions have in common.
//!
//! The macros take `&mut self` for blocking calls and `&self` for async ones. A type that uses them
//! needs the methods `call`, which returns the payload of the reply to a request, and `pipeline`.

use crate::error::{Error, Result};
use crate::escape::excerpt;
use crate::path::Path;
use crate::permission::Permission;
use crate::wire;

/// Calls about nodes. Arguments: `self`, the receiver, and for async calls `async` and `.await`.
macro_rules! node_calls {
    ($me:ident [$($receiver:tt)*] [$($async:tt)*] [$($await:tt)*]) => {
        /// Returns the value of the node at `path`.
        ///
        /// # Errors
        /// `ENOENT` if the node does not exist, `EACCES` without read access. Every call can also
        /// fail with [`Error::InvalidPath`](crate::Error::InvalidPath), and with the errors that
        /// close the connection ([`Error::is_fatal`](crate::Error::is_fatal)).
        pub $($async)* fn read($($receiver)*, path: impl AsRef<str>) -> Result<Vec<u8>> {
            $me.call(Request::read(path)?)$($await)*
        }

        /// Returns the value of the node at `path` as text. Bytes that are not valid UTF-8 become
        /// U+FFFD.
        ///
        /// # Errors
        /// Those of [`read`](Self::read).
        pub $($async)* fn read_text($($receiver)*, path: impl AsRef<str>) -> Result<String> {
            let value = $me.read(path)$($await)*?;
            Ok(String::from_utf8(value).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
        }

        /// Sets the value of the node at `path`. Creates the node and its parents if they are
        /// missing.
        ///
        /// # Errors
        /// `EACCES` without write access, `ENOSPC` (C xenstored) or `EQUOTA` (oxenstored) if a
        /// quota is reached, `E2BIG` or `ENOSPC` if the value is too long.
        pub $($async)* fn write($($receiver)*, path: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<()> {
            $me.call(Request::write(path, value)?)$($await)*.map(drop)
        }

        /// Creates an empty node at `path`, unless the node exists.
        ///
        /// # Errors
        /// Those of [`write`](Self::write).
        pub $($async)* fn mkdir($($receiver)*, path: impl AsRef<str>) -> Result<()> {
            $me.call(Request::mkdir(path)?)$($await)*.map(drop)
        }

        /// Removes the node at `path` and all nodes below it, in one atomic request.
        ///
        /// Removing a missing node succeeds if its parent exists.
        ///
        /// # Errors
        /// `ENOENT` if the parent is missing too, `EACCES` without write access.
        pub $($async)* fn remove($($receiver)*, path: impl AsRef<str>) -> Result<()> {
            $me.call(Request::remove(path)?)$($await)*.map(drop)
        }

        /// Returns the names of the children of `path`.
        ///
        /// # Errors
        /// `ENOENT` if the node does not exist, `EACCES` without read access. `E2BIG` for more than
        /// 4096 bytes of names, if the server or kernel does not support `DIRECTORY_PART`
        /// (oxenstored, FreeBSD). [`Error::InvalidReply`](crate::Error::InvalidReply) for more than
        /// 4 MiB of names, and if the list changed 1000 times while it was fetched.
        pub $($async)* fn list($($receiver)*, path: impl AsRef<str>) -> Result<Vec<String>> {
            $me.call(Request::list(path)?)$($await)*.map(|names| calls::parse_names(&names))
        }

        /// Returns the paths and values of the node at `path` and of all nodes below it.
        ///
        /// A node precedes its children, and siblings are sorted by name. Nodes without read access
        /// are omitted. Outside of a transaction the tree may change during the call: nodes that
        /// are removed meanwhile are omitted, and nodes that are created meanwhile may be missing.
        ///
        /// # Errors
        /// Those of [`read`](Self::read) for `path` itself, and those of [`list`](Self::list).
        /// [`Error::InvalidReply`](crate::Error::InvalidReply) for more than 256 MiB of paths and
        /// values.
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

        /// Returns the permissions of the node at `path`. The first entry names the owner.
        ///
        /// # Errors
        /// `ENOENT` if the node does not exist, `EACCES` without read access,
        /// [`Error::InvalidReply`](crate::Error::InvalidReply) for malformed permissions.
        pub $($async)* fn permissions($($receiver)*, path: impl AsRef<str>) -> Result<Vec<Permission>> {
            calls::parse_permissions(&$me.call(Request::permissions(path)?)$($await)*?)
        }

        /// Sets the permissions of the node at `path`. The first entry names the owner.
        ///
        /// # Errors
        /// `ENOENT` if the node does not exist, `EACCES` if another domain owns it, `EPERM` if a
        /// domain other than domain 0 changes the owner.
        pub $($async)* fn set_permissions(
            $($receiver)*, path: impl AsRef<str>, permissions: &[Permission],
        ) -> Result<()> {
            $me.call(Request::set_permissions(path, permissions)?)$($await)*.map(drop)
        }
    };
}

/// Calls about domains and about the server.
macro_rules! domain_calls {
    ($me:ident [$($receiver:tt)*] [$($async:tt)*] [$($await:tt)*]) => {
        /// Returns the absolute path of a domain's home; see [`Request::domain_path`].
        ///
        /// # Errors
        /// Those that close the connection, and [`Error::InvalidReply`](crate::Error::InvalidReply)
        /// if the reply is not a path.
        pub $($async)* fn domain_path($($receiver)*, domain: DomId) -> Result<Path> {
            calls::parse_path(&$me.call(Request::domain_path(domain))$($await)*?)
        }

        /// Introduces a new domain to the server; see [`Request::introduce`].
        ///
        /// # Errors
        /// `EACCES` for guests, `EINVAL` for an invalid argument, and errors of the hypervisor.
        pub $($async)* fn introduce($($receiver)*, domain: DomId, frame: u64, event_channel: u32) -> Result<()> {
            $me.call(Request::introduce(domain, frame, event_channel))$($await)*.map(drop)
        }

        /// Makes the server stop serving a domain; see [`Request::release`].
        ///
        /// # Errors
        /// `EACCES` for guests, `ENOENT` for a domain that is not introduced, `EINVAL` for domain
        /// 0.
        pub $($async)* fn release($($receiver)*, domain: DomId) -> Result<()> {
            $me.call(Request::release(domain))$($await)*.map(drop)
        }

        /// Returns whether a domain is introduced; see [`Request::is_introduced`].
        ///
        /// # Errors
        /// `EACCES` for guests.
        pub $($async)* fn is_introduced($($receiver)*, domain: DomId) -> Result<bool> {
            calls::parse_bool(&$me.call(Request::is_introduced(domain))$($await)*?)
        }

        /// Tells the server that a domain continues after a shutdown; see [`Request::resume`].
        ///
        /// # Errors
        /// `EACCES` for guests, `ENOENT` for a domain that is not introduced, `EINVAL` for domain
        /// 0.
        pub $($async)* fn resume($($receiver)*, domain: DomId) -> Result<()> {
            $me.call(Request::resume(domain))$($await)*.map(drop)
        }

        /// Gives `domain` all access rights of `target`; see [`Request::set_target`].
        ///
        /// # Errors
        /// `EACCES` for guests, `ENOENT` if one of the domains is not introduced.
        pub $($async)* fn set_target($($receiver)*, domain: DomId, target: DomId) -> Result<()> {
            $me.call(Request::set_target(domain, target))$($await)*.map(drop)
        }

        /// Sends a command to the server and returns its output; see [`Request::control`].
        ///
        /// # Errors
        /// `EACCES` for guests, `EINVAL` for an unknown command.
        pub $($async)* fn control($($receiver)*, command: &str, parameters: &[&str]) -> Result<String> {
            $me.call(Request::control(command, parameters)?)$($await)*.map(|reply| calls::parse_text(&reply))
        }

        /// Returns the features that the server offers to a domain; see [`Request::features`].
        ///
        /// # Errors
        /// `EACCES` for a guest that asks about another domain, `ENOSYS` or `EINVAL` if the server
        /// does not support the request.
        pub $($async)* fn features($($receiver)*, domain: Option<DomId>) -> Result<u32> {
            calls::parse_number(&$me.call(Request::features(domain))$($await)*?)
        }

        /// Sets the features that the server offers to a domain; see [`Request::set_features`].
        ///
        /// # Errors
        /// `EACCES` for guests, `EBUSY` for an introduced domain, `EINVAL` for an unknown feature,
        /// and those of [`features`](Self::features).
        pub $($async)* fn set_features($($receiver)*, domain: DomId, features: u32) -> Result<()> {
            $me.call(Request::set_features(domain, features))$($await)*.map(drop)
        }

        /// Returns the names of the server's quotas; see [`Request::quota_names`].
        ///
        /// # Errors
        /// `EACCES` for guests, `ENOSYS` or `EINVAL` if the server does not support the request.
        pub $($async)* fn quota_names($($receiver)*) -> Result<Vec<String>> {
            let names = calls::parse_text(&$me.call(Request::quota_names())$($await)*?);
            Ok(names.split_ascii_whitespace().map(str::to_owned).collect())
        }

        /// Returns the value of a quota; see [`Request::quota`].
        ///
        /// # Errors
        /// Those of [`quota_names`](Self::quota_names), and `EINVAL` for an unknown quota.
        pub $($async)* fn quota($($receiver)*, domain: Option<DomId>, name: &str) -> Result<u32> {
            calls::parse_number(&$me.call(Request::quota(domain, name)?)$($await)*?)
        }

        /// Sets a quota; see [`Request::set_quota`].
        ///
        /// # Errors
        /// Those of [`quota`](Self::quota).
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
            Permission::parse(text).ok_or_else(|| {
                let text = String::from_utf8_lossy(text);
                Error::InvalidReply(format!("'{}' is not a permission", excerpt(&text)))
            })
        })
        .collect()
}

pub(crate) fn parse_path(payload: &[u8]) -> Result<Path> {
    Path::new(parse_text(payload))
        .map_err(|error| Error::InvalidReply(format!("path of a domain: {error}")))
}

pub(crate) fn parse_text(payload: &[u8]) -> String {
    String::from_utf8_lossy(wire::strings(payload).next().unwrap_or_default()).into_owned()
}

pub(crate) fn parse_number(payload: &[u8]) -> Result<u32> {
    let text = parse_text(payload);
    text.parse()
        .map_err(|_| Error::InvalidReply(format!("'{}' is not a number", excerpt(&text))))
}

pub(crate) fn parse_bool(payload: &[u8]) -> Result<bool> {
    match parse_text(payload).as_str() {
        "T" => Ok(true),
        "F" => Ok(false),
        other => Err(Error::InvalidReply(format!(
            "'{}' is neither T nor F",
            excerpt(other)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorCode;
    use crate::escape::escape;
    use crate::event::WatchEvent;

    #[test]
    fn malformed_replies_are_rejected() {
        assert_eq!(
            parse_path(b"/local/domain/5\0").unwrap().as_str(),
            "/local/domain/5"
        );
        assert_eq!(parse_number(b"128\0").unwrap(), 128);
        assert_eq!(
            (parse_bool(b"T\0").unwrap(), parse_bool(b"F\0").unwrap()),
            (true, false)
        );
        assert!(matches!(
            parse_path(b"no path\0"),
            Err(Error::InvalidReply(_))
        ));
        assert!(matches!(parse_bool(b"\0"), Err(Error::InvalidReply(_))));
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

    /// Maximum length in bytes of an error about a reply.
    const MESSAGE_LEN: usize = 500;

    proptest! {
        #[test]
        fn errors_never_contain_raw_text_of_the_server(payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            "[\\x00-\\xff\u{202e}]{0,300}".prop_map(String::into_bytes),
        ]) {
            let code = ErrorCode::from_name(&parse_text(&payload));
            let errors = [
                parse_path(&payload).err(),
                parse_number(&payload).err(),
                parse_bool(&payload).err(),
                parse_permissions(&payload).err(),
                WatchEvent::parse(&payload).err(),
            ];
            let messages = errors.into_iter().flatten().map(|error| error.to_string());
            for message in messages.chain([code.to_string()]) {
                prop_assert!(message.len() <= MESSAGE_LEN, "{}", message.len());
                prop_assert_eq!(escape(&message), message.as_str());
            }
        }
    }
}
