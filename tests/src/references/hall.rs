//! What is called in a run: tokens, and the room that keeps them, uses them and makes some.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farcall::sim::World;
use farcall::{Node, remote};

use super::Process;
use super::truth::{Coin, Holder, Shared, Stamp, lock};

/// What is passed.
#[remote]
pub trait Token {
    /// Its number.
    async fn number(&self) -> u64;
}

/// What guests call. `call` is the caller's own number of the call, which holds the token until it is finished.
#[remote]
pub trait Room {
    /// Keeps a token.
    async fn keep(&self, guest: u64, number: u64, token: TokenProxy);
    /// Keeps it, and may do so twice.
    #[remote(semantics = "at_least_once")]
    async fn keep_again(&self, guest: u64, number: u64, token: TokenProxy);
    /// Calls it twice, and keeps nothing.
    #[remote(semantics = "maybe")]
    async fn show(&self, guest: u64, call: u64, number: u64, token: TokenProxy);
    /// The same, and may do so again.
    #[remote(semantics = "at_least_once")]
    async fn show_again(&self, guest: u64, call: u64, number: u64, token: TokenProxy);
    /// Returns it, and what was kept in its place before: both are the caller's.
    async fn swap(&self, guest: u64, number: u64, token: TokenProxy) -> Vec<TokenProxy>;
    /// Whether it is one of the room's own.
    async fn is_own(&self, token: TokenProxy) -> bool;
    /// Calls a token that it keeps.
    async fn call_kept(&self, number: u64);
    /// Keeps it no more.
    async fn forget(&self, number: u64);
    /// Gives back what it keeps.
    #[remote(semantics = "at_least_once")]
    async fn give_back(&self, number: u64) -> Option<TokenProxy>;
    /// A token of the room's own, with its number.
    async fn make(&self) -> (u64, TokenProxy);
    /// The same, and may make two.
    #[remote(semantics = "at_least_once")]
    async fn make_again(&self) -> (u64, TokenProxy);
}

/// What a room keeps.
pub(super) type Kept = Arc<Mutex<BTreeMap<u64, TokenProxy>>>;

/// The room's object.
pub(super) struct Hall {
    pub(super) node: Node,
    pub(super) kept: Kept,
    pub(super) truth: Shared,
    pub(super) world: World,
}

const KEPT: Holder = Holder::Kept(Process::Room);

impl Hall {
    /// In which session a call came that begins now.
    fn stamp(&self, guest: u64) -> Stamp {
        lock(&self.truth).stamp(guest)
    }

    /// Keeps a token; what was kept in its place.
    fn put(&self, guest: u64, number: u64, token: TokenProxy) -> Option<TokenProxy> {
        let stamp = self.stamp(guest);
        lock(&self.truth).hold(number, KEPT, Some(stamp));
        lock(&self.kept).insert(number, token)
    }

    /// What it keeps, if it came in a session that lives: of another it is known to nobody any more.
    fn kept(&self, number: u64) -> Option<TokenProxy> {
        let truth = lock(&self.truth);
        let stamp = truth.held(number, KEPT)??;
        truth.is_current(stamp).then(|| lock(&self.kept).get(&number).cloned())?
    }

    /// Takes its time, mostly none: answers cross what their callers do meanwhile.
    async fn linger(&self) {
        if self.world.one_in(3) {
            tokio::time::sleep(self.world.time_up_to(Duration::from_millis(40))).await;
        }
    }

    /// Calls a token that a call holds, twice.
    async fn try_twice(&self, holder: Holder, number: u64, token: TokenProxy) {
        for _ in 0..2 {
            let answer = token.number().timeout(Duration::from_secs(1)).await;
            lock(&self.truth).judge(number, holder, &answer);
            self.linger().await;
        }
    }

    fn mint(&self) -> (u64, TokenProxy) {
        let number = ROOMS_OWN + lock(&self.truth).number();
        let token = self.node.export_watched(Coin::new(Process::Room, number, &self.truth));
        lock(&self.truth).leaves(number);
        (number, token)
    }
}

#[remote]
impl Room for Hall {
    async fn keep(&self, guest: u64, number: u64, token: TokenProxy) {
        let before = self.put(guest, number, token);
        drop(before);
        self.linger().await;
    }
    async fn keep_again(&self, guest: u64, number: u64, token: TokenProxy) {
        let before = self.put(guest, number, token);
        drop(before);
        self.linger().await;
    }
    async fn show(&self, guest: u64, call: u64, number: u64, token: TokenProxy) {
        self.try_twice(Holder::Call(call, guest), number, token).await;
    }
    async fn show_again(&self, guest: u64, call: u64, number: u64, token: TokenProxy) {
        self.try_twice(Holder::Call(call, guest), number, token).await;
    }
    async fn swap(&self, guest: u64, number: u64, token: TokenProxy) -> Vec<TokenProxy> {
        let before = self.kept(number);
        drop(self.put(guest, number, token.clone()));
        self.linger().await;
        before.into_iter().chain([token]).collect()
    }
    async fn is_own(&self, token: TokenProxy) -> bool {
        self.node.object_of(&token).is_some()
    }
    async fn call_kept(&self, number: u64) {
        let Some(token) = lock(&self.kept).get(&number).cloned() else { return };
        let holder = {
            let mut truth = lock(&self.truth);
            let Some(stamp) = truth.held(number, KEPT) else { return };
            let holder = Holder::Used(truth.number(), Process::Room);
            truth.hold(number, holder, stamp);
            holder
        };
        let answer = token.number().timeout(Duration::from_secs(2)).await;
        lock(&self.truth).judge(number, holder, &answer);
        lock(&self.truth).release(number, holder);
    }
    async fn forget(&self, number: u64) {
        lock(&self.truth).release(number, KEPT);
        let token = lock(&self.kept).remove(&number);
        drop(token);
    }
    async fn give_back(&self, number: u64) -> Option<TokenProxy> {
        let token = self.kept(number);
        self.linger().await;
        token
    }
    async fn make(&self) -> (u64, TokenProxy) {
        self.linger().await;
        self.mint()
    }
    async fn make_again(&self) -> (u64, TokenProxy) {
        self.mint()
    }
}

/// Numbers from here on are of the room's own tokens.
const ROOMS_OWN: u64 = 1_000_000;
