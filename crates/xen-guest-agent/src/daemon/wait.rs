//! Waiting for the next event with poll(2).

use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::Daemon;
use crate::collect::Source;
use crate::error::Failure;
use crate::signals::Signals;

/// Identifies a descriptor in the result of poll(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Stop,
    Reload,
    Connection,
    Source(Source),
}

impl Daemon {
    /// Waits until a descriptor is ready or `deadline` is over. Returns the descriptors that are
    /// ready.
    pub(super) fn wait(
        &self,
        signals: &Signals,
        now: Duration,
        deadline: Duration,
    ) -> Result<Vec<(Token, PollFlags)>, Failure> {
        let sources_from = self.source_limiter.next();
        let are_limited = sources_from > now;
        let (tokens, mut fds): (Vec<_>, Vec<_>) = self
            .descriptors(signals)
            .filter(|(token, _)| !are_limited || !matches!(token, Token::Source(_)))
            .unzip();

        let deadline = if are_limited {
            deadline.min(sources_from)
        } else {
            deadline
        };
        let timeout = Timespec::try_from(deadline.saturating_sub(now)).ok();
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Failure::system("poll")(error.into())),
        }

        let flags = fds.iter().map(PollFd::revents);
        Ok(tokens
            .into_iter()
            .zip(flags)
            .filter(|(_, flags)| !flags.is_empty())
            .collect())
    }

    /// Returns the descriptors to poll, in the order in which they are handled.
    fn descriptors<'a>(
        &'a self,
        signals: &'a Signals,
    ) -> impl Iterator<Item = (Token, PollFd<'a>)> {
        let connection = self.agent.connection().map(|connection| {
            let mut interest = PollFlags::IN;
            interest.set(PollFlags::OUT, connection.wants_write());
            (connection.as_fd(), interest)
        });

        let readable = |fd| (fd, PollFlags::IN);
        let agent = [
            (Token::Stop, Some(readable(signals.stop()))),
            (Token::Reload, signals.reload().map(readable)),
            (Token::Connection, connection),
        ];

        let agent = agent.into_iter().filter_map(|(token, source)| {
            let (fd, interest) = source?;
            Some((token, fd, interest))
        });

        let sources = self.collectors.sources();
        let sources = sources.map(|(source, fd, interest)| (Token::Source(source), fd, interest));
        agent
            .chain(sources)
            .map(|(token, fd, interest)| (token, PollFd::from_borrowed_fd(fd, interest)))
    }
}
