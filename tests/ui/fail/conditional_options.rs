use farcall::remote;

#[remote]
trait Account {
    #[cfg_attr(all(), remote(semantics = "maybe"))]
    async fn balance(&self) -> u64;
    #[cfg_attr(any(), inline, cfg_attr(all(), farcall::remote(spawn)))]
    async fn deposit(&self, cents: u64) -> u64;
    #[cfg_attr(all(), doc = "Empties it.")]
    async fn close(&self);
}

struct Memory;

#[remote]
impl Account for Memory {
    async fn balance(&self) -> u64 {
        5
    }
    #[cfg_attr(unix, remote(spawn))]
    async fn deposit(&self, cents: u64) -> u64 {
        cents
    }
    async fn close(&self) {}
}

fn main() {}
