use farcall::remote;

trait Account {
    async fn balance(&self) -> u64;
}

struct Memory;

#[remote]
impl Account for Memory {
    async fn balance(&self) -> u64 {
        5
    }
}

fn main() {}
