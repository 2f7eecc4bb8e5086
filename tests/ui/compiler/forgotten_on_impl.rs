use farcall::remote;

#[remote]
trait Account {
    async fn balance(&self) -> u64;
}

struct Memory;

impl Account for Memory {
    async fn balance(&self) -> u64 {
        5
    }
}

fn main() {}
