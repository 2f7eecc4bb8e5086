use farcall::remote;

struct Opaque;

#[remote]
trait Account {
    async fn balance(&self) -> Opaque;
}

fn main() {}
