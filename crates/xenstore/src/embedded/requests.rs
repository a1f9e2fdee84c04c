//! Requests of the wire protocol: what their payloads mean, and the payloads of the replies.

use std::fmt::Display;

use super::asker::Asker;
use super::connection::ConnectionId;
use super::store::Store;
use super::transaction::Transaction;
use super::tree::Node;
use super::watches::Watch;
use crate::error::ErrorCode;
use crate::permission::Permission;
use crate::wire::{Kind, Message};

type Result<T> = std::result::Result<T, ErrorCode>;

impl Store {
    /// Does what a request asks, and returns the payload of its reply.
    pub(super) fn perform(&mut self, id: ConnectionId, request: &Message) -> Result<Vec<u8>> {
        let connection = self.connections.get(&id).ok_or(ErrorCode::EINVAL)?;
        let mut asker = self.asker(connection.domain);
        if !is_known(request.kind) {
            return Err(ErrorCode::ENOSYS);
        }
        if !asker.is_privileged() && needs_privilege(request) {
            return Err(ErrorCode::EACCES);
        }
        // Watches have nothing to do with transactions: what such a request says of one is not looked at.
        let ignores_transaction = matches!(request.kind, Kind::WATCH | Kind::UNWATCH);
        let transaction = if ignores_transaction {
            0
        } else {
            request.transaction_id
        };
        if transaction != 0 {
            asker.transaction = Some(
                self.take_transaction(id, transaction)
                    .ok_or(ErrorCode::ENOENT)?,
            );
        }
        let result = self.dispatch(id, &mut asker, request);
        if let Some(open) = asker.transaction.take() {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.transactions.insert(transaction, open);
            }
        }
        result
    }

    fn take_transaction(&mut self, id: ConnectionId, transaction: u32) -> Option<Transaction> {
        self.connections
            .get_mut(&id)?
            .transactions
            .remove(&transaction)
    }

    fn dispatch(
        &mut self,
        id: ConnectionId,
        asker: &mut Asker,
        request: &Message,
    ) -> Result<Vec<u8>> {
        let payload = request.payload.as_slice();
        let arguments = &Arguments::new(payload);
        let done = |()| b"OK\0".to_vec();
        match request.kind {
            Kind::DIRECTORY => {
                let path = self.canonical(asker.domain, arguments.only()?, false)?;
                self.look(asker, &path, Node::directory)
            }
            Kind::DIRECTORY_PART => {
                let [path, offset] = arguments.all()?;
                let path = self.canonical(asker.domain, path, false)?;
                // As atoi(3) and a cast have it, a negative offset is beyond any list.
                let offset = leading_number(offset).unwrap_or(usize::MAX);
                self.look(asker, &path, |node| node.directory_part(offset))
            }
            Kind::READ => {
                let path = self.canonical(asker.domain, arguments.only()?, false)?;
                self.look(asker, &path, |node| node.value.to_vec())
            }
            Kind::GET_PERMS => {
                let path = self.canonical(asker.domain, arguments.only()?, true)?;
                self.look(asker, &path, |node| {
                    node.permissions
                        .iter()
                        .flat_map(|entry| format!("{entry}\0").into_bytes())
                        .collect()
                })
            }
            Kind::SET_PERMS => {
                let (path, entries) = arguments.first_and_rest()?;
                if entries.len() > self.limit(asker.domain, |quotas| quotas.permissions) {
                    return Err(ErrorCode::ENOSPC);
                }
                let entries: Option<Vec<_>> = entries
                    .iter()
                    .map(|entry| Permission::parse(entry))
                    .collect();
                let path = self.canonical(asker.domain, path, true);
                self.set_node_permissions(asker, &path?, &entries.ok_or(ErrorCode::EINVAL)?)
                    .map(done)
            }
            Kind::WRITE => {
                let (path, _) = arguments.first_and_rest()?;
                let value = payload.get(path.len() + 1..).unwrap_or_default();
                let path = self.canonical(asker.domain, path, false)?;
                self.write_node(asker, &path, value).map(done)
            }
            Kind::MKDIR => {
                let path = self.canonical(asker.domain, arguments.only()?, false)?;
                self.make_node(asker, &path).map(done)
            }
            Kind::RM => {
                let path = self.canonical(asker.domain, arguments.only()?, false)?;
                self.remove_node(asker, &path).map(done)
            }
            Kind::WATCH => self.set_watch(id, asker, arguments.all()?).map(done),
            Kind::UNWATCH => self.end_watch(id, asker, arguments.all()?).map(done),
            Kind::RESET_WATCHES => {
                asker.transaction = None;
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.watches.clear();
                    connection.transactions.clear();
                }
                Ok(done(()))
            }
            Kind::TRANSACTION_START => self.start_transaction(id, asker),
            Kind::TRANSACTION_END => self.end_transaction(asker, arguments.only()?).map(done),
            Kind::CONTROL => control(arguments),
            _ => self.about_domains(asker, request.kind, arguments),
        }
    }

    fn set_watch(
        &mut self,
        id: ConnectionId,
        asker: &Asker,
        [given, token]: [&[u8]; 2],
    ) -> Result<()> {
        let path = self.canonical(asker.domain, given, true)?;
        let most = self.limit(asker.domain, |quotas| quotas.watches);
        let is_too_many = self.watches(asker.domain) > most;
        let connection = self.connections.get_mut(&id).ok_or(ErrorCode::EINVAL)?;
        if connection
            .watches
            .iter()
            .any(|watch| watch.is(&path, token))
        {
            return Err(ErrorCode::EEXIST);
        }
        if is_too_many {
            return Err(ErrorCode::E2BIG);
        }
        let is_relative = !matches!(given.first(), Some(b'/' | b'@'));
        connection
            .watches
            .push(Watch::new(&path, token, is_relative));
        Ok(())
    }

    fn end_watch(
        &mut self,
        id: ConnectionId,
        asker: &Asker,
        [path, token]: [&[u8]; 2],
    ) -> Result<()> {
        let path = self.canonical(asker.domain, path, true)?;
        let connection = self.connections.get_mut(&id).ok_or(ErrorCode::EINVAL)?;
        let found = connection
            .watches
            .iter()
            .position(|watch| watch.is(&path, token));
        connection.watches.remove(found.ok_or(ErrorCode::ENOENT)?);
        Ok(())
    }

    fn start_transaction(&mut self, id: ConnectionId, asker: &Asker) -> Result<Vec<u8>> {
        if asker.transaction.is_some() {
            return Err(ErrorCode::EBUSY);
        }
        if self.transactions(asker.domain) > self.limit(asker.domain, |quotas| quotas.transactions)
        {
            return Err(ErrorCode::ENOSPC);
        }
        let connection = self.connections.get_mut(&id).ok_or(ErrorCode::EINVAL)?;
        loop {
            connection.last_transaction = connection.last_transaction.wrapping_add(1);
            let number = connection.last_transaction;
            if number != 0 && !connection.transactions.contains_key(&number) {
                connection
                    .transactions
                    .insert(number, Transaction::default());
                return Ok(text(number));
            }
        }
    }

    fn end_transaction(&mut self, asker: &mut Asker, commit: &[u8]) -> Result<()> {
        let commit = match commit {
            b"T" => true,
            b"F" => false,
            _ => return Err(ErrorCode::EINVAL),
        };
        let transaction = asker.transaction.take().ok_or(ErrorCode::ENOENT)?;
        if commit {
            self.commit(asker, transaction)
        } else {
            Ok(())
        }
    }
}

/// The strings of a payload that end in a NUL. What comes after the last NUL is not looked at.
///
/// The second field is whether nothing comes after it.
pub(super) struct Arguments<'a>(Vec<&'a [u8]>, bool);

impl<'a> Arguments<'a> {
    fn new(payload: &'a [u8]) -> Self {
        let strings = payload
            .split_inclusive(|byte| *byte == 0)
            .filter_map(|string| string.strip_suffix(b"\0"));
        Arguments(strings.collect(), payload.ends_with(b"\0"))
    }

    /// All of them, for requests whose first may be left out: an empty one alone is none.
    pub(super) fn optional(&self) -> &[&'a [u8]] {
        match self.0.as_slice() {
            [b""] => &[],
            arguments => arguments,
        }
    }

    pub(super) fn strings(&self) -> &[&'a [u8]] {
        &self.0
    }

    /// The one string that is the whole payload.
    pub(super) fn only(&self) -> Result<&'a [u8]> {
        match self.0.as_slice() {
            [only] if self.1 => Ok(only),
            _ => Err(ErrorCode::EINVAL),
        }
    }

    pub(super) fn all<const N: usize>(&self) -> Result<[&'a [u8]; N]> {
        self.0.as_slice().try_into().map_err(|_| ErrorCode::EINVAL)
    }

    pub(super) fn first_and_rest(&self) -> Result<(&'a [u8], &[&'a [u8]])> {
        self.0
            .split_first()
            .map(|(first, rest)| (*first, rest))
            .ok_or(ErrorCode::EINVAL)
    }
}

/// Whether clients may send messages of this kind: the server's own are none of theirs.
fn is_known(kind: Kind) -> bool {
    kind.name().is_some() && !matches!(kind, Kind::WATCH_EVENT | Kind::ERROR)
}

/// Whether only domain 0 may ask this.
fn needs_privilege(request: &Message) -> bool {
    match request.kind {
        Kind::CONTROL
        | Kind::INTRODUCE
        | Kind::RELEASE
        | Kind::IS_DOMAIN_INTRODUCED
        | Kind::RESUME
        | Kind::SET_TARGET
        | Kind::SET_FEATURE
        | Kind::GET_QUOTA
        | Kind::SET_QUOTA => true,
        // Each domain may ask for its own.
        Kind::GET_FEATURE => !Arguments::new(&request.payload).optional().is_empty(),
        _ => false,
    }
}

/// Commands to the server: the few that mean something here.
fn control(arguments: &Arguments<'_>) -> Result<Vec<u8>> {
    match arguments.strings() {
        [b"help"] => Ok(text("check\t\nprint\t<string>\nhelp\t\n")),
        [b"check"] | [b"print", _] => Ok(text("OK")),
        _ => Err(ErrorCode::EINVAL),
    }
}

/// A payload of one string.
pub(super) fn text(value: impl Display) -> Vec<u8> {
    format!("{value}\0").into_bytes()
}

/// The number that a text begins with, 0 where it begins with none; none where it is negative or too large.
pub(super) fn leading_number(text: &[u8]) -> Option<usize> {
    if text.starts_with(b"-") {
        return None;
    }
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.into_iter().try_fold(0usize, |number, digit| {
        number
            .checked_mul(10)?
            .checked_add(usize::from(digit - b'0'))
    })
}
