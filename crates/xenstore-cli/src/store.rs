//! Requests that are the same in a transaction and outside one.

use xenstore::{Client, Permission, Result, Transaction};

/// The store, within a transaction or not.
pub(crate) trait Store {
    fn read(&mut self, path: &str) -> Result<Vec<u8>>;
    fn write(&mut self, path: &str, value: &[u8]) -> Result<()>;
    fn mkdir(&mut self, path: &str) -> Result<()>;
    fn remove(&mut self, path: &str) -> Result<()>;
    fn list(&mut self, path: &str) -> Result<Vec<String>>;
    fn set_permissions(&mut self, path: &str, permissions: &[Permission]) -> Result<()>;
}

macro_rules! is_store {
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

is_store!(Client);
is_store!(Transaction<'_>);

/// Runs `body`, in a transaction where it makes more than one request. It may then run several times.
pub(crate) fn together(
    client: &mut Client,
    is_more_than_one: bool,
    mut body: impl FnMut(&mut dyn Store) -> Result<()>,
) -> Result<()> {
    if is_more_than_one {
        client.transaction(|transaction| body(transaction))
    } else {
        body(client)
    }
}
