//! An interface in the strictest house that a user can have: every lint on, nothing said.
//!
//! Compiled by the tests and read by clippy, whose word it is; runs what it declares, with a proxy
//! and without.
#![deny(warnings, missing_docs, missing_debug_implementations, unused_qualifications)]
#![deny(unreachable_pub, unused_lifetimes, single_use_lifetimes, unnameable_types)]
#![deny(clippy::all, clippy::pedantic)]

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farcall::{CallError, Interface, Object, Semantics, remote};

/// A bank account.
#[remote(semantics = "at_most_once", timeout = "2s")]
pub trait Account {
    /// Adds `cents` and returns the new balance.
    ///
    /// # Errors
    /// [`Frozen`], if the account is.
    async fn deposit(&self, cents: u64) -> Result<u64, Frozen>;

    /// The balance in cents.
    #[remote(semantics = "at_least_once")]
    async fn balance(&self) -> u64;

    /// Everything that travels in a way of its own.
    async fn everything(
        &self,
        name: &str,
        bytes: &[u8],
        text: Cow<'_, str>,
        raw: Cow<[u8]>,
        owned: Vec<u8>,
    ) -> Vec<u8>;

    /// Lends what it decodes.
    async fn lend(&self, order: &Order<'_>, numbers: &[u32]) -> usize;

    /// Says nothing.
    #[remote(oneway)]
    async fn note(&self, _line: String) {}
}

/// A book of accounts that outlives its process.
#[remote(semantics = "exactly_once", timeout = "2s")]
pub trait Ledger {
    /// Takes from one account and gives to another.
    ///
    /// # Errors
    /// [`Frozen`], if one of the accounts is.
    async fn transfer(&self, from: &str, to: &str, cents: i64) -> Result<(), Frozen>;

    /// The balance in cents.
    #[remote(semantics = "at_least_once")]
    async fn balance(&self, name: &str) -> i64;
}

/// Something to deliver.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Order<'a> {
    /// Whose it is.
    pub name: &'a str,
}

/// The account is frozen.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Frozen;

impl std::fmt::Display for Frozen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the account is frozen")
    }
}

impl std::error::Error for Frozen {}

/// An account in memory.
#[derive(Debug, Default)]
pub struct Memory {
    cents: AtomicU64,
}

#[remote]
impl Account for Memory {
    async fn deposit(&self, cents: u64) -> Result<u64, Frozen> {
        if cents == 13 {
            return Err(Frozen);
        }
        Ok(self.cents.fetch_add(cents, Ordering::Relaxed) + cents)
    }
    async fn balance(&self) -> u64 {
        self.cents.load(Ordering::Relaxed)
    }
    async fn everything(
        &self,
        name: &str,
        bytes: &[u8],
        text: Cow<'_, str>,
        raw: Cow<[u8]>,
        owned: Vec<u8>,
    ) -> Vec<u8> {
        assert!(matches!((&text, &raw), (Cow::Borrowed(_), Cow::Borrowed(_))));
        [name.as_bytes(), bytes, text.as_bytes(), &raw, &owned].concat()
    }
    async fn lend(&self, order: &Order<'_>, numbers: &[u32]) -> usize {
        order.name.len() + numbers.len()
    }
}

/// Accounts that nothing is ever taken from.
#[derive(Debug)]
pub struct Book;

#[remote]
impl Ledger for Book {
    async fn transfer(&self, from: &str, to: &str, _cents: i64) -> Result<(), CallError<Frozen>> {
        if from == to { Err(CallError::Method(Frozen)) } else { Ok(()) }
    }
    async fn balance(&self, name: &str) -> i64 {
        i64::from(name.is_empty())
    }
}

/// Answers a call of the method through the dispatch table: the encoded result.
async fn dispatched(method: &str, arguments: &'static [u8]) -> Vec<u8> {
    let object: Arc<dyn Account> = Object::into_interface(Arc::new(Memory::default()));
    let methods = <dyn Account>::DESCRIPTOR.methods;
    let id = methods.iter().find(|described| described.name == method).expect("it is there").id;
    let arguments = farcall::__private::Arguments::of(arguments);
    let room = farcall::__private::Room::default();
    let mut call = <dyn Account>::dispatch(object, id, arguments, room);
    std::future::poll_fn(|cx| call.as_mut().poll(cx)).await.body
}

#[tokio::test]
async fn arguments_are_decoded_in_place_and_the_result_encoded() {
    assert_eq!(dispatched("deposit", &[5]).await, [5]);
    assert_eq!(dispatched("balance", &[]).await, [0]);
    let arguments = b"\x01a\x01b\x01c\x01d\x01e";
    assert_eq!(dispatched("everything", arguments).await, b"\x05abcde");
    assert_eq!(dispatched("lend", b"\x03abc\x02\x07\x08").await, [5]);
    assert_eq!(dispatched("note", b"\x01a").await, []);
}

#[tokio::test]
async fn arguments_that_do_not_decode_are_refused() {
    let complaint = dispatched("everything", b"\x7f").await;
    assert!(!String::from_utf8(complaint).expect("a text for a person").is_empty());
}

#[tokio::test]
async fn a_local_object_is_plain_code_behind_the_same_interface() {
    let account: Arc<dyn Account> = Arc::new(Memory::default());
    assert_eq!(account.deposit(5).await.expect("it is local"), 5);
    assert!(matches!(account.deposit(13).await, Err(CallError::Method(Frozen))));
    assert_eq!(account.balance().await.expect("it is local"), 5);
}

#[tokio::test]
async fn a_proxy_answers_as_the_object_does() -> Result<(), Box<dyn std::error::Error>> {
    let server = farcall::serve("tcp://127.0.0.1:0", "alice", Memory::default()).await?;
    let alice: AccountProxy = farcall::connect(server.url("alice")).await?;
    assert_eq!(alice.deposit(5).await?, 5);
    assert!(matches!(alice.deposit(13).await, Err(CallError::Method(Frozen))));
    let (text, order) = (String::from("c"), Order { name: "abc" });
    let call = alice.everything("a", b"b", Cow::from(&text), Cow::from(&b"d"[..]), vec![b'e']);
    assert_eq!(call.await?, b"abcde");
    assert_eq!(alice.lend(&order, &[7, 8]).await?, 5);
    alice.note(String::from("line")).await?;
    let account: Arc<dyn Account> = Arc::new(alice);
    assert_eq!(account.balance().await?, 5);
    Ok(())
}

#[test]
fn the_descriptor_says_what_was_written() {
    let descriptor = <dyn Account>::DESCRIPTOR;
    assert_eq!(descriptor.name, "Account");
    let deposit = &descriptor.methods[0];
    assert_eq!(deposit.signature, "async fn deposit(&self, cents: u64) -> Result<u64, Frozen>");
    assert_eq!(
        deposit.docs,
        "Adds `cents` and returns the new balance.\n\n# Errors\n[`Frozen`], if the account is."
    );
    let semantics: Vec<Semantics> =
        descriptor.methods.iter().map(|method| method.semantics).collect();
    assert_eq!(
        semantics,
        [
            Semantics::AtMostOnce,
            Semantics::AtLeastOnce,
            Semantics::AtMostOnce,
            Semantics::AtMostOnce,
            Semantics::Maybe
        ]
    );
}

#[tokio::test]
async fn an_exactly_once_interface_is_one_like_the_others() {
    let semantics = <dyn Ledger>::DESCRIPTOR.methods.iter().map(|method| method.semantics);
    assert!(semantics.eq([Semantics::ExactlyOnce, Semantics::AtLeastOnce]));
    let book: Arc<dyn Ledger> = Arc::new(Book);
    book.transfer("alice", "bob", 5).await.expect("it is local");
    let refused = book.transfer("alice", "alice", 5).await;
    assert!(matches!(refused, Err(CallError::Method(Frozen))));
    assert_eq!(book.balance("alice").await.expect("it is local"), 0);
}
