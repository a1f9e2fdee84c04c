//! Meaning of error codes, which depends on the request that failed.

use super::ErrorCode;
use crate::wire::MessageKind;

/// Returns the meaning of a code in the reply to a request, or `None` for an unknown code.
pub(super) fn meaning(operation: MessageKind, code: &ErrorCode) -> Option<&'static str> {
    of_node(operation, code)
        .or_else(|| of_watch_or_transaction(operation, code))
        .or_else(|| of_domain(operation, code))
        .or_else(|| of_code(code))
}

/// Returns the meaning for a request about a node.
fn of_node(operation: MessageKind, code: &ErrorCode) -> Option<&'static str> {
    use ErrorCode as Code;
    use MessageKind as Kind;

    let meaning = match (operation, code) {
        (Kind::READ | Kind::DIRECTORY | Kind::DIRECTORY_PART | Kind::GET_PERMS, Code::EACCES) => {
            "no read access"
        }
        (Kind::WRITE | Kind::MKDIR | Kind::RM, Code::EACCES) => "no write access",
        (Kind::SET_PERMS, Code::EACCES) => "only the owner of the node may do this",
        (Kind::SET_PERMS, Code::EPERM) => "only domain 0 may change the owner",

        (Kind::RM, Code::ENOENT) => "the parent of the node does not exist",
        (Kind::UNWATCH, Code::ENOENT) => "there is no watch with this path and token",
        (
            Kind::READ
            | Kind::WRITE
            | Kind::MKDIR
            | Kind::DIRECTORY
            | Kind::DIRECTORY_PART
            | Kind::GET_PERMS
            | Kind::SET_PERMS,
            Code::ENOENT,
        ) => "the node does not exist",

        (Kind::WRITE, Code::ENOSPC) => {
            "a quota of the domain is full, or the value is longer than the server allows"
        }
        (Kind::WRITE, Code::E2BIG) => "the value is longer than the server allows",
        (Kind::SET_PERMS, Code::ENOSPC) => {
            "a quota of the owner is full, or there are more entries than the server allows"
        }
        (Kind::DIRECTORY | Kind::DIRECTORY_PART, Code::E2BIG) => {
            "the list of children is longer than a reply"
        }
        (Kind::SET_PERMS, Code::EINVAL) => {
            "an entry of the permissions is invalid, or none is given"
        }
        _ => return None,
    };
    Some(meaning)
}

/// Returns the meaning for a request about a watch or a transaction.
fn of_watch_or_transaction(operation: MessageKind, code: &ErrorCode) -> Option<&'static str> {
    use ErrorCode as Code;
    use MessageKind as Kind;

    let meaning = match (operation, code) {
        (Kind::WATCH, Code::EEXIST) => "a watch with this path and token exists already",
        (Kind::WATCH, Code::E2BIG | Code::ENOSPC | Code::EQUOTA) => {
            "the domain has as many watches as the server allows"
        }
        (Kind::TRANSACTION_START, Code::ENOSPC | Code::EQUOTA) => {
            "the domain has as many open transactions as the server allows"
        }
        (Kind::TRANSACTION_END, Code::EAGAIN) => "another change caused a conflict; try again",
        (Kind::TRANSACTION_END, Code::ENOENT) => "the server does not know the transaction",
        _ => return None,
    };
    Some(meaning)
}

/// Returns the meaning for a request about a domain or about the server.
fn of_domain(operation: MessageKind, code: &ErrorCode) -> Option<&'static str> {
    use ErrorCode as Code;
    use MessageKind as Kind;

    let meaning = match (operation, code) {
        (Kind::GET_FEATURE, Code::EACCES) => "a guest may ask only about itself",
        (
            Kind::INTRODUCE
            | Kind::RELEASE
            | Kind::RESUME
            | Kind::SET_TARGET
            | Kind::IS_DOMAIN_INTRODUCED
            | Kind::CONTROL
            | Kind::SET_FEATURE
            | Kind::GET_QUOTA
            | Kind::SET_QUOTA,
            Code::EACCES,
        ) => "only domain 0 may do this",
        (Kind::RELEASE | Kind::RESUME | Kind::SET_TARGET, Code::ENOENT) => {
            "the domain is not introduced"
        }
        (Kind::RELEASE | Kind::RESUME, Code::EINVAL) => "domain 0 is not a guest",
        (Kind::INTRODUCE, Code::EINVAL) => {
            "domain 0 is not a guest, or the frame or event channel is invalid"
        }
        (Kind::SET_FEATURE, Code::EBUSY) => "the domain is introduced already",
        (Kind::GET_FEATURE | Kind::SET_FEATURE, Code::EINVAL) => {
            "unknown feature, or the server does not support this request"
        }
        (Kind::GET_QUOTA | Kind::SET_QUOTA, Code::EINVAL) => {
            "unknown quota, or the server does not support this request"
        }
        (Kind::CONTROL, Code::EINVAL) => "unknown command or invalid parameter",
        _ => return None,
    };
    Some(meaning)
}

/// Returns the meaning for all other requests.
fn of_code(code: &ErrorCode) -> Option<&'static str> {
    let meaning = match code {
        ErrorCode::EINVAL => "the request is invalid, or its transaction has ended",
        ErrorCode::EACCES => "permission denied",
        ErrorCode::EEXIST => "it exists already",
        ErrorCode::EISDIR => "the node is a directory",
        ErrorCode::ENOENT => "it does not exist",
        ErrorCode::ENOMEM => "the server is out of memory",
        ErrorCode::ENOSPC | ErrorCode::EQUOTA => "a quota of the domain is full",
        ErrorCode::EIO => "internal error of the server",
        ErrorCode::ENOTEMPTY => "the directory is not empty",
        ErrorCode::ENOSYS => "the server does not support this request",
        ErrorCode::EROFS => "the store is read-only",
        ErrorCode::EBUSY => "the server cannot do this now",
        ErrorCode::EAGAIN => "try again",
        ErrorCode::EISCONN => "the domain is introduced already",
        ErrorCode::E2BIG => "the request or the reply is too long",
        ErrorCode::EPERM => "the domain may not do this",
        ErrorCode::Other(_) => return None,
    };
    Some(meaning)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::escape::escape;

    #[test]
    fn messages_say_what_a_code_means_for_the_request() {
        for (operation, path, code, expected) in [
            (
                MessageKind::WRITE,
                Some("data/a"),
                "ENOSPC",
                "WRITE data/a: a quota of the domain is full, or the value is longer than the \
                 server allows (ENOSPC)",
            ),
            (
                MessageKind::TRANSACTION_START,
                None,
                "ENOSPC",
                "TRANSACTION_START: the domain has as many open transactions as the server \
                 allows (ENOSPC)",
            ),
            (
                MessageKind::TRANSACTION_END,
                None,
                "EAGAIN",
                "TRANSACTION_END: another change caused a conflict; try again (EAGAIN)",
            ),
            (
                MessageKind::SET_PERMS,
                Some("data"),
                "EINVAL",
                "SET_PERMS data: an entry of the permissions is invalid, or none is given (EINVAL)",
            ),
            (
                MessageKind::RM,
                Some("a/b"),
                "ENOENT",
                "RM a/b: the parent of the node does not exist (ENOENT)",
            ),
            (
                MessageKind::READ,
                Some("a"),
                "ENOENT",
                "READ a: the node does not exist (ENOENT)",
            ),
            (
                MessageKind::WATCH,
                Some("a"),
                "E2BIG",
                "WATCH a: the domain has as many watches as the server allows (E2BIG)",
            ),
            (
                MessageKind::RELEASE,
                None,
                "ENOENT",
                "RELEASE: the domain is not introduced (ENOENT)",
            ),
            (
                MessageKind::CONTROL,
                None,
                "EACCES",
                "CONTROL: only domain 0 may do this (EACCES)",
            ),
            (
                MessageKind(77),
                None,
                "EIO",
                "type 77: internal error of the server (EIO)",
            ),
            (MessageKind::WRITE, Some("a"), "ENEW", "WRITE a: ENEW"),
        ] {
            let error = Error::refused(ErrorCode::from(code), operation, path);
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn every_message_has_one_meaning_and_its_code() {
        let codes = [
            "EINVAL",
            "EACCES",
            "EEXIST",
            "EISDIR",
            "ENOENT",
            "ENOMEM",
            "ENOSPC",
            "EIO",
            "ENOTEMPTY",
            "ENOSYS",
            "EROFS",
            "EBUSY",
            "EAGAIN",
            "EISCONN",
            "E2BIG",
            "EPERM",
            "EQUOTA",
        ];
        for kind in 0..=30 {
            for name in codes {
                let (kind, code) = (MessageKind(kind), ErrorCode::from(name));
                let meaning = meaning(kind, &code).unwrap();
                let message = Error::refused(code, kind, None).to_string();
                assert_eq!(message, format!("{kind}: {meaning} ({name})"));
                assert_eq!(escape(&message), message);
                assert!(meaning.len() <= 80, "{meaning}");
            }
        }
    }
}
