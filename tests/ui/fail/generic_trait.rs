use farcall::remote;

#[remote]
trait Account<T> {
    async fn deposit(&self, amount: T) -> u64;
}

struct Memory;

#[remote]
impl Account<u64> for Memory {
    async fn deposit(&self, amount: u64) -> u64 {
        amount
    }
}

fn main() {}
