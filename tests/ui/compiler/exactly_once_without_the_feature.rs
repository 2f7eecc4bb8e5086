use farcall_macros::remote;

#[remote]
trait Ledger {
    #[remote(semantics = "exactly_once")]
    async fn transfer(&self, from: &str, to: &str, cents: i64);
}

fn main() {}
