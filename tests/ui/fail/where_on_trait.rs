use farcall::remote;

#[remote]
trait Account
where
    Self: Send,
{
    async fn balance(&self) -> u64;
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
}

fn main() {
    let _ = call;
}
