//! Requests of the wire protocol and their replies.

use super::arguments::{Arguments, leading_number, text};
use super::caller::Caller;
use super::connection::ConnectionId;
use super::model::Model;
use super::store::Store;
use super::tree::Node;
use crate::domid::DomId;
use crate::error::ErrorCode;
use crate::permission::Permission;
use crate::wire::{Message, MessageKind, PAYLOAD_MAX};

type Result<T> = std::result::Result<T, ErrorCode>;

impl Store {
    /// Serves one request of a connection. Queues the reply and all events that the request causes.
    pub fn handle(&mut self, connection: ConnectionId, request: &Message) {
        let Some(open) = self.connections.get(&connection) else {
            return;
        };
        let domain = open.domain;
        if open.is_cut() {
            return;
        }
        if self.faults.disconnects(domain, request) {
            self.disconnect(connection);
            return;
        }
        self.log.record(domain, request);

        let result = match self.faults.refuses(domain, request) {
            Some(code) => Err(code),
            None => self.perform(connection, request),
        };

        let is_new_watch = request.kind == MessageKind::WATCH && result.is_ok();
        self.reply(connection, request, result);
        if is_new_watch {
            if let Some(connection) = self.connections.get_mut(&connection) {
                connection.fire_newest_watch();
            }
        }
    }

    fn reply(&mut self, connection: ConnectionId, request: &Message, result: Result<Vec<u8>>) {
        let result = result.and_then(|payload| match payload.len() {
            ..=PAYLOAD_MAX => Ok(payload),
            // On the socket of domain 0, oxenstored exceeds what the protocol allows.
            _ if self.model.is_oxenstored() && self.is_of_domain_0(connection) => Ok(payload),
            _ => Err(ErrorCode::E2BIG),
        });
        let (kind, payload) = match result {
            Ok(payload) => (request.kind, payload),
            Err(code) => (MessageKind::ERROR, text(code)),
        };
        let mut reply = Message {
            kind,
            request_id: request.request_id,
            transaction_id: request.transaction_id,
            payload,
        };

        let Some(open) = self.connections.get_mut(&connection) else {
            return;
        };
        if kind != MessageKind::ERROR && self.faults.hides_id(open.domain, request) {
            reply.request_id = 0;
            reply.transaction_id = 0;
        }
        let fault = self.faults.of_reply(open.domain, request);
        open.push_reply(reply, fault);
    }

    fn is_of_domain_0(&self, connection: ConnectionId) -> bool {
        let open = self.connections.get(&connection);
        open.is_some_and(|open| open.domain == DomId::DOM0)
    }

    /// Performs a request and returns the payload of its reply.
    fn perform(&mut self, id: ConnectionId, request: &Message) -> Result<Vec<u8>> {
        let connection = self.connections.get(&id).ok_or(ErrorCode::EINVAL)?;
        let mut caller = self.caller(connection.domain);
        if !is_known(request.kind, self.model) {
            return Err(ErrorCode::ENOSYS);
        }
        if !caller.is_privileged() && needs_privilege(request, self.model) {
            return Err(ErrorCode::EACCES);
        }

        // Watches are not part of transactions, so the transaction of such a request is ignored.
        let transaction = match request.kind {
            MessageKind::WATCH | MessageKind::UNWATCH => 0,
            _ => request.transaction_id,
        };
        if transaction != 0 {
            let open = self.take_transaction(id, transaction);
            caller.transaction = Some(open.ok_or(self.model.unknown_transaction())?);
        }

        let result = self
            .count_request(&mut caller)
            .and_then(|()| self.dispatch(id, &mut caller, request));

        if let Some(open) = caller.transaction.take() {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.transactions.insert(transaction, open);
            }
        }
        result
    }

    fn dispatch(
        &mut self,
        id: ConnectionId,
        caller: &mut Caller,
        request: &Message,
    ) -> Result<Vec<u8>> {
        let payload = request.payload.as_slice();
        let arguments = &Arguments::new(payload);
        let ok = |()| text("OK");

        match request.kind {
            MessageKind::DIRECTORY => {
                let path = self.canonical(caller.domain, arguments.only()?, false)?;
                self.get(caller, &path, Node::directory)
            }
            MessageKind::DIRECTORY_PART => {
                let [path, offset] = arguments.all()?;
                let path = self.canonical(caller.domain, path, false)?;
                // C xenstored casts the result of atoi(3), so that a negative offset is beyond the
                // end of any list.
                let offset = leading_number(offset).unwrap_or(usize::MAX);
                self.get(caller, &path, |node| node.directory_part(offset))
            }
            MessageKind::READ => {
                let path = self.canonical(caller.domain, arguments.only()?, false)?;
                self.get(caller, &path, |node| node.value.to_vec())
            }
            MessageKind::GET_PERMS => {
                let path = self.canonical(caller.domain, arguments.only()?, true)?;
                self.get(caller, &path, |node| {
                    node.permissions.iter().flat_map(text).collect()
                })
            }
            MessageKind::SET_PERMS => self.set_permissions_as(caller, arguments).map(ok),
            MessageKind::WRITE => {
                let (path, _) = arguments.first_and_rest()?;
                let value = payload.get(path.len() + 1..).unwrap_or_default();
                if self.model.is_oxenstored() && value.len() > self.quotas.node_size {
                    return Err(ErrorCode::E2BIG);
                }
                let path = self.canonical(caller.domain, path, false)?;
                self.write_node(caller, &path, value).map(ok)
            }
            MessageKind::MKDIR => {
                let path = self.canonical(caller.domain, arguments.only()?, false)?;
                self.make_node(caller, &path).map(ok)
            }
            MessageKind::RM => {
                let path = self.canonical(caller.domain, arguments.only()?, false)?;
                self.remove_node(caller, &path).map(ok)
            }
            MessageKind::WATCH => self.set_watch(id, caller, arguments).map(ok),
            MessageKind::UNWATCH => self.end_watch(id, caller, arguments.all()?).map(ok),
            MessageKind::RESET_WATCHES => {
                caller.transaction = None;
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.watches.clear();
                    connection.transactions.clear();
                }
                Ok(ok(()))
            }
            MessageKind::TRANSACTION_START => self.start_transaction(id, caller),
            MessageKind::TRANSACTION_END => self.end_transaction(caller, arguments.only()?).map(ok),
            MessageKind::CONTROL if self.model.is_oxenstored() => Ok(ok(())),
            MessageKind::CONTROL => control(arguments),
            _ => self.domain_request(caller, request.kind, arguments),
        }
    }

    fn set_permissions_as(&mut self, caller: &mut Caller, arguments: &Arguments<'_>) -> Result<()> {
        let (path, entries) = arguments.first_and_rest()?;
        if entries.len() > self.limit(caller.domain, |quotas| quotas.permissions) {
            return Err(ErrorCode::ENOSPC);
        }

        let entries: Option<Vec<_>> = entries
            .iter()
            .map(|entry| std::str::from_utf8(entry).ok()?.parse::<Permission>().ok())
            .collect();
        let path = self.canonical(caller.domain, path, true)?;
        self.set_node_permissions(caller, &path, &entries.ok_or(ErrorCode::EINVAL)?)
    }
}

/// Whether clients may send messages of this kind.
fn is_known(kind: MessageKind, model: Model) -> bool {
    match kind {
        MessageKind::WATCH_EVENT | MessageKind::ERROR => false,
        MessageKind::GET_FEATURE
        | MessageKind::SET_FEATURE
        | MessageKind::GET_QUOTA
        | MessageKind::SET_QUOTA => model == Model::CXenstored4_22,
        MessageKind::DIRECTORY_PART => !model.is_oxenstored(),
        _ => kind.name().is_some(),
    }
}

/// Whether only domain 0 may send this request.
fn needs_privilege(request: &Message, model: Model) -> bool {
    match request.kind {
        MessageKind::CONTROL => !model.is_oxenstored(),
        MessageKind::INTRODUCE
        | MessageKind::RELEASE
        | MessageKind::IS_DOMAIN_INTRODUCED
        | MessageKind::RESUME
        | MessageKind::SET_TARGET
        | MessageKind::SET_FEATURE
        | MessageKind::GET_QUOTA
        | MessageKind::SET_QUOTA => true,
        // A domain may ask for its own features, which it does by naming no domain.
        MessageKind::GET_FEATURE => !request.payload.is_empty(),
        _ => false,
    }
}

/// Performs one of the few `CONTROL` commands that this server has.
fn control(arguments: &Arguments<'_>) -> Result<Vec<u8>> {
    match arguments.strings() {
        [b"help"] => Ok(text("check\t\nprint\t<string>\nhelp\t\n")),
        [b"check"] | [b"print", _] => Ok(text("OK")),
        _ => Err(ErrorCode::EINVAL),
    }
}
