//! `#[cfg]` on a method holds for all that is generated from it.
#![deny(warnings)]

use farcall::{Interface, remote};

#[remote]
trait Account {
    async fn balance(&self) -> u64;

    #[cfg(any())]
    async fn nowhere(&self, absent: ThereIsNoSuchType) -> u64;

    #[cfg(any())]
    async fn amount(&self) -> u8;
    #[cfg(not(any()))]
    async fn amount(&self) -> u64;
}

struct Memory;

#[remote]
impl Account for Memory {
    async fn balance(&self) -> u64 {
        5
    }

    #[cfg(any())]
    async fn nowhere(&self, absent: ThereIsNoSuchType) -> u64 {
        6
    }

    #[cfg(not(any()))]
    async fn amount(&self) -> u64 {
        7
    }
}

#[remote]
#[cfg(any())]
trait Absent {
    async fn method(&self, absent: ThereIsNoSuchType);
}

#[remote]
#[cfg(any())]
impl Absent for Memory {
    async fn method(&self, absent: ThereIsNoSuchType) {}
}

#[test]
fn runs() {
    let _ = Memory;
    let names: Vec<_> =
        <dyn Account>::DESCRIPTOR.methods.iter().map(|method| method.name).collect();
    assert_eq!(names, ["balance", "amount"]);
}
