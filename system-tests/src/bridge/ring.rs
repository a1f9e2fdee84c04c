//! The guest's side of the rings that it shares with the server, and of the event channel.
//!
//! The page is read and written as a file, which needs no `unsafe`. On Linux, read(2), write(2) and
//! shared mappings of a file use the same page of memory. But a word of four bytes may be seen half
//! written, so no index is read from the page or written to it: indices travel in the events, and
//! the shim in the server's process stores them. The bytes between the indices belong to one side
//! at a time.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use xenstore::wire::Decoder;

const RING: u32 = 1024;
const REQUESTS_AT: u64 = 0;
const RESPONSES_AT: u64 = RING as u64;

/// Size of the shim's `struct to_guest`.
const TO_GUEST: usize = 8;

/// Both rings of a domain since its introduction. Indices count bytes and wrap around.
pub(crate) struct Ring {
    domid: u32,
    port: u32,
    page: File,
    /// FIFOs of events from and to the server.
    pub(super) from_daemon: File,
    pub(super) to_daemon: File,
    request_consumed: u32,
    request_produced: u32,
    response_consumed: u32,
    response_produced: u32,
    /// `request_produced` and `response_consumed` as last sent to the server.
    last_sent: (u32, u32),
    /// Whether the server's FIFO was full, so that the event must be sent again.
    pub(super) must_notify_again: bool,
}

/// The server has ended.
#[derive(Debug)]
pub(crate) struct DaemonGone;

impl Ring {
    /// Creates the domain's page. From now on the domain exists for the server.
    pub(crate) fn make_page(directory: &Path, domid: u16) -> io::Result<()> {
        File::create(directory.join(format!("{domid}.page")))?.set_len(4096)
    }

    /// Opens the files that the server created when the domain was introduced with `port`.
    pub(crate) fn open(directory: &Path, domid: u16, port: u32) -> io::Result<Self> {
        let open = |name: String, access: OFlags| {
            let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC;
            rustix::fs::open(directory.join(name), flags, Mode::empty()).map(File::from)
        };
        Ok(Ring {
            domid: domid.into(),
            port,
            page: open(format!("{domid}.page"), OFlags::RDWR)?,
            from_daemon: open(format!("{domid}.events"), OFlags::RDONLY)?,
            to_daemon: open("events".to_owned(), OFlags::WRONLY)?,
            request_consumed: 0,
            request_produced: 0,
            response_consumed: 0,
            response_produced: 0,
            last_sent: (0, 0),
            must_notify_again: false,
        })
    }

    /// Receives all pending events.
    pub(super) fn take_events(&mut self) -> Result<(), DaemonGone> {
        let mut events = [0; 128 * TO_GUEST];
        loop {
            // Events are written atomically and read in whole multiples.
            match (&self.from_daemon).read(&mut events) {
                Ok(0) => return Err(DaemonGone),
                Ok(len) => {
                    let last = &events[len - TO_GUEST..len];
                    self.request_consumed = u32::from_ne_bytes(last[..4].try_into().unwrap());
                    self.response_produced = u32::from_ne_bytes(last[4..].try_into().unwrap());
                    if len < events.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => panic!("events from the daemon: {error}"),
            }
        }
    }

    /// Writes as many requests to the ring as fit.
    pub(super) fn push(&mut self, requests: &mut Vec<u8>) {
        let mut pushed = 0;
        while pushed < requests.len() {
            let offset = self.request_produced % RING;
            let space = RING - self.request_produced.wrapping_sub(self.request_consumed);
            let len = (space.min(RING - offset) as usize).min(requests.len() - pushed);
            if len == 0 {
                break;
            }
            self.page
                .write_all_at(
                    &requests[pushed..pushed + len],
                    REQUESTS_AT + u64::from(offset),
                )
                .expect("write to the domain's page");
            self.request_produced = self
                .request_produced
                .wrapping_add(u32::try_from(len).unwrap());
            pushed += len;
        }
        requests.drain(..pushed);
    }

    /// Reads all available responses from the ring.
    pub(super) fn pull(&mut self, responses: &mut Decoder) {
        while self.response_consumed != self.response_produced {
            let offset = self.response_consumed % RING;
            let there = self.response_produced.wrapping_sub(self.response_consumed);
            let len = there.min(RING - offset);
            let mut bytes = [0; RING as usize];
            let bytes = &mut bytes[..len as usize];
            self.page
                .read_exact_at(bytes, RESPONSES_AT + u64::from(offset))
                .expect("read the domain's page");
            responses.extend(bytes);
            self.response_consumed = self.response_consumed.wrapping_add(len);
        }
    }

    /// Notifies the server of new requests, and of free space if it may need it.
    ///
    /// Free space alone causes an event only if the server sees less than half of the ring free,
    /// because each event wakes it and the next request reports the space anyway.
    pub(super) fn notify(&mut self) -> Result<(), DaemonGone> {
        let (request_produced, response_consumed) = self.last_sent;
        let space_is_short = self.response_consumed.wrapping_sub(response_consumed) >= RING / 2;
        if self.request_produced == request_produced && !space_is_short {
            return Ok(());
        }
        let mut event = Vec::with_capacity(16);
        for word in [
            self.domid,
            self.port,
            self.request_produced,
            self.response_consumed,
        ] {
            event.extend_from_slice(&word.to_ne_bytes());
        }
        match (&self.to_daemon).write(&event) {
            Ok(_) => {
                self.last_sent = (self.request_produced, self.response_consumed);
                self.must_notify_again = false;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.must_notify_again = true;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(DaemonGone),
            Err(error) => panic!("event to the daemon: {error}"),
        }
    }
}
