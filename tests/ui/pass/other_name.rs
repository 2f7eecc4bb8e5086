//! An impl names the trait as it was imported, and nothing else of it.
#![deny(warnings)]

mod bank {
    #[farcall::remote]
    pub trait Account {
        async fn deposit(&self, cents: u64) -> Result<u64, String>;
    }
}

use std::sync::Arc;

use bank::Account as Konto;

struct Memory;

#[farcall::remote]
impl Konto for Memory {
    async fn deposit(&self, cents: u64) -> Result<u64, String> {
        Ok(cents)
    }
}

struct Other;

#[farcall::remote]
impl self::bank::Account for Other {
    async fn deposit(&self, cents: u64) -> Result<u64, String> {
        Ok(cents)
    }
}

#[test]
fn runs() {
    let _: [Arc<dyn Konto>; 2] = [Arc::new(Memory), Arc::new(Other)];
}
