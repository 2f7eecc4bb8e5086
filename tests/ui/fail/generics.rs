use farcall::remote;

#[remote]
trait Account {
    async fn deposit<T>(&self, amount: T) -> u64;
    async fn rename<'a>(&'a self, name: &'a str) -> u64;
    async fn close(&self)
    where
        Self: Sized;
    async fn describe(&self, something: impl ToString) -> String;
}

fn main() {}
