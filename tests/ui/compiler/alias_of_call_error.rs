use farcall::{CallError, remote};

type Failure = CallError<String>;

#[remote]
trait Account {
    async fn balance(&self) -> Result<u64, Failure>;
}

fn main() {}
