//! Transactions of the async client.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::client::{AsyncClient, Command};
use crate::error::{Error, Result};
use crate::nodes::AsyncNodes;
use crate::request::{Request, TransactionId};
use crate::transaction::{MAX_ATTEMPTS, is_repeatable};

impl AsyncClient {
    /// Runs `body` in a transaction and commits it, so that all of its changes happen at once or
    /// not at all.
    ///
    /// The transaction is repeated after a conflict with another client, and if a suspend of the
    /// domain interrupted it. So `body` may run several times. If `body` returns an error, or if
    /// the future is dropped, the transaction is aborted.
    ///
    /// At most 8 transactions of a connection are open at a time. Others wait until one of them
    /// ends.
    ///
    /// ```no_run
    /// # async fn count(client: xenstore::AsyncClient) -> Result<(), Box<dyn std::error::Error>> {
    /// use xenstore::AsyncNodes;
    ///
    /// let path = "data/count".to_owned();
    /// client
    ///     .transaction(async |transaction| {
    ///         let count: u64 = transaction.read_text(&path).await?.parse()?;
    ///         transaction.write(&path, (count + 1).to_string()).await?;
    ///         Ok::<_, Box<dyn std::error::Error>>(())
    ///     })
    ///     .await
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of `body`, `EAGAIN` after 1000 conflicts, and those that close the connection.
    /// `ENOSPC` (C xenstored) or `EQUOTA` (oxenstored) if other processes of the domain have as
    /// many open transactions as the server allows.
    pub async fn transaction<T, E: From<Error>, F: Future<Output = Result<T, E>>>(
        &self,
        mut body: impl FnMut(AsyncTransaction) -> F,
    ) -> Result<T, E> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let transaction = self.begin().await?;
            let result = body(transaction.clone()).await;
            match transaction.end(result.is_ok()).await? {
                None => return result,
                Some(conflict) if attempts == MAX_ATTEMPTS => return Err(conflict.into()),
                Some(_) => {}
            }
        }
    }

    /// Begins a transaction. [`transaction`](Self::transaction) is easier to use, because it
    /// repeats the transaction after a conflict.
    ///
    /// Do not wait for a second transaction while you keep one open, because it may wait until that
    /// one ends.
    ///
    /// # Errors
    /// Those of [`transaction`](Self::transaction), except conflicts.
    pub async fn begin(&self) -> Result<AsyncTransaction> {
        let client = self.clone();
        self.request(|reply| Command::Begin { client, reply }).await
    }
}

/// Result of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "after a conflict, the transaction must be repeated"]
pub enum Commit {
    /// All changes of the transaction are made.
    Done,
    /// No change is made, because another client changed a node that the transaction used, or
    /// because a suspend interrupted it. Repeat the transaction from its beginning.
    Conflict,
}

/// An open transaction. [The manual](crate::manual::transactions) says what it sees.
///
/// Clones are the same transaction. Dropping the last one aborts it.
///
/// ```
/// # #[cfg(all(feature = "embedded", feature = "tokio"))]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use xenstore::asynchronous::Commit;
/// use xenstore::{AsyncClient, AsyncNodes};
/// # use xenstore::embedded::{Server, Store, Toolstack};
/// # let mut store = Store::new();
/// # store.introduce_guest(5, Toolstack::Xapi);
/// # let server = Server::new(store).spawn()?;
///
/// // In a guest or in dom0, use `AsyncClient::open()?`.
/// let client = AsyncClient::new(server.connect(5)?.into())?;
/// loop {
///     let transaction = client.begin().await?;
///     transaction.write("data/a", "1").await?;
///     transaction.write("data/b", "2").await?;
///     if transaction.commit().await? == Commit::Done {
///         break;
///     }
/// }
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "embedded", feature = "tokio")))]
/// # fn main() {}
/// ```
#[derive(Clone, Debug)]
pub struct AsyncTransaction(Arc<Open>);

#[derive(Debug)]
struct Open {
    client: AsyncClient,
    id: TransactionId,
    is_ended: AtomicBool,
    /// Whether a request failed with an error that an unknown transaction also causes.
    may_be_lost: AtomicBool,
}

impl AsyncTransaction {
    pub(super) fn new(client: AsyncClient, id: TransactionId) -> Self {
        AsyncTransaction(Arc::new(Open {
            client,
            id,
            is_ended: AtomicBool::new(false),
            may_be_lost: AtomicBool::new(false),
        }))
    }

    /// Commits the transaction, so that all of its changes happen at once.
    ///
    /// # Errors
    /// Those that close the connection, and a quota that is reached.
    pub async fn commit(self) -> Result<Commit> {
        Ok(match self.end(true).await? {
            None => Commit::Done,
            Some(_) => Commit::Conflict,
        })
    }

    /// Ends the transaction without its changes, and does not wait for that.
    pub fn abort(self) {
        self.0.abort();
    }

    /// Commits or aborts the transaction. Returns an error if the transaction must be repeated.
    async fn end(self, commit: bool) -> Result<Option<Error>> {
        // In a transaction that a suspend has ended, every request fails. This request fails for no
        // other reason.
        let probe = if self.0.may_be_lost.load(Ordering::Relaxed) && !commit {
            self.call(Request::domain_path(0).untyped()).await.map(drop)
        } else {
            Ok(())
        };

        // There is no await between this and sending the request, so that the end is sent exactly
        // once.
        if self.0.is_ended.swap(true, Ordering::Relaxed) {
            if commit {
                let reason = "the transaction has ended already".to_owned();
                return Err(Request::commit(self.0.id).invalid(reason));
            }
            return Ok(None);
        }
        let request = if commit {
            Request::commit(self.0.id)
        } else {
            Request::abort(self.0.id)
        };
        let client = &self.0.client;
        let end = client
            .request(|reply| Command::End { request, reply })
            .await;
        match probe.and(end) {
            Ok(()) => Ok(None),
            Err(error) if is_repeatable(&error) => Ok(Some(error)),
            // The caller returns the error of the body.
            Err(_) if !commit => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Open {
    fn abort(&self) {
        if !self.is_ended.swap(true, Ordering::Relaxed) {
            let request = Request::abort(self.id);
            drop(self.client.request(|reply| Command::End { request, reply }));
        }
    }

    fn track<T>(&self, result: &Result<T>) {
        if result.as_ref().is_err_and(is_repeatable) {
            self.may_be_lost.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.abort();
    }
}

impl AsyncNodes for AsyncTransaction {
    async fn call<T>(&self, request: Request<T>) -> Result<T> {
        let result = self.0.client.call(request.within(self.0.id)).await;
        self.0.track(&result);
        result
    }

    fn pipeline<T>(
        &self,
        requests: impl IntoIterator<Item = Request<T>>,
    ) -> impl Future<Output = Result<Vec<Result<T>>>> + Send {
        let requests = requests.into_iter();
        let within = requests.map(|request| request.within(self.0.id));
        let replies = self.0.client.pipeline(within);
        async move {
            let results = replies.await?;
            for result in &results {
                self.0.track(result);
            }
            Ok(results)
        }
    }
}
