//! Watches, and the requests that set and end them.

use super::caller::Caller;
use super::connection::ConnectionId;
use super::store::Store;
use super::watch::Watch;
use crate::error::ErrorCode;

type Result<T> = std::result::Result<T, ErrorCode>;

impl Store {
    pub(super) fn set_watch(
        &mut self,
        id: ConnectionId,
        caller: &Caller,
        [given, token]: [&[u8]; 2],
    ) -> Result<()> {
        let path = self.canonical(caller.domain, given, true)?;
        let limit = self.limit(caller.domain, |quotas| quotas.watches);
        let is_over_quota = self.watches(caller.domain) > limit;

        let connection = self.connections.get_mut(&id).ok_or(ErrorCode::EINVAL)?;
        let mut watches = connection.watches.iter();
        if watches.any(|watch| watch.is(&path, token)) {
            return Err(ErrorCode::EEXIST);
        }
        if is_over_quota {
            return Err(ErrorCode::E2BIG);
        }

        let is_relative = !matches!(given.first(), Some(b'/' | b'@'));
        connection
            .watches
            .push(Watch::new(&path, token, is_relative));
        Ok(())
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
