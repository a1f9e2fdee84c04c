//! Layout of routing messages by system.
//!
//! The first four bytes are the same everywhere: length (two bytes), version and type. All offsets
//! count from the start of the message. The manual pages are route(4) and sysctl(3), but the
//! offsets are those of running kernels.

/// Layout of the routing messages of one kernel, as programs of one architecture get them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `RTM_VERSION`.
    pub(super) version: u8,
    /// Number of bytes that the length of a socket address is rounded up to.
    pub(super) alignment: usize,
    /// `AF_INET6`.
    pub(super) inet6: u8,
    pub(super) types: Types,
    pub(super) route: Header,
    pub(super) link: Header,
    pub(super) address: Header,
    pub(super) multicast: Header,
    pub(super) announcement: Announcement,
    pub(super) link_data: LinkData,
}

/// Numbers of the message types that differ between systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Types {
    /// `RTM_IFINFO`.
    pub(super) link: u8,
    /// `RTM_IFANNOUNCE`.
    pub(super) announcement: u8,
    /// `RTM_CHGADDR` or `RTM_CHGADDRATTR`.
    pub(super) address_change: Option<u8>,
    /// `RTM_NEWMADDR` and `RTM_DELMADDR`.
    pub(super) multicast: Option<(u8, u8)>,
    /// `RTM_DESYNC`.
    pub(super) overflow: Option<u8>,
}

/// A length or an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// The same in every message.
    Fixed(usize),
    /// Stated by the two bytes at this offset.
    Stated(usize),
}

/// Header of a message that socket addresses follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) len: Length,
    /// Offset of the bit set of the socket addresses that follow.
    pub(super) addresses: usize,
    pub(super) flags: usize,
    /// Offset of the interface index, which has two bytes.
    pub(super) index: usize,
}

/// Message about an interface that appears or disappears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    pub(super) len: usize,
    pub(super) index: usize,
    pub(super) what: usize,
}

/// `struct if_data` in a message about a link. Its first byte is the type of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkData {
    pub(super) offset: Length,
    /// Offset of the link state in the structure. The least significant byte holds every value.
    pub(super) state: usize,
    /// Lowest link state that means "up". Half and full duplex follow it.
    pub(super) up: u8,
    /// Link state that means "down".
    pub(super) down: u8,
}

/// Offset of the least significant byte in a number of four bytes.
const LEAST_SIGNIFICANT: usize = if cfg!(target_endian = "little") { 0 } else { 3 };

impl Layout {
    /// Messages of sockets and of `NET_RT_IFLIST` on FreeBSD. A program of i386 gets these from the
    /// socket of a 64-bit kernel, too.
    pub const FREEBSD: Layout = Layout {
        version: 5,
        alignment: 8,
        inet6: 28,
        types: Types {
            link: 14,
            announcement: 17,
            address_change: None,
            multicast: Some((15, 16)),
            overflow: None,
        },
        route: Header {
            len: Length::Fixed(152),
            addresses: 12,
            flags: 8,
            index: 4,
        },
        link: Header {
            len: Length::Fixed(168),
            ..SHORT_HEADER
        },
        address: Header {
            len: Length::Fixed(20),
            ..SHORT_HEADER
        },
        multicast: Header {
            len: Length::Fixed(16),
            ..SHORT_HEADER
        },
        announcement: Announcement {
            len: 24,
            index: 4,
            what: 22,
        },
        link_data: LinkData {
            offset: Length::Fixed(16),
            state: 4,
            up: 2,
            down: 1,
        },
    };

    /// Messages of `NET_RT_IFLISTL` on FreeBSD, whose headers state their length.
    pub const FREEBSD_LIST: Layout = Layout {
        link: Header {
            len: Length::Stated(16),
            ..SHORT_HEADER
        },
        address: Header {
            len: Length::Stated(16),
            ..SHORT_HEADER
        },
        link_data: LinkData {
            offset: Length::Stated(18),
            ..Layout::FREEBSD.link_data
        },
        ..Layout::FREEBSD
    };

    /// Messages of a FreeBSD kernel for i386 to sockets.
    pub const FREEBSD_I386: Layout = Layout {
        alignment: 4,
        route: Header {
            len: Length::Fixed(92),
            ..Layout::FREEBSD.route
        },
        ..Layout::FREEBSD
    };

    /// Messages of `NET_RT_IFLISTL` to a program of i386, from an amd64 kernel since FreeBSD
    /// 12.1.
    pub const FREEBSD_I386_LIST: Layout = Layout {
        alignment: 4,
        ..Layout::FREEBSD_LIST
    };

    /// Messages of NetBSD 7.99 on amd64.
    pub const NETBSD: Layout = Layout {
        version: 4,
        inet6: 24,
        types: Types {
            link: 20,
            announcement: 16,
            address_change: Some(21),
            multicast: None,
            overflow: None,
        },
        route: Header {
            len: Length::Fixed(120),
            ..Layout::FREEBSD.route
        },
        link: Header {
            len: Length::Fixed(152),
            ..SHORT_HEADER
        },
        address: Header {
            len: Length::Fixed(24),
            addresses: 4,
            flags: 8,
            index: 16,
        },
        link_data: LinkData {
            state: 4 + LEAST_SIGNIFICANT,
            ..Layout::FREEBSD.link_data
        },
        ..Layout::FREEBSD
    };

    /// Messages of OpenBSD on 64-bit architectures.
    pub const OPENBSD: Layout = Layout {
        version: 5,
        alignment: 8,
        inet6: 24,
        types: Types {
            link: 14,
            announcement: 15,
            address_change: Some(20),
            multicast: None,
            overflow: Some(16),
        },
        route: OPENBSD_HEADER,
        link: OPENBSD_HEADER,
        address: OPENBSD_HEADER,
        multicast: OPENBSD_HEADER,
        announcement: Announcement {
            len: 26,
            index: 6,
            what: 8,
        },
        link_data: LinkData {
            offset: Length::Fixed(24),
            state: 3,
            up: 4,
            down: 2,
        },
    };
}

/// Offsets of the fields that most messages of FreeBSD and NetBSD share. The length differs.
const SHORT_HEADER: Header = Header {
    len: Length::Fixed(16),
    addresses: 4,
    flags: 8,
    index: 12,
};

const OPENBSD_HEADER: Header = Header {
    len: Length::Stated(4),
    addresses: 12,
    flags: 16,
    index: 6,
};
