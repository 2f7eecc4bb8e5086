use farcall::remote;

struct Order<'a>(&'a str);

#[remote]
trait Account {
    async fn take(&self, order: Order) -> u64;
}

fn main() {}
