//! The longer form where nothing else needs what it names: the import is used, by any path.
#![deny(warnings)]

mod ours {
    pub(crate) use farcall::CallError;
}

mod implementation {
    use farcall::{CallError, remote};

    use super::Account;

    pub(crate) struct Memory;

    #[remote]
    impl Account for Memory {
        async fn deposit(&self, cents: u64) -> Result<u64, CallError<String>> {
            Ok(cents)
        }
        async fn balance(
            &self,
        ) -> std::result::Result<u64, crate::pass::longer_form::ours::CallError> {
            Ok(5)
        }
    }
}

mod interface {
    use farcall::{CallError, remote};

    #[remote]
    pub(crate) trait Account {
        async fn deposit(&self, cents: u64) -> Result<u64, CallError<String>>;
        async fn balance(&self) -> u64;
    }
}

use interface::Account;

#[test]
fn runs() {
    let _: std::sync::Arc<dyn Account> = std::sync::Arc::new(implementation::Memory);
}
