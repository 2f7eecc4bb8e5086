use farcall::remote;

#[remote]
trait Account {
    fn balance(&self) -> u64;
    async unsafe fn deposit(&self, cents: u64) -> u64;
}

fn main() {}
