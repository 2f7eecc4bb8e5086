//! `exactly_once` beside another semantics, with the three forms of a result in the impl.
#![deny(warnings, missing_docs, missing_debug_implementations, unused_qualifications)]
#![deny(unreachable_pub, unused_lifetimes, single_use_lifetimes, unnameable_types)]

use std::sync::Arc;

use farcall::{CallError, Interface, MethodError, Semantics, remote};

/// A book of accounts.
#[remote(semantics = "exactly_once", timeout = "2s", max_reply = "1KiB")]
pub trait Ledger {
    /// Opens an account and returns its number.
    async fn open(&self, name: &str) -> u64;

    /// Takes from one account and gives to another.
    ///
    /// # Errors
    /// [`Refused`], if nothing is to be moved.
    async fn transfer(&self, from: &str, to: &str, cents: i64) -> Result<i64, Refused>;

    /// Closes an account.
    ///
    /// # Errors
    /// [`Refused`], if there is none.
    #[remote(timeout = "1m")]
    async fn close(&self, name: &str) -> Result<(), Refused>;

    /// The balance in cents.
    #[remote(semantics = "at_least_once")]
    async fn balance(&self, name: &str) -> i64;

    /// Adds a line to the log.
    #[remote(oneway)]
    async fn note(&self, _line: &str) {}
}

/// There is nothing to do.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Refused;

impl MethodError for Refused {}

/// Keeps nothing.
#[derive(Debug)]
pub struct Book;

#[remote]
impl Ledger for Book {
    async fn open(&self, name: &str) -> u64 {
        name.len() as u64
    }
    async fn transfer(&self, from: &str, to: &str, cents: i64) -> Result<i64, Refused> {
        if from == to { Err(Refused) } else { Ok(-cents) }
    }
    async fn close(&self, name: &str) -> Result<(), CallError<Refused>> {
        if name.is_empty() {
            return Err(Refused.into());
        }
        self.open(name).await?;
        Ok(())
    }
    async fn balance(&self, _name: &str) -> Result<i64, CallError> {
        Err(CallError::BufferFull)
    }
}

#[tokio::test]
async fn runs() {
    let methods = <dyn Ledger>::DESCRIPTOR.methods;
    let promised = |name: &str| {
        let method = methods.iter().find(|method| method.name == name).unwrap();
        (method.semantics, method.timeout.unwrap().as_secs(), method.max_reply)
    };
    assert_eq!(promised("open"), (Semantics::ExactlyOnce, 2, Some(1024)));
    assert_eq!(promised("transfer"), (Semantics::ExactlyOnce, 2, Some(1024)));
    assert_eq!(promised("close"), (Semantics::ExactlyOnce, 60, Some(1024)));
    assert_eq!(promised("balance"), (Semantics::AtLeastOnce, 2, Some(1024)));
    assert_eq!(promised("note"), (Semantics::Maybe, 2, Some(1024)));
    let book: Arc<dyn Ledger> = Arc::new(Book);
    assert_eq!(book.open("alice").await.unwrap(), 5);
    assert!(matches!(book.transfer("a", "a", 1).await, Err(CallError::Method(Refused))));
    assert!(matches!(book.close("").await, Err(CallError::Method(Refused))));
    assert!(matches!(
        book.balance("a").await,
        Err(CallError::BufferFull | CallError::FailedWithin { .. })
    ));
}
