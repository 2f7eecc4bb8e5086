#[remote]
trait Account {
    async fn deposit(&mut self, cents: u64);
    async fn merge<T>(&self, other: T);
}
