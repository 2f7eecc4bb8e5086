/// A bank account.
#[remote]
pub trait Account {
    /// Adds `cents` and returns the new balance.
    async fn deposit(&self, cents: u64) -> Result<u64, String>;
}

pub struct Memory;

#[remote]
impl Account for Memory {
    async fn deposit(&self, cents: u64) -> Result<u64, String> {
        Ok(cents)
    }
}
