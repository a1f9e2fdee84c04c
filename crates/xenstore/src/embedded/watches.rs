//! Watches, and the requests that set and end them.

use super::arguments::{Arguments, leading_number};
use super::caller::Caller;
use super::connection::ConnectionId;
use super::store::Store;
use super::watch::Watch;
use crate::error::ErrorCode;
use crate::features::Features;

type Result<T> = std::result::Result<T, ErrorCode>;

impl Store {
    pub(super) fn set_watch(
        &mut self,
        id: ConnectionId,
        caller: &Caller,
        arguments: &Arguments<'_>,
    ) -> Result<()> {
        let (given, token, depth) = match arguments.strings() {
            [given, token] => (*given, *token, None),
            [given, token, depth] => (*given, *token, Some(self.depth(caller, given, depth)?)),
            _ => return Err(ErrorCode::EINVAL),
        };
        let path = self.canonical(caller.domain, given, true)?;
        let limit = self.limit(caller.domain, |quotas| quotas.watches);
        let has_room = (self.model).allows_another(self.watch_count(caller.domain), limit);

        let connection = self.connections.get_mut(&id).ok_or(ErrorCode::EINVAL)?;
        let mut watches = connection.watches.iter();
        if watches.any(|watch| watch.is(&path, token)) {
            return Err(ErrorCode::EEXIST);
        }
        if !has_room {
            return Err(self.model.watches_full());
        }

        let is_relative = !matches!(given.first(), Some(b'/' | b'@'));
        connection.watches.push(Watch {
            path: path.into(),
            token: token.into(),
            depth,
            is_relative,
        });
        Ok(())
    }

    /// Returns the levels of nodes that a domain limits a watch to.
    fn depth(&self, caller: &Caller, path: &[u8], depth: &[u8]) -> Result<usize> {
        let has_feature = self.features(caller.domain).contains(Features::WATCH_DEPTH);
        let depth = leading_number(depth).filter(|_| has_feature);
        match depth {
            // A special watch has only one level: the domains.
            Some(depth) if depth != 1 && path.starts_with(b"@") => Err(ErrorCode::EINVAL),
            depth => depth.ok_or(ErrorCode::EINVAL),
        }
    }

    pub(super) fn end_watch(
        &mut self,
        id: ConnectionId,
        caller: &Caller,
        [path, token]: [&[u8]; 2],
    ) -> Result<()> {
        let path = self.canonical(caller.domain, path, true)?;
        let connection = self.connections.get_mut(&id).ok_or(ErrorCode::EINVAL)?;
        let found = connection
            .watches
            .iter()
            .position(|watch| watch.is(&path, token));
        connection.watches.remove(found.ok_or(ErrorCode::ENOENT)?);
        Ok(())
    }
}
