//! Requests that work the same way inside and outside of transactions.

use xenstore::{Client, Permission, Result, Transaction};

/// A client, or one of its transactions.
pub(crate) trait Store {
    fn read(&mut self, path: &str) -> Result<Vec<u8>>;
    fn write(&mut self, path: &str, value: &[u8]) -> Result<()>;
    fn mkdir(&mut self, path: &str) -> Result<()>;
    fn remove(&mut self, path: &str) -> Result<()>;
    fn list(&mut self, path: &str) -> Result<Vec<String>>;
    fn set_permissions(&mut self, path: &str, permissions: &[Permission]) -> Result<()>;
}

macro_rules! impl_store {
    ($type:ty) => {
        impl Store for $type {
            fn read(&mut self, path: &str) -> Result<Vec<u8>> {
                self.read(path)
            }
            fn write(&mut self, path: &str, value: &[u8]) -> Result<()> {
                self.write(path, value)
            }
            fn mkdir(&mut self, path: &str) -> Result<()> {
                self.mkdir(path)
            }
            fn remove(&mut self, path: &str) -> Result<()> {
                self.remove(path)
            }
            fn list(&mut self, path: &str) -> Result<Vec<String>> {
                self.list(path)
            }
            fn set_permissions(&mut self, path: &str, permissions: &[Permission]) -> Result<()> {
                self.set_permissions(path, permissions)
            }
        }
    };
}

impl_store!(Client);
impl_store!(Transaction<'_>);

/// Runs `body`, in a transaction if it sends several requests. A transaction may run `body` several
/// times.
pub(crate) fn in_transaction(
    client: &mut Client,
    has_several_requests: bool,
    mut body: impl FnMut(&mut dyn Store) -> Result<()>,
) -> Result<()> {
    if has_several_requests {
        client.transaction(|transaction| body(transaction))
    } else {
        body(client)
    }
}
