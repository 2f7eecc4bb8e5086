use farcall::remote;

/// The two names were searched for: their hashes are equal by chance.
#[remote]
trait Ledger {
    async fn open_ledger_of_day(&self) -> u64;
    async fn save_main_number_at_time(&self) -> u64;
}

fn main() {}
