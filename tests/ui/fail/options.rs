use farcall::remote;

#[remote(timeout = "2", max_reply = "1MB", colour = "red", spawn = true, crate = "farcall", oneway, oneway)]
trait Account {
    #[remote(crate = farcall)]
    async fn note(&self);
}

fn main() {}
