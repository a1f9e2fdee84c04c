//! Transactions of the async client.

use std::mem;

use super::AsyncClient;
use crate::calls::{self, node_calls};
use crate::error::Result;
use crate::path::Path;
use crate::permission::Permission;
use crate::request::{Request, TransactionId};
use crate::walk::{self, Walk};

/// An open transaction: sees the store as it was when the transaction began, and its own changes.
#[derive(Debug)]
pub struct AsyncTransaction {
    client: AsyncClient,
    id: TransactionId,
    is_open: bool,
}

impl AsyncTransaction {
    pub(super) fn new(client: AsyncClient, id: TransactionId) -> Self {
        AsyncTransaction {
            client,
            id,
            is_open: true,
        }
    }

    node_calls!(self [&self] [async] [.await]);

    /// As [`AsyncClient::pipeline`].
    ///
    /// # Errors
    /// As there.
    pub async fn pipeline(
        &self,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<Vec<Result<Vec<u8>>>> {
        self.client
            .pipeline(requests.into_iter().map(|request| request.within(self.id)))
            .await
    }

    async fn call(&self, request: Request) -> Result<Vec<u8>> {
        self.client.call(request.within(self.id)).await
    }

    /// A request that fails for nothing but that the transaction is lost.
    pub(super) async fn probe(&self) -> Result<Vec<u8>> {
        self.call(Request::domain_path(0)).await
    }

    pub(super) async fn end(mut self, commit: bool) -> Result<()> {
        // From here to the request's being sent nothing waits.
        self.is_open = false;
        let replied = self.client.send(Request::transaction_end(self.id, commit));
        self.client.reply(replied).await?.map(drop)
    }
}

impl Drop for AsyncTransaction {
    fn drop(&mut self) {
        if mem::take(&mut self.is_open) {
            drop(self.client.send(Request::transaction_end(self.id, false)));
        }
    }
}
