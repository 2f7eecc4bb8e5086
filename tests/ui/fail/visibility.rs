use farcall::remote;

/// One mistake at each method; what uses the interface is right.
#[remote]
trait Account {
    /// The balance.
    #[remote(semantics = "at_least_once")]
    pub async fn balance(&self) -> u64;
    pub(crate) async fn close(&self) {}
    pub type Cents;
}

struct Memory;

#[remote]
impl Account for Memory {
    async fn balance(&self) -> u64 {
        5
    }
}

async fn call(proxy: AccountProxy) {
    let _ = proxy.balance().await;
    let _ = proxy.close().await;
}

fn main() {
    let _ = call;
}
