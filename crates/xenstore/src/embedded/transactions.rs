//! Start, end and commit of transactions.

use std::sync::Arc;

use super::arguments::text;
use super::caller::Caller;
use super::connection::ConnectionId;
use super::store::Store;
use super::transaction::Transaction;
use crate::domid::DomId;
use crate::error::ErrorCode;

type Result<T> = std::result::Result<T, ErrorCode>;

impl Store {
    pub(super) fn start_transaction(
        &mut self,
        id: ConnectionId,
        caller: &Caller,
    ) -> Result<Vec<u8>> {
        if caller.transaction.is_some() {
            return Err(ErrorCode::EBUSY);
        }
        let limit = self.limit(caller.domain, |quotas| quotas.transactions);
        let open = self.transaction_count(caller.domain);
        if !self.model.allows_another(open, limit) {
            return Err(self.model.quota_full());
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

    pub(super) fn take_transaction(
        &mut self,
        id: ConnectionId,
        transaction: u32,
    ) -> Option<Transaction> {
        self.connections
            .get_mut(&id)?
            .transactions
            .remove(&transaction)
    }

    /// Counts a request of a transaction, which oxenstored limits.
    pub(super) fn count_request(&self, caller: &mut Caller) -> Result<()> {
        if !self.model.is_oxenstored() {
            return Ok(());
        }

        let limit = self.limit(caller.domain, |quotas| quotas.transaction_nodes);
        match &mut caller.transaction {
            Some(transaction) if transaction.requests >= limit => Err(ErrorCode::EQUOTA),
            Some(transaction) => {
                transaction.requests += 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn end_transaction(&mut self, caller: &mut Caller, commit: &[u8]) -> Result<()> {
        let commit = match commit {
            b"T" => true,
            b"F" => false,
            _ => return Err(ErrorCode::EINVAL),
        };
        let transaction = caller.transaction.take().ok_or(ErrorCode::ENOENT)?;
        if commit {
            self.commit(caller, transaction)
        } else {
            Ok(())
        }
    }

    /// Applies all changes of a transaction, or none of them.
    fn commit(&mut self, caller: &Caller, transaction: Transaction) -> Result<()> {
        if transaction.has_failed {
            return Err(ErrorCode::ENOMEM);
        }
        if transaction.has_created_nodes && !caller.is_privileged() {
            for domain in transaction
                .changed_domains()
                .filter(|domain| *domain != DomId::DOM0)
            {
                if transaction.owned(&self.tree, domain) >= self.node_limit(domain) {
                    return Err(self.model.quota_full());
                }
            }
        }

        if self.faults.conflicts(caller.domain) {
            return Err(ErrorCode::EAGAIN);
        }
        if transaction.conflicts(&self.tree) {
            return Err(ErrorCode::EAGAIN);
        }

        for (path, change) in transaction.into_changes() {
            match change.node {
                Some(node) => self.tree.put(&path, Arc::unwrap_or_clone(node)),
                None => self.tree.remove(&path),
            }
            if let Some(exact) = change.event {
                self.fire(&path, exact, change.before.as_deref());
            }
        }
        Ok(())
    }
}
