use farcall::remote;

#[remote(semantics = "at_most_twice")]
trait Account {
    #[remote(semantics = "never")]
    async fn balance(&self) -> u64;
}

fn main() {}
