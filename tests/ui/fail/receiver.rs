use farcall::remote;

#[remote]
trait Account {
    async fn deposit(&mut self, cents: u64) -> u64;
    async fn close(self);
    async fn open(name: String) -> u64;
}

fn main() {}
