//! Requests about domains and about the server.

use crate::domid::DomId;
use crate::error::{Error, Result};
use crate::features::Features;
use crate::path::Path;
use crate::reply;
use crate::request::Request;
use crate::wire::MessageKind;

impl Request {
    /// Asks for the absolute path of a domain's home, from which its relative paths start.
    ///
    /// Every domain may ask, and the domain need not exist. Payload: `domid|`. Reply: the path.
    pub fn domain_path(domain: impl Into<DomId>) -> Request<Path> {
        numbers(MessageKind::GET_DOMAIN_PATH, &[number(domain)], reply::path)
    }

    /// Introduces a new domain to the server.
    ///
    /// The domain's Xenstore page is at guest frame `frame`, and `event_channel` is its event
    /// channel for Xenstore. Payload: `domid|frame|channel|`.
    ///
    /// If the domain is introduced already, C xenstored treats this as its resume. The errors are
    /// `EINVAL` for domain 0 and for an invalid event channel, and the hypervisor's error if it
    /// cannot map the page or bind the channel.
    pub fn introduce(domain: impl Into<DomId>, frame: u64, event_channel: u32) -> Request<()> {
        numbers(
            MessageKind::INTRODUCE,
            &[number(domain), frame, event_channel.into()],
            reply::ignore,
        )
    }

    /// Makes the server stop serving a domain. Payload: `domid|`.
    ///
    /// The errors are `ENOENT` for a domain that is not introduced, and `EINVAL` for domain 0.
    pub fn release(domain: impl Into<DomId>) -> Request<()> {
        numbers(MessageKind::RELEASE, &[number(domain)], reply::ignore)
    }

    /// Asks whether a domain is introduced. Payload: `domid|`. Reply: `T` or `F`.
    pub fn is_introduced(domain: impl Into<DomId>) -> Request<bool> {
        numbers(
            MessageKind::IS_DOMAIN_INTRODUCED,
            &[number(domain)],
            reply::boolean,
        )
    }

    /// Tells the server that a domain continues after a shutdown, so that `@releaseDomain` fires at
    /// its next shutdown. Payload: `domid|`.
    ///
    /// The errors are `ENOENT` for a domain that is not introduced, and `EINVAL` for domain 0.
    pub fn resume(domain: impl Into<DomId>) -> Request<()> {
        numbers(MessageKind::RESUME, &[number(domain)], reply::ignore)
    }

    /// Gives `domain` all access rights of `target` in addition to its own. Payload:
    /// `domid|target|`.
    ///
    /// A device model that runs in a domain of its own needs the rights of its guest. The error is
    /// `ENOENT` if one of the domains is not introduced.
    pub fn set_target(domain: impl Into<DomId>, target: impl Into<DomId>) -> Request<()> {
        numbers(
            MessageKind::SET_TARGET,
            &[number(domain), number(target)],
            reply::ignore,
        )
    }

    /// Ends all watches and transactions of the connection. Every domain may send this. Payload:
    /// `|`. Like [`watch`](Self::watch), this is not for clients.
    ///
    /// A connection over a device does not send this, because a guest has only one connection to
    /// the server, so that the kernel's watches would end too.
    pub fn reset_watches() -> Request<()> {
        without_arguments(MessageKind::RESET_WATCHES, reply::ignore)
    }

    /// Sends a command to the server, such as `check`, `log on` or `memreport`. Payload:
    /// `command|parameter|...|`. Reply: text.
    ///
    /// Each server and version has its own commands, which the command `help` lists. The error is
    /// `EINVAL` for an unknown command.
    ///
    /// # Errors
    /// For a command or parameter that contains a NUL.
    pub fn control(command: &str, parameters: &[&str]) -> Result<Request<String>> {
        let all = [&[command], parameters].concat();
        strings(MessageKind::CONTROL, &all, reply::text)
    }

    /// Asks for the features that the server offers to this connection. Every domain may ask.
    ///
    /// Payload: `|`. If the server refuses that, the request is sent again without a payload. Reply:
    /// a number in which each bit stands for a feature.
    ///
    /// Only C xenstored since Xen 4.22 supports this. Other servers, such as oxenstored, reply
    /// `ENOSYS`. [`Client::features`](crate::Client::features) returns no features then.
    pub fn features() -> Request<Features> {
        without_arguments(MessageKind::GET_FEATURE, reply::features)
    }

    /// Asks for the features that the server offers to `domain`. Payload: `domid|`. Reply: as for
    /// [`features`](Self::features), which the same servers support.
    pub fn features_of(domain: impl Into<DomId>) -> Request<Features> {
        numbers(MessageKind::GET_FEATURE, &[number(domain)], reply::features)
    }

    /// Sets the features that the server offers to `domain`, before the domain is introduced.
    /// Payload: `domid|features|`.
    ///
    /// The errors are `EBUSY` if the domain is introduced already, and `EINVAL` for an unknown
    /// feature. The same servers as for [`features`](Self::features) support this.
    pub fn set_features(domain: impl Into<DomId>, features: Features) -> Request<()> {
        numbers(
            MessageKind::SET_FEATURE,
            &[number(domain), features.bits().into()],
            reply::ignore,
        )
    }

    /// Asks for the names of the server's quotas. Payload: `|`. If the server refuses that,
    /// the request is sent again without a payload. Reply: the names, separated by spaces.
    ///
    /// The same servers as for [`features`](Self::features) support this.
    pub fn quota_names() -> Request<Vec<String>> {
        without_arguments(MessageKind::GET_QUOTA, reply::words)
    }

    /// Asks for a quota that holds for all domains without one of their own. Payload: `name|`.
    /// Reply: the number.
    ///
    /// The error is `EINVAL` for an unknown quota. The same servers as for
    /// [`features`](Self::features) support this.
    ///
    /// # Errors
    /// For a name that contains a NUL.
    pub fn quota(name: &str) -> Result<Request<u32>> {
        strings(MessageKind::GET_QUOTA, &[name], reply::number)
    }

    /// Asks for a quota of `domain`; see [`quota`](Self::quota). Payload: `domid|name|`.
    ///
    /// # Errors
    /// For a name that contains a NUL.
    pub fn quota_of(domain: impl Into<DomId>, name: &str) -> Result<Request<u32>> {
        let domain = domain.into().to_string();
        strings(MessageKind::GET_QUOTA, &[&domain, name], reply::number)
    }

    /// Sets a quota for all domains without one of their own; see [`quota`](Self::quota). Payload:
    /// `name|value|`.
    ///
    /// # Errors
    /// For a name that contains a NUL.
    pub fn set_quota(name: &str, value: u32) -> Result<Request<()>> {
        let value = value.to_string();
        strings(MessageKind::SET_QUOTA, &[name, &value], reply::ignore)
    }

    /// Sets a quota of `domain`; see [`quota`](Self::quota). Payload: `domid|name|value|`.
    ///
    /// # Errors
    /// For a name that contains a NUL.
    pub fn set_quota_of(domain: impl Into<DomId>, name: &str, value: u32) -> Result<Request<()>> {
        let (domain, value) = (domain.into().to_string(), value.to_string());
        strings(
            MessageKind::SET_QUOTA,
            &[&domain, name, &value],
            reply::ignore,
        )
    }
}

/// Returns a request with an empty string as its payload, because oxenstored 4.17 does not reply to
/// an empty payload. Servers that know `GET_FEATURE` and `GET_QUOTA` take the string for an
/// argument and refuse it, so that a connection then sends those two without a payload.
fn without_arguments<T>(kind: MessageKind, parse: fn(Vec<u8>) -> Result<T, String>) -> Request<T> {
    Request::new(kind, b"\0".to_vec(), parse)
}

fn number(domain: impl Into<DomId>) -> u64 {
    domain.into().get().into()
}

fn numbers<T>(
    kind: MessageKind,
    numbers: &[u64],
    parse: fn(Vec<u8>) -> Result<T, String>,
) -> Request<T> {
    let payload = numbers
        .iter()
        .flat_map(|number| format!("{number}\0").into_bytes())
        .collect();
    Request::new(kind, payload, parse)
}

fn strings<T>(
    kind: MessageKind,
    strings: &[&str],
    parse: fn(Vec<u8>) -> Result<T, String>,
) -> Result<Request<T>> {
    let mut payload = Vec::new();
    for string in strings {
        if string.contains('\0') {
            let reason = "a parameter contains a NUL".to_owned();
            return Err(Error::InvalidRequest {
                operation: kind,
                path: None,
                reason,
            });
        }
        payload.extend_from_slice(string.as_bytes());
        payload.push(0);
    }
    Ok(Request::new(kind, payload, parse))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_payloads() {
        let cases: [(Request, MessageKind, &[u8]); 17] = [
            (
                Request::domain_path(5).untyped(),
                MessageKind::GET_DOMAIN_PATH,
                b"5\0",
            ),
            (
                Request::introduce(5, 1 << 33, 2).untyped(),
                MessageKind::INTRODUCE,
                b"5\x008589934592\x002\0",
            ),
            (Request::release(5).untyped(), MessageKind::RELEASE, b"5\0"),
            (
                Request::is_introduced(0).untyped(),
                MessageKind::IS_DOMAIN_INTRODUCED,
                b"0\0",
            ),
            (Request::resume(5).untyped(), MessageKind::RESUME, b"5\0"),
            (
                Request::set_target(6, 5).untyped(),
                MessageKind::SET_TARGET,
                b"6\x005\0",
            ),
            (
                Request::reset_watches().untyped(),
                MessageKind::RESET_WATCHES,
                b"\0",
            ),
            (
                Request::control("check", &[]).unwrap().untyped(),
                MessageKind::CONTROL,
                b"check\0",
            ),
            (
                Request::control("log", &["on"]).unwrap().untyped(),
                MessageKind::CONTROL,
                b"log\0on\0",
            ),
            (
                Request::features().untyped(),
                MessageKind::GET_FEATURE,
                b"\0",
            ),
            (
                Request::features_of(5).untyped(),
                MessageKind::GET_FEATURE,
                b"5\0",
            ),
            (
                Request::set_features(5, Features::from_bits(3)).untyped(),
                MessageKind::SET_FEATURE,
                b"5\x003\0",
            ),
            (
                Request::quota_names().untyped(),
                MessageKind::GET_QUOTA,
                b"\0",
            ),
            (
                Request::quota("nodes").unwrap().untyped(),
                MessageKind::GET_QUOTA,
                b"nodes\0",
            ),
            (
                Request::quota_of(5, "nodes").unwrap().untyped(),
                MessageKind::GET_QUOTA,
                b"5\0nodes\0",
            ),
            (
                Request::set_quota("nodes", 9).unwrap().untyped(),
                MessageKind::SET_QUOTA,
                b"nodes\x009\0",
            ),
            (
                Request::set_quota_of(5, "nodes", 9).unwrap().untyped(),
                MessageKind::SET_QUOTA,
                b"5\0nodes\x009\0",
            ),
        ];
        for (request, kind, payload) in cases {
            assert_eq!(
                (request.kind, request.payload.as_slice(), request.path()),
                (kind, payload, None)
            );
        }
        for refused in [
            Request::control("a\0b", &[]).map(Request::untyped),
            Request::control("a", &["\0"]).map(Request::untyped),
            Request::quota("\0").map(Request::untyped),
        ] {
            assert!(
                matches!(refused, Err(Error::InvalidRequest { .. })),
                "{refused:?}"
            );
        }
    }
}
