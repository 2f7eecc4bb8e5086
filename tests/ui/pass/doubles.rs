//! Stand-ins for tests: with `#[remote]` and the longer form, or written by hand through
//! async-trait.
#![deny(warnings)]

use std::sync::Arc;

use farcall::{CallError, Implements, Interface, remote};

#[remote]
pub trait Account {
    async fn deposit(&self, cents: u64) -> Result<u64, String>;
    async fn balance(&self) -> u64;
}

pub struct Broken;

#[remote]
impl Account for Broken {
    async fn deposit(&self, _cents: u64) -> Result<u64, CallError<String>> {
        Err(CallError::BufferFull)
    }
    async fn balance(&self) -> Result<u64, CallError> {
        Err(CallError::BufferFull)
    }
}

pub struct ByHand;

impl Implements<<dyn Account as Interface>::Marker> for ByHand {}

#[farcall::__private::async_trait]
impl Account for ByHand {
    async fn deposit(&self, cents: u64) -> Result<u64, CallError<String>> {
        Ok(cents)
    }
    async fn balance(&self) -> Result<u64, CallError> {
        Err(CallError::BufferFull)
    }
}

/// Takes an object, wherever it lives.
pub async fn use_it(account: &dyn Account) -> Result<u64, CallError<String>> {
    account.deposit(5).await
}

#[test]
fn runs() {
    let _: [Arc<dyn Account>; 2] = [Arc::new(Broken), Arc::new(ByHand)];
}
