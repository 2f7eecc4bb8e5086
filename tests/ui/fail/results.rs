use farcall::remote;

#[remote]
trait Account {
    async fn name(&self) -> &str;
    async fn title(&self) -> std::borrow::Cow<'_, str>;
    async fn copy(&self) -> Option<Self>;
    async fn read(&self) -> std::io::Result<u64>;
    async fn all(&self) -> impl Iterator<Item = u64>;
}

fn main() {}
