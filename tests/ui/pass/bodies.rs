//! What a body may do: `return`, `?`, `mut` arguments, patterns, coercions, defaults, macros of the
//! user's own.
#![deny(warnings)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use farcall::{CallError, MethodError, remote};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Frozen;

impl MethodError for Frozen {}

fn check(cents: u64) -> Result<u64, Frozen> {
    if cents == 13 { Err(Frozen) } else { Ok(cents) }
}

#[remote]
pub trait Account {
    async fn early(&self, cents: u64) -> u64;
    async fn question(&self, cents: u64) -> Result<u64, Frozen>;
    async fn longer(&self, cents: u64) -> Result<u64, CallError<Frozen>>;
    async fn changed(&self, cents: u64, pair: (u64, u64)) -> u64;
    async fn boxed(&self) -> Box<[u64]>;
    async fn nothing(&self);
    async fn never(&self) -> u64;

    async fn with_default(&self, mut cents: u64) -> Result<u64, Frozen> {
        cents += 1;
        if cents == 14 {
            return check(13);
        }
        Ok(self.early(cents).await.unwrap_or_default())
    }
}

#[derive(Default)]
pub struct Memory {
    cents: AtomicU64,
    list: Mutex<Vec<u64>>,
}

#[remote]
impl Account for Memory {
    async fn early(&self, cents: u64) -> u64 {
        if cents == 0 {
            return 100;
        }
        self.cents.fetch_add(cents, Ordering::Relaxed) + cents
    }
    async fn question(&self, cents: u64) -> Result<u64, Frozen> {
        let cents = check(cents)?;
        Ok(cents)
    }
    async fn longer(&self, cents: u64) -> Result<u64, CallError<Frozen>> {
        check(cents)?;
        let cents = self.early(cents).await?;
        Ok(cents)
    }
    async fn changed(&self, mut cents: u64, (left, right): (u64, u64)) -> u64 {
        cents += left * right;
        cents
    }
    async fn boxed(&self) -> Box<[u64]> {
        self.list.lock().unwrap().push(1);
        Box::new([1, 2])
    }
    async fn nothing(&self) {
        Self::helper();
    }
    async fn never(&self) -> u64 {
        panic!("on purpose")
    }
}

impl Memory {
    fn helper() {}
}

macro_rules! interface {
    ($name:ident, $method:ident($argument:ident: $ty:ty)) => {
        #[remote]
        pub trait $name {
            async fn $method(&self, $argument: $ty) -> $ty;
        }

        #[remote]
        impl $name for Memory {
            async fn $method(&self, $argument: $ty) -> $ty {
                let _ = self.cents.load(Ordering::Relaxed);
                $argument
            }
        }
    };
}

interface!(Echo, echo(value: String));

#[tokio::test]
async fn runs() {
    let account: Arc<dyn Account> = Arc::new(Memory::default());
    assert_eq!(account.early(0).await.unwrap(), 100);
    assert_eq!(account.early(5).await.unwrap(), 5);
    assert!(matches!(account.question(13).await, Err(CallError::Method(Frozen))));
    assert!(matches!(account.longer(13).await, Err(CallError::Method(Frozen))));
    assert_eq!(account.longer(1).await.unwrap(), 6);
    assert_eq!(account.changed(1, (2, 3)).await.unwrap(), 7);
    assert_eq!(*account.boxed().await.unwrap(), [1, 2]);
    assert_eq!(account.with_default(4).await.unwrap(), 11);
    assert!(matches!(account.with_default(13).await, Err(CallError::Method(Frozen))));
    account.nothing().await.unwrap();
    let echo: Arc<dyn Echo> = Arc::new(Memory::default());
    assert_eq!(echo.echo(String::from("hello")).await.unwrap(), "hello");
}
