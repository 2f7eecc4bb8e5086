//! An interface and its object can live inside a function.
#![deny(warnings)]

use farcall::{Interface, remote};

#[test]
fn runs() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Local;

    #[remote]
    trait Account {
        async fn balance(&self, local: Local) -> Result<Local, Local>;
    }

    struct Memory;

    #[remote]
    impl Account for Memory {
        async fn balance(&self, local: Local) -> Result<Local, Local> {
            Ok(local)
        }
    }

    let object: std::sync::Arc<dyn Account> = std::sync::Arc::new(Memory);
    let _ = object;
    assert_eq!(<dyn Account>::DESCRIPTOR.methods.len(), 1);
}
