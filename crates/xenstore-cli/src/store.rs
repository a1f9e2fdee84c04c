//! Calls that work the same way inside and outside of transactions.

use xenstore::{Client, Nodes, Request, Result, Transaction};

/// A client, or one of its transactions.
pub(crate) enum Store<'a, 'client> {
    Client(&'a mut Client),
    Transaction(&'a mut Transaction<'client>),
}

impl Nodes for Store<'_, '_> {
    fn call<T>(&mut self, request: Request<T>) -> Result<T> {
        match self {
            Store::Client(client) => client.call(request),
            Store::Transaction(transaction) => transaction.call(request),
        }
    }

    fn pipeline<T>(
        &mut self,
        requests: impl IntoIterator<Item = Request<T>>,
    ) -> Result<Vec<Result<T>>> {
        match self {
            Store::Client(client) => client.pipeline(requests),
            Store::Transaction(transaction) => transaction.pipeline(requests),
        }
    }
}

/// Runs `body`, in a transaction if it sends several requests. A transaction may run `body` several
/// times.
pub(crate) fn in_transaction(
    client: &mut Client,
    has_several_requests: bool,
    mut body: impl FnMut(&mut Store<'_, '_>) -> Result<()>,
) -> Result<()> {
    if has_several_requests {
        client.transaction(|transaction| body(&mut Store::Transaction(transaction)))
    } else {
        body(&mut Store::Client(client))
    }
}
