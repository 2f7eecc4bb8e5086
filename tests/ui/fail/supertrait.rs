use farcall::remote;

#[remote]
trait Account: std::fmt::Debug + Send {
    async fn balance(&self) -> u64;
}

fn main() {}
