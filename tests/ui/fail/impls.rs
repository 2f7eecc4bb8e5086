use farcall::remote;

#[remote]
trait Account {
    async fn balance(&self) -> u64;
    async fn deposit(&self, cents: u64) -> u64;
}

struct Memory;

#[remote]
impl<T: Send + Sync> Account for T {
    async fn balance(&self) -> u64 {
        5
    }
}

#[remote]
impl Memory {}

#[remote(timeout = "2s")]
impl Account for Memory {
    #[remote(semantics = "maybe")]
    async fn balance(&self) -> u64 {
        5
    }

    fn deposit(&mut self, cents: u64) -> u64 {
        cents
    }
}

#[remote]
struct Nothing;

fn main() {}
