use farcall::remote;

#[remote]
trait Ledger {
    #[remote(semantics = "exactly_once", spawn)]
    async fn transfer(&self, from: &str, to: &str, cents: i64);

    #[remote(oneway, semantics = "exactly_once")]
    async fn note(&self, line: &str);
}

#[remote(semantics = "exactly_once", timeout = "2s")]
trait Shop {
    #[remote(spawn)]
    async fn order(&self, item: &str) -> u64;

    #[remote(semantics = "at_most_once", spawn)]
    async fn search(&self, word: &str) -> Vec<String>;
}

#[remote(spawn)]
trait Archive {
    #[remote(semantics = "exactly_once")]
    async fn keep(&self, text: &str);
}

#[remote(oneway, semantics = "exactly_once")]
trait Log {
    async fn write(&self, line: &str);
}

fn main() {}
