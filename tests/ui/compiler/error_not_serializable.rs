use farcall::remote;

struct Opaque;

#[remote]
trait Account {
    async fn balance(&self) -> Result<u64, Opaque>;
}

fn main() {}
