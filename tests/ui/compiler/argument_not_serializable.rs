use farcall::remote;

struct Opaque;

#[remote]
trait Account {
    async fn deposit(&self, amount: Opaque);
}

fn main() {}
