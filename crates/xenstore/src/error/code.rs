//! Error codes of the protocol.

use std::fmt;
use std::io;

macro_rules! codes {
    ($($name:ident => $kind:ident, $doc:literal;)*) => {
        /// Error code of a server's reply, which is the name of an errno value.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = $doc] $name,)*
            /// Another name, or `unknown` if the server sent no valid one.
            Other(Box<str>),
        }

        impl ErrorCode {
            /// Returns the name that the server sends in an `ERROR` message.
            pub fn name(&self) -> &str {
                match self {
                    $(ErrorCode::$name => stringify!($name),)*
                    ErrorCode::Other(name) => name,
                }
            }

            /// Returns the closest error kind of the standard library.
            pub fn io_kind(&self) -> io::ErrorKind {
                match self {
                    $(ErrorCode::$name => io::ErrorKind::$kind,)*
                    ErrorCode::Other(_) => io::ErrorKind::Other,
                }
            }
        }

        /// Returns the code for a name in an `ERROR` message.
        ///
        /// A name consists of 1 to 32 of the characters `A-Z0-9`. Any other text becomes the name
        /// `unknown`, so that a server cannot write to logs and terminals.
        impl From<&str> for ErrorCode {
            fn from(name: &str) -> Self {
                match name {
                    $(stringify!($name) => ErrorCode::$name,)*
                    name if is_name(name) => ErrorCode::Other(name.into()),
                    _ => ErrorCode::Other("unknown".into()),
                }
            }
        }
    };
}

codes! {
    EINVAL => InvalidInput, "The request is malformed, or its transaction is unknown.";
    EACCES => PermissionDenied, "The domain does not have the necessary access to the node.";
    EEXIST => AlreadyExists, "The node exists already.";
    EISDIR => IsADirectory, "The node is a directory.";
    ENOENT => NotFound, "The node does not exist, or the domain may not know that it does.";
    ENOMEM => OutOfMemory, "The server is out of memory.";
    ENOSPC => StorageFull, "The guest has reached a quota, or a value is longer than the quota allows (C xenstored).";
    EIO => Other, "Internal error of the server.";
    ENOTEMPTY => DirectoryNotEmpty, "The directory is not empty.";
    ENOSYS => Unsupported, "The server does not support this request.";
    EROFS => ReadOnlyFilesystem, "The store is read-only.";
    EBUSY => ResourceBusy, "The server cannot perform the request now.";
    EAGAIN => WouldBlock, "The transaction had a conflict. Start it again.";
    EISCONN => AlreadyExists, "The domain is introduced already.";
    E2BIG => ArgumentListTooLong, "The reply or the value is too long.";
    EPERM => PermissionDenied, "The domain may not do this to any node.";
    EQUOTA => QuotaExceeded, "The guest has reached a quota (oxenstored).";
}

/// Maximum length of an error's name in bytes. The longest name in Linux has 15.
const MAX_NAME_LEN: usize = 32;

fn is_name(name: &str) -> bool {
    let is_valid = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    (1..=MAX_NAME_LEN).contains(&name.len()) && name.bytes().all(is_valid)
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_round_trip_through_names() {
        assert_eq!(ErrorCode::from("ENOENT"), ErrorCode::ENOENT);
        assert_eq!(
            ErrorCode::from("EQUOTA").io_kind(),
            io::ErrorKind::QuotaExceeded
        );
        let unknown = ErrorCode::from("EFROMTHEFUTURE");
        assert_eq!(
            (unknown.name(), unknown.io_kind()),
            ("EFROMTHEFUTURE", io::ErrorKind::Other)
        );
    }

    #[test]
    fn invalid_error_names_are_unknown() {
        let longest = "E".repeat(MAX_NAME_LEN);
        assert_eq!(ErrorCode::from(&*longest).name(), longest);
        for name in [
            "",
            "enoent",
            "EACCES ",
            "E\u{1b}[2J\n<0>kernel: forged",
            "E\u{c4}",
            &"E".repeat(MAX_NAME_LEN + 1),
        ] {
            assert_eq!(ErrorCode::from(name).name(), "unknown", "{name:?}");
        }
    }
}
