//! Replies that faults keep out of a connection's output.

use super::connection::Connection;
use super::fault::{FaultId, ReplyEffect};
use crate::wire::Message;

/// A reply that a fault keeps out of the output.
#[derive(Debug)]
pub(super) struct Held {
    fault: FaultId,
    release: Release,
    reply: Message,
}

/// When a held reply is sent, unless the fault ends before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// When the fault ends.
    WithFault,
    /// After this number of later messages.
    After(usize),
    /// In reverse order, once the fault holds this number of replies.
    Reversed(usize),
}

impl Connection {
    /// Queues a reply, unless a fault keeps it back.
    pub(super) fn push_reply(&mut self, reply: Message, fault: Option<(FaultId, ReplyEffect)>) {
        match fault {
            None => self.push(reply),
            Some((fault, ReplyEffect::Hold(release))) => self.hold(Held {
                fault,
                release,
                reply,
            }),
            Some((_, ReplyEffect::Cut(bytes))) => self.cut(&reply, bytes),
        }
    }

    fn hold(&mut self, new: Held) {
        let (fault, release) = (new.fault, new.release);
        // This is a later message for the replies that are held already.
        self.count_message();
        self.held.push(new);

        match release {
            Release::After(0) => self.release_held(fault),
            Release::Reversed(count) => {
                let mut group = self.take_held(|held| held.fault == fault);
                if group.len() >= count {
                    group.reverse();
                    self.push_all(group);
                } else {
                    self.held.append(&mut group);
                }
            }
            Release::WithFault | Release::After(_) => {}
        }
    }

    /// Queues the replies that a fault keeps back.
    pub(super) fn release_held(&mut self, fault: FaultId) {
        let released = self.take_held(|held| held.fault == fault);
        self.push_all(released);
    }

    /// Counts a message for the replies that wait for later messages, and queues those that are due.
    pub(super) fn count_message(&mut self) {
        for held in &mut self.held {
            if let Release::After(messages) = &mut held.release {
                *messages = messages.saturating_sub(1);
            }
        }
        let due = self.take_held(|held| held.release == Release::After(0));
        self.push_all(due);
    }

    /// Removes and returns the selected replies, oldest first.
    fn take_held(&mut self, is_selected: impl Fn(&Held) -> bool) -> Vec<Held> {
        let (taken, kept) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(is_selected);
        self.held = kept;
        taken
    }

    fn push_all(&mut self, released: Vec<Held>) {
        for held in released {
            self.push(held.reply);
        }
    }
}
