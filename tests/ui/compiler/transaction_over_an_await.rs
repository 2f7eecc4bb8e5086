use farcall::{CallError, remote};

#[remote(semantics = "exactly_once")]
trait Ledger {
    async fn transfer(&self, cents: i64);
}

struct Book;

#[remote]
impl Ledger for Book {
    async fn transfer(&self, cents: i64) -> Result<(), CallError> {
        let tx = farcall::sqlite::transaction()?;
        std::future::ready(()).await;
        tx.execute("update account set cents = cents + ?1", [cents])?;
        Ok(())
    }
}

fn main() {}
