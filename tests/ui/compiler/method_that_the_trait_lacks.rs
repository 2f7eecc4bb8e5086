use farcall::remote;

#[remote]
trait Account {
    async fn balance(&self) -> u64;
}

struct Memory;

#[remote]
impl Account for Memory {
    async fn balance(&self) -> u64 {
        5
    }
    async fn close(&self) -> u64 {
        6
    }
}

fn main() {}
