//! Futures that wait for replies, and the limit of open transactions.

use std::collections::HashSet;

use super::Driver;
use crate::asynchronous::client::{AsyncClient, Reply};
use crate::asynchronous::transaction::AsyncTransaction;
use crate::error::{Error, ErrorCode, Result};
use crate::request::{Request, TransactionId};
use crate::submitted::ReplyParser;
use crate::transaction::MAX_TRANSACTIONS;

/// Future that waits for a reply.
pub(super) enum Waiting {
    Request(Reply<Vec<u8>>),
    Begin(Begin),
    End(Reply<()>),
    Watch { token: String, reply: Reply<()> },
}

/// Future that waits for a transaction to begin.
pub(super) struct Begin {
    pub(super) client: AsyncClient,
    pub(super) reply: Reply<AsyncTransaction>,
}

impl Waiting {
    /// Whether the future that waits for the reply was dropped. The end of a transaction is never
    /// given up.
    fn is_abandoned(&self) -> bool {
        match self {
            Waiting::Request(reply) => reply.is_canceled(),
            Waiting::Begin(begin) => begin.reply.is_canceled(),
            Waiting::Watch { reply, .. } => reply.is_canceled(),
            Waiting::End(_) => false,
        }
    }
}

impl<R> Driver<R> {
    /// Begins the next transactions, as far as the limit allows.
    pub(super) fn begin_next(&mut self) {
        while self.transactions < self.transactions_max {
            let Some(begin) = self.begins.pop_front() else {
                return;
            };
            if !begin.reply.is_canceled() {
                self.transactions += 1;
                self.submit(Request::begin(), Waiting::Begin(begin));
            }
        }
    }

    pub(super) fn submit<T>(&mut self, request: Request<T>, waiting: Waiting) {
        match self.connection.submit(request) {
            Ok(submitted) => drop(self.waiting.insert(submitted.id(), waiting)),
            Err(error) => self.answer(waiting, Err(error)),
        }
    }

    /// Discards the requests whose futures were dropped.
    pub(super) fn cancel_abandoned(&mut self) {
        self.begins.retain(|begin| !begin.reply.is_canceled());

        let mut abandoned = HashSet::new();
        let (watches, transactions) = (&mut self.watches, &mut self.transactions);
        self.waiting.retain(|id, waiting| {
            let is_abandoned = waiting.is_abandoned();
            if is_abandoned {
                abandoned.insert(*id);
                match waiting {
                    Waiting::Begin(_) => *transactions = transactions.saturating_sub(1),
                    Waiting::Watch { token, .. } => drop(watches.remove(token)),
                    Waiting::Request(_) | Waiting::End(_) => {}
                }
            }
            !is_abandoned
        });
        if !abandoned.is_empty() {
            self.connection.cancel_where(|id| abandoned.contains(&id));
        }
    }

    pub(super) fn answer(&mut self, waiting: Waiting, result: Result<Vec<u8>>) {
        match waiting {
            Waiting::Request(reply) => drop(reply.send(result)),
            Waiting::Begin(begin) => {
                let parser = ReplyParser::new(&Request::begin());
                self.on_begun(begin, parser.parse(result));
            }
            Waiting::End(reply) => {
                let _ = reply.send(result.map(drop));
                self.on_ended();
            }
            Waiting::Watch { token, reply } => {
                if result.is_err() {
                    self.watches.remove(&token);
                } else if let Some(watch) = self.watches.get_mut(&token) {
                    watch.is_set = true;
                }
                let _ = reply.send(result.map(drop));
            }
        }
    }

    fn on_begun(&mut self, begin: Begin, result: Result<TransactionId>) {
        match result {
            Ok(id) => {
                self.transactions_max = MAX_TRANSACTIONS;
                // If the future was dropped meanwhile, this drops the transaction, which aborts it.
                let _ = begin
                    .reply
                    .send(Ok(AsyncTransaction::new(begin.client, id)));
            }
            // The next attempt waits until one of the others ends, of which there is at least one.
            Err(error) if is_full(&error) && self.transactions > 1 => {
                self.transactions -= 1;
                self.transactions_max = self.transactions;
                self.begins.push_front(begin);
            }
            Err(error) => {
                let _ = begin.reply.send(Err(error));
                self.on_ended();
            }
        }
    }

    /// Counts the end of a transaction.
    fn on_ended(&mut self) {
        self.transactions = self.transactions.saturating_sub(1);
    }
}

/// Whether the domain has as many open transactions as the server allows.
fn is_full(error: &Error) -> bool {
    matches!(error.code(), Some(ErrorCode::ENOSPC | ErrorCode::EQUOTA))
}
