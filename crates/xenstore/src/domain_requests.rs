//! Requests about domains and about the server itself, most of them for domain 0 only.
//!
//! Where a function's docs name no other, both servers know the request, and a guest that makes it is told `EACCES`. The
//! replies of those that say nothing of one are `OK`.

use crate::error::{Error, Result};
use crate::permission::DomId;
use crate::request::Request;
use crate::wire::Kind;

impl Request {
    /// The absolute path that relative ones of a domain start from. Every domain may ask, and whether there is such a
    /// domain does not matter. Payload `domid|`, reply the path.
    pub fn domain_path(domain: DomId) -> Self {
        numbers(Kind::GET_DOMAIN_PATH, &[domain.into()])
    }

    /// Tells the server of a new domain, whose Xenstore page is at guest frame `frame` and whose event channel for it is
    /// `event_channel`. Payload `domid|frame|channel|`.
    ///
    /// For a domain that it knows already, C xenstored takes this for its resumption. The servers refuse domain 0 and a
    /// channel that is none with `EINVAL`, and what the hypervisor refuses to map or bind with the error that it gives.
    pub fn introduce(domain: DomId, frame: u64, event_channel: u32) -> Self {
        numbers(
            Kind::INTRODUCE,
            &[domain.into(), frame, event_channel.into()],
        )
    }

    /// Tells the server that it need not serve a domain any more. Payload `domid|`.
    ///
    /// `ENOENT` for a domain that was not introduced, `EINVAL` for domain 0.
    pub fn release(domain: DomId) -> Self {
        numbers(Kind::RELEASE, &[domain.into()])
    }

    /// Whether the server serves a domain. Payload `domid|`, reply `T` or `F`.
    pub fn is_introduced(domain: DomId) -> Self {
        numbers(Kind::IS_DOMAIN_INTRODUCED, &[domain.into()])
    }

    /// Tells the server that a domain which had shut down goes on, so that `@releaseDomain` fires when it shuts down
    /// again. Payload `domid|`.
    ///
    /// `ENOENT` for a domain that was not introduced, `EINVAL` for domain 0.
    pub fn resume(domain: DomId) -> Self {
        numbers(Kind::RESUME, &[domain.into()])
    }

    /// Gives `domain` all the rights of `target`, besides its own: a device model in a domain of its own needs those of
    /// its guest. Payload `domid|target|`.
    ///
    /// `ENOENT` where one of them was not introduced.
    pub fn set_target(domain: DomId, target: DomId) -> Self {
        numbers(Kind::SET_TARGET, &[domain.into(), target.into()])
    }

    /// Ends all watches and transactions of the connection. Every domain may. Payload `|`.
    ///
    /// To the server a guest is one connection, its kernel's watches included: this is not sent over a device.
    pub fn reset_watches() -> Self {
        nothing(Kind::RESET_WATCHES)
    }

    /// A command to the server itself, such as `check`, `log on`, `memreport` or `help`, which lists them: each server
    /// and version has its own. Payload `command|parameter|...|`, reply a text.
    ///
    /// `EINVAL` for a command that the server does not know.
    ///
    /// # Errors
    /// Of a command or a parameter with a NUL in it.
    pub fn control(command: &str, parameters: &[&str]) -> Result<Self> {
        strings(
            Kind::CONTROL,
            std::iter::once(command).chain(parameters.iter().copied()),
        )
    }

    /// The features that the server offers to `domain`, or to the asking connection: a number of which each bit is one.
    /// Payload `domid|` or `|`, reply the number.
    ///
    /// A guest may ask for itself only. Servers that do not know it, as C xenstored 4.17 and oxenstored, say `ENOSYS` or
    /// `EINVAL`.
    pub fn features(domain: Option<DomId>) -> Self {
        match domain {
            Some(domain) => numbers(Kind::GET_FEATURE, &[domain.into()]),
            None => nothing(Kind::GET_FEATURE),
        }
    }

    /// Sets the features that the server offers to `domain`, before it is introduced. Payload `domid|features|`.
    ///
    /// `EBUSY` where the domain is introduced already, `EINVAL` for a feature that the server does not have. Known to
    /// the same servers as [`features`](Self::features).
    pub fn set_features(domain: DomId, features: u32) -> Self {
        numbers(Kind::SET_FEATURE, &[domain.into(), features.into()])
    }

    /// The names of the quotas that the server has. Payload `|`, reply the names with blanks between them.
    ///
    /// Known to the same servers as [`features`](Self::features).
    pub fn quota_names() -> Self {
        nothing(Kind::GET_QUOTA)
    }

    /// The value of a quota for `domain`, or for domains that have none of their own. Payload `domid|name|` or `name|`,
    /// reply the number.
    ///
    /// `EINVAL` for a quota that the server does not have. Known to the same servers as [`features`](Self::features).
    ///
    /// # Errors
    /// Of a name with a NUL in it.
    pub fn quota(domain: Option<DomId>, name: &str) -> Result<Self> {
        let domain = domain.map(|domain| domain.to_string());
        strings(Kind::GET_QUOTA, domain.as_deref().into_iter().chain([name]))
    }

    /// Sets the quota that [`quota`](Self::quota) asks for. Payload `domid|name|value|` or `name|value|`.
    ///
    /// # Errors
    /// As there.
    pub fn set_quota(domain: Option<DomId>, name: &str, value: u32) -> Result<Self> {
        let (domain, value) = (domain.map(|domain| domain.to_string()), value.to_string());
        strings(
            Kind::SET_QUOTA,
            domain.as_deref().into_iter().chain([name, &value]),
        )
    }
}

/// An empty string: to a message without any payload oxenstored 4.17 gives no answer at all.
fn nothing(kind: Kind) -> Request {
    Request {
        kind,
        payload: b"\0".to_vec(),
        transaction: None,
    }
}

fn numbers(kind: Kind, numbers: &[u64]) -> Request {
    let payload = numbers
        .iter()
        .flat_map(|number| format!("{number}\0").into_bytes())
        .collect();
    Request {
        kind,
        payload,
        transaction: None,
    }
}

fn strings<'a>(kind: Kind, strings: impl Iterator<Item = &'a str>) -> Result<Request> {
    let mut payload = Vec::new();
    for string in strings {
        if string.contains('\0') {
            let reason = "a parameter cannot have a NUL in it".to_owned();
            return Err(Error::InvalidRequest {
                operation: kind,
                path: None,
                reason,
            });
        }
        payload.extend_from_slice(string.as_bytes());
        payload.push(0);
    }
    Ok(Request {
        kind,
        payload,
        transaction: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads() {
        let cases: [(Request, Kind, &[u8]); 17] = [
            (Request::domain_path(5), Kind::GET_DOMAIN_PATH, b"5\0"),
            (
                Request::introduce(5, 1 << 33, 2),
                Kind::INTRODUCE,
                b"5\x008589934592\x002\0",
            ),
            (Request::release(5), Kind::RELEASE, b"5\0"),
            (
                Request::is_introduced(0),
                Kind::IS_DOMAIN_INTRODUCED,
                b"0\0",
            ),
            (Request::resume(5), Kind::RESUME, b"5\0"),
            (Request::set_target(6, 5), Kind::SET_TARGET, b"6\x005\0"),
            (Request::reset_watches(), Kind::RESET_WATCHES, b"\0"),
            (
                Request::control("check", &[]).unwrap(),
                Kind::CONTROL,
                b"check\0",
            ),
            (
                Request::control("log", &["on"]).unwrap(),
                Kind::CONTROL,
                b"log\0on\0",
            ),
            (Request::features(None), Kind::GET_FEATURE, b"\0"),
            (Request::features(Some(5)), Kind::GET_FEATURE, b"5\0"),
            (Request::set_features(5, 3), Kind::SET_FEATURE, b"5\x003\0"),
            (Request::quota_names(), Kind::GET_QUOTA, b"\0"),
            (
                Request::quota(None, "nodes").unwrap(),
                Kind::GET_QUOTA,
                b"nodes\0",
            ),
            (
                Request::quota(Some(5), "nodes").unwrap(),
                Kind::GET_QUOTA,
                b"5\0nodes\0",
            ),
            (
                Request::set_quota(None, "nodes", 9).unwrap(),
                Kind::SET_QUOTA,
                b"nodes\x009\0",
            ),
            (
                Request::set_quota(Some(5), "nodes", 9).unwrap(),
                Kind::SET_QUOTA,
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
            Request::control("a\0b", &[]),
            Request::control("a", &["\0"]),
            Request::quota(None, "\0"),
        ] {
            assert!(
                matches!(refused, Err(Error::InvalidRequest { .. })),
                "{refused:?}"
            );
        }
    }
}
