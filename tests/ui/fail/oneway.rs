use farcall::remote;

#[remote]
trait Log {
    #[remote(oneway)]
    async fn lines(&self) -> u64;

    #[remote(oneway)]
    async fn check(&self) -> Result<(), u8>;

    #[remote(oneway, semantics = "at_most_once")]
    async fn write(&self, line: &str);
}

fn main() {}
