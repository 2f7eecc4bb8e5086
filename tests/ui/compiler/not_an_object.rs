use farcall::{Interface, Object, remote};

#[remote]
trait Account {
    async fn balance(&self) -> u64;
}

struct Memory;

fn serve<I: ?Sized + Interface>(_: impl Object<I>) {}

fn main() {
    serve::<dyn Account>(Memory);
}
