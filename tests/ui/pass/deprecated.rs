//! A deprecated method warns its callers, and not at the expansion.
#![deny(warnings)]

use farcall::remote;

#[remote]
trait Account {
    #[deprecated = "use `balance`"]
    async fn amount(&self, unit: u8) -> u64;
    #[doc(hidden)]
    async fn balance(&self) -> u64;
}

#[remote]
#[deprecated]
trait Purse {
    async fn coins(&self) -> u64;
}

struct Memory;

#[remote]
impl Account for Memory {
    async fn amount(&self, unit: u8) -> u64 {
        u64::from(unit)
    }
    async fn balance(&self) -> u64 {
        5
    }
}

#[remote]
#[allow(deprecated)]
impl Purse for Memory {
    async fn coins(&self) -> u64 {
        5
    }
}

#[test]
fn runs() {
    let _ = Memory;
}
