use farcall::remote;

#[remote]
trait Account {
    const CURRENCY: &'static str;
    type Money;
    async fn balance(&self) -> u64;
}

struct Memory;

#[remote]
impl Account for Memory {
    const CURRENCY: &'static str = "EUR";
    type Money = u64;
    async fn balance(&self) -> u64 {
        5
    }
}

fn main() {}
