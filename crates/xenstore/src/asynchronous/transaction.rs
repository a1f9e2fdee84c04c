//! Transactions of the async client.

use std::future::Future;
use std::mem;

use tokio::sync::oneshot;

use super::client::{AsyncClient, Command};
use crate::client::{TRANSACTION_ATTEMPTS, is_repeatable};
use crate::error::{Error, Result};
use crate::nodes::AsyncNodes;
use crate::request::{Request, TransactionId};

impl AsyncClient {
    /// Runs `body` in a transaction and commits it, so that all of its changes happen at once or
    /// not at all.
    ///
    /// The transaction is repeated after a conflict with another client, and if a suspend of the
    /// domain interrupted it. So `body` may run several times. If `body` returns an error, or if
    /// the future is dropped, the transaction is aborted.
    ///
    /// ```no_run
    /// # async fn count(client: xenstore::AsyncClient) -> xenstore::Result<()> {
    /// use xenstore::AsyncNodes;
    ///
    /// client
    ///     .transaction(async |transaction| {
    ///         let count = transaction.read_text("data/count").await?.parse().unwrap_or(0);
    ///         transaction.write("data/count", (count + 1).to_string()).await
    ///     })
    ///     .await
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of `body`, `EAGAIN` after 1000 conflicts, and those that close the connection.
    pub async fn transaction<T>(
        &self,
        mut body: impl AsyncFnMut(&AsyncTransaction) -> Result<T>,
    ) -> Result<T> {
        let mut conflict = None;
        for _ in 0..TRANSACTION_ATTEMPTS {
            let transaction = self.begin().await?;
            let result = body(&transaction).await;
            if result.as_ref().is_err_and(Error::is_fatal) {
                return result;
            }

            let probe = if result.is_err() {
                let error = transaction.probe().await.err();
                error.filter(|error| !matches!(error, Error::InvalidReply(_)))
            } else {
                None
            };
            let end = transaction.end(result.is_ok()).await.err();
            match probe.or(end) {
                None => return result,
                Some(error) if is_repeatable(&error) => conflict = Some(error),
                Some(error) => return Err(error),
            }
        }
        Err(conflict.unwrap_or_else(|| {
            Error::Protocol(
                "the transaction was not started, because it may be tried 0 times".to_owned(),
            )
        }))
    }

    pub(super) async fn begin(&self) -> Result<AsyncTransaction> {
        let (reply, replied) = oneshot::channel();
        let client = self.clone();
        self.command(Command::Begin(Box::new(move |id| {
            // If the receiver is gone, the transaction is dropped here, which aborts it.
            let _ = reply.send(id.map(|id| AsyncTransaction::new(client, id)));
        })));
        self.reply(replied).await?
    }
}

/// An open transaction. It sees the store as of its start, and its own changes.
#[derive(Debug)]
pub struct AsyncTransaction {
    client: AsyncClient,
    id: TransactionId,
    is_open: bool,
}

impl AsyncTransaction {
    fn new(client: AsyncClient, id: TransactionId) -> Self {
        AsyncTransaction {
            client,
            id,
            is_open: true,
        }
    }

    /// Sends a request that fails only if a suspend has ended the transaction.
    async fn probe(&self) -> Result<()> {
        self.call(Request::domain_path(0)).await.map(drop)
    }

    async fn end(mut self, commit: bool) -> Result<()> {
        // There is no await between this and sending the request, so that the end is sent exactly
        // once.
        self.is_open = false;
        let replied = self
            .client
            .send(Request::transaction_end(self.id, commit).untyped());
        self.client.reply(replied).await?.map(drop)
    }
}

impl AsyncNodes for AsyncTransaction {
    fn call<T>(&self, request: Request<T>) -> impl Future<Output = Result<T>> + Send {
        self.client.call(request.within(self.id))
    }

    fn pipeline<T>(
        &self,
        requests: impl IntoIterator<Item = Request<T>>,
    ) -> impl Future<Output = Result<Vec<Result<T>>>> + Send {
        let requests = requests.into_iter();
        self.client
            .pipeline(requests.map(|request| request.within(self.id)))
    }
}

impl Drop for AsyncTransaction {
    fn drop(&mut self) {
        if mem::take(&mut self.is_open) {
            let end = Request::transaction_end(self.id, false);
            drop(self.client.send(end.untyped()));
        }
    }
}
