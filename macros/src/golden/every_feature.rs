#[remote(semantics = "at_least_once", timeout = "1m30s", crate = far)]
trait Shop: Send {
    /// Lends its arguments.
    #[remote(semantics = "at_most_once", max_reply = "64KiB", spawn)]
    #[deprecated]
    async fn r#move(&self, order: &Order<'_>, bytes: Vec<u8>, text: Cow<str>) -> Vec<u8>;

    #[remote(oneway)]
    #[cfg(unix)]
    async fn note(&self, _lines: &[String]) {
        println!("noted");
    }
}
