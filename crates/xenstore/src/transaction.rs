//! Blocking transactions.

use crate::channel::Channel;
use crate::client::Client;
use crate::error::{Error, ErrorCode, Result};
use crate::nodes::Nodes;
use crate::request::{Request, TransactionId};

/// Maximum number of attempts of a transaction. After the last one the caller gets the conflict as
/// an error.
pub(crate) const MAX_ATTEMPTS: usize = 1000;

/// Maximum number of open transactions of clients that tasks or threads share. Servers allow a guest
/// at least 9, and the kernel and other processes of the guest may need some of them.
pub(crate) const MAX_TRANSACTIONS: usize = 8;

/// The client of a [`Transaction`]: [`Client`] or `&`[`SharedClient`](crate::SharedClient).
///
/// The trait does not have the method `transaction`; each client has its own. Other types cannot
/// implement it, because its supertrait is private.
pub trait Transactional: Nodes + Abandon {}

impl<C: Nodes + Abandon> Transactional for C {}

/// Abort without a reply. Private, so that it seals [`Transactional`].
pub trait Abandon {
    /// Aborts a transaction without waiting for the reply.
    fn abandon(&mut self, transaction: TransactionId);
}

impl<C: Channel> Client<C> {
    /// Runs `body` in a transaction and commits it, so that all of its changes happen at once or
    /// not at all.
    ///
    /// The transaction is repeated after a conflict with another client, and if a suspend of the
    /// domain interrupted it. So `body` may run several times. If `body` returns an error or
    /// panics, the transaction is aborted.
    ///
    /// ```
    /// # #[cfg(feature = "embedded")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use xenstore::{Client, Nodes};
    /// # use xenstore::embedded::{Server, Store, Toolstack};
    /// # let mut store = Store::new();
    /// # store.introduce_guest(5, Toolstack::Xapi);
    /// # let server = Server::new(store).spawn()?;
    ///
    /// // In a guest or in dom0, use `Client::open()?`.
    /// let mut client = Client::new(server.connect(5)?.into());
    /// client.write("data/count", "41")?;
    /// client.transaction(|transaction| -> Result<(), Box<dyn std::error::Error>> {
    ///     let count: u64 = transaction.read_text("data/count")?.parse()?;
    ///     transaction.write("data/count", (count + 1).to_string())?;
    ///     Ok(())
    /// })?;
    /// assert_eq!(client.read("data/count")?, b"42");
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "embedded"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// Those of `body`, `EAGAIN` after 1000 conflicts, and those that close the connection.
    /// `ENOSPC` (C xenstored) or `EQUOTA` (oxenstored) if the domain has as many open transactions
    /// as the server allows; the kernel and all processes of a guest share this quota.
    pub fn transaction<T, E: From<Error>>(
        &mut self,
        body: impl FnMut(&mut Transaction<'_, Self>) -> Result<T, E>,
    ) -> Result<T, E> {
        run(self, body)
    }
}

/// Runs `body` in a transaction, and repeats it until there is no conflict.
pub(crate) fn run<C: Transactional, T, E: From<Error>>(
    client: &mut C,
    mut body: impl FnMut(&mut Transaction<'_, C>) -> Result<T, E>,
) -> Result<T, E> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let id = client.call(Request::begin())?;
        let mut transaction = Transaction {
            client: &mut *client,
            id,
            is_open: true,
            may_be_lost: false,
        };

        let result = body(&mut transaction);
        match transaction.end(result.is_ok())? {
            None => return result,
            Some(conflict) if attempts == MAX_ATTEMPTS => return Err(conflict.into()),
            Some(_) => {}
        }
    }
}

/// An open transaction, which the body of [`Client::transaction`] gets. [The
/// manual](crate::manual::transactions) says what it sees. Dropping it aborts it.
#[derive(Debug)]
pub struct Transaction<'a, C: Transactional = Client> {
    client: &'a mut C,
    id: TransactionId,
    is_open: bool,
    /// Whether a request failed with an error that an unknown transaction also causes.
    may_be_lost: bool,
}

impl<C: Transactional> Transaction<'_, C> {
    /// Commits or aborts the transaction. Returns an error if the transaction must be repeated.
    fn end(mut self, commit: bool) -> Result<Option<Error>> {
        // In a transaction that a suspend has ended, every request fails. This request fails for no
        // other reason.
        let probe = if self.may_be_lost && !commit {
            self.call(Request::domain_path(0).untyped()).map(drop)
        } else {
            Ok(())
        };

        self.is_open = false;
        let end = if commit {
            self.client.call(Request::commit(self.id))
        } else {
            self.client.call(Request::abort(self.id))
        };
        match probe.and(end) {
            Ok(()) => Ok(None),
            Err(error) if is_repeatable(&error) => Ok(Some(error)),
            // The caller returns the error of the body.
            Err(_) if !commit => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn track<T>(&mut self, result: &Result<T>) {
        self.may_be_lost |= result.as_ref().is_err_and(is_repeatable);
    }
}

impl<C: Transactional> Nodes for Transaction<'_, C> {
    fn call<T>(&mut self, request: Request<T>) -> Result<T> {
        let result = self.client.call(request.within(self.id));
        self.track(&result);
        result
    }

    fn pipeline<T>(
        &mut self,
        requests: impl IntoIterator<Item = Request<T>>,
    ) -> Result<Vec<Result<T>>> {
        let id = self.id;
        let requests = requests.into_iter();
        let results = self
            .client
            .pipeline(requests.map(|request| request.within(id)))?;
        for result in &results {
            self.track(result);
        }
        Ok(results)
    }
}

impl<C: Transactional> Drop for Transaction<'_, C> {
    fn drop(&mut self) {
        if self.is_open {
            self.client.abandon(self.id);
        }
    }
}

/// Whether a transaction must be repeated, because of a conflict or because the server no longer
/// knows it.
///
/// The latter happens after a suspend. C xenstored then replies ENOENT, oxenstored 4.17 EIO, and
/// other versions EINVAL.
pub(crate) fn is_repeatable(error: &Error) -> bool {
    let repeatable = [
        ErrorCode::EAGAIN,
        ErrorCode::ENOENT,
        ErrorCode::EINVAL,
        ErrorCode::EIO,
    ];
    error.code().is_some_and(|code| repeatable.contains(code))
}
