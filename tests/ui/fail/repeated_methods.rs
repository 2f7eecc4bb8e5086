use farcall::remote;

#[remote]
trait Account {
    async fn balance(&self) -> u64;
    async fn balance(&self) -> u64;
}

fn main() {}
