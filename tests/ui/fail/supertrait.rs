use farcall::remote;

#[remote]
trait Account: std::fmt::Debug + Send {
    async fn balance(&self) -> u64;
}

#[remote]
trait Shop: Send + Sync + Unpin + std::panic::UnwindSafe + std::panic::RefUnwindSafe {
    async fn order(&self) -> u64;
}

fn main() {}
