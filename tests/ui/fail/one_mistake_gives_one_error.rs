use std::sync::Arc;

use farcall::remote;

/// Its method has one mistake; everything that uses the interface is right.
#[remote]
trait Account {
    async fn deposit(&mut self, cents: u64) -> u64;
    async fn balance(&self) -> u64;
}

struct Memory;

#[remote]
impl Account for Memory {
    async fn deposit(&self, cents: u64) -> u64 {
        cents
    }
    async fn balance(&self) -> u64 {
        5
    }
}

async fn call(proxy: AccountProxy, object: Arc<dyn Account>) -> u64 {
    let _ = proxy.deposit(5).await;
    object.balance().await.unwrap_or(0)
}

fn main() {
    let _ = call;
}
