//! A `Result` of the user's with both its types is used as he wrote it, so that its import is used.
#![deny(warnings)]

mod errors {
    pub(crate) type Result<T, E = String> = std::result::Result<T, E>;
}

mod interface {
    use super::errors::Result;

    #[farcall::remote]
    pub(crate) trait Account {
        async fn deposit(&self, cents: u64) -> Result<u64, String>;
        async fn close(&self) -> Result<(), String> {
            Err(String::from("never"))
        }
    }
}

mod implementation {
    use super::errors::Result;

    pub(crate) struct Memory;

    #[farcall::remote]
    impl super::Account for Memory {
        async fn deposit(&self, cents: u64) -> Result<u64, String> {
            Ok(cents)
        }
    }
}

use interface::Account;

#[test]
fn runs() {
    let _: std::sync::Arc<dyn Account> = std::sync::Arc::new(implementation::Memory);
}
