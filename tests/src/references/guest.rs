//! A process that visits the room: it passes tokens, gets some, calls them and lets them go, several calls at a time.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farcall::sim::World;
use farcall::{Call, CallError, Node};
use serde::Serialize;

use super::hall::{RoomProxy, TokenProxy};
use super::truth::{Coin, Holder, Shared, Stamp, lock};
use super::{Process, Scene, limits};

#[derive(Clone)]
pub(super) struct Guest {
    number: u64,
    pub(super) node: Node,
    pub(super) room: RoomProxy,
    pub(super) tokens: Arc<Mutex<BTreeMap<u64, TokenProxy>>>,
    truth: Shared,
    world: World,
}

/// How long a caller waits.
#[derive(Clone, Copy)]
enum Patience {
    /// Until a deadline.
    Deadline(Duration),
    /// It forgets the call after so long.
    Forgets(Duration),
}

impl Guest {
    /// Takes so many steps, and comes again where it crashed.
    pub(super) async fn visit(scene: Scene, number: u64, steps: u64) -> Guest {
        let world = scene.world.clone();
        let mut guest = Guest::enter(&scene, number);
        let mut calls = Vec::new();
        for step in 0..steps {
            tokio::time::sleep(world.time_up_to(scene.pause)).await;
            if scene.crashes && world.one_in(30) {
                guest.crash();
                calls.clear();
                guest = Guest::enter(&scene, number);
            }
            let call = guest.clone().step(step);
            if world.one_in(2) {
                calls.push(world.spawn(&host(number), call));
            } else {
                call.await;
            }
        }
        for call in calls {
            call.await.expect("a call does not panic");
        }
        guest
    }

    fn enter(scene: &Scene, number: u64) -> Guest {
        let (world, truth) = (scene.world.clone(), scene.truth.clone());
        lock(&truth).begin(Process::Guest(number));
        let node = world.node(&host(number)).limits(limits(scene)).start();
        let datagrams = (number + world.seed()).is_multiple_of(2);
        let url = if datagrams { "udp://room:2/room" } else { "tcp://room:1/room" };
        let room = node.proxy(url).expect("a good address");
        Guest { number, node, room, tokens: Arc::default(), truth, world }
    }

    /// Its process ends in the middle of what it does.
    fn crash(&self) {
        let mut truth = lock(&self.truth);
        truth.begin(self.process());
        truth.lose(self.number);
        truth.begin_anew(self.number);
        truth.tally.crashed += 1;
        drop(truth);
        self.world.crash(&host(self.number));
    }

    fn process(&self) -> Process {
        Process::Guest(self.number)
    }

    fn kept(&self) -> Holder {
        Holder::Kept(self.process())
    }

    async fn step(self, step: u64) {
        let new = self.number * 1000 + step;
        let any = self.number * 1000 + self.world.below(step + 1);
        let known = {
            let tokens = lock(&self.tokens);
            let place = self.world.below(tokens.len() as u64);
            tokens.iter().nth(place as usize).map(|(number, token)| (*number, token.clone()))
        };
        match (self.world.below(16), known) {
            (0 | 1, _) => self.pass_new(new, false).await,
            (2 | 3, _) => self.pass_new(new, true).await,
            (4..=7, Some((number, token))) => self.pass(number, token).await,
            (8, Some((number, token))) => self.call(number, token).await,
            (9, Some((number, token))) => self.let_go(number, token),
            (4..=11, _) => self.get().await,
            (12, _) => drop(self.wait(self.room.call_kept(any)).await),
            (13 | 14, _) => drop(self.wait(self.room.forget(any)).await),
            _ => self.take_back(any).await,
        }
    }

    /// Passes a new token; else than with `keeps`, the call alone has it.
    async fn pass_new(&self, number: u64, keeps: bool) {
        let token: TokenProxy =
            self.node.export_watched(Coin::new(self.process(), number, &self.truth));
        if keeps {
            lock(&self.truth).hold(number, self.kept(), None);
            lock(&self.tokens).insert(number, token.clone());
        }
        self.hand_over(number, token).await;
    }

    async fn pass(&self, number: u64, token: TokenProxy) {
        if self.node.object_of(&token).is_some() {
            // Given back and passed anew at once, now and then.
            for _ in 0..=self.world.below(3) {
                self.hand_over(number, token.clone()).await;
            }
            return;
        }
        // What is the room's own comes home there.
        let Some(Some(came)) = lock(&self.truth).held(number, self.kept()) else { return };
        let own = self.wait(self.room.is_own(token)).await;
        let mut truth = lock(&self.truth);
        match own {
            Some(Ok(true)) => truth.tally.home += 1,
            Some(Ok(false)) => truth.broken.push(format!("token {number} is not the room's own")),
            Some(Err(error)) if is_dead(&error) => {
                if truth.is_current(came) && truth.has_owner(number) {
                    truth.broken.push(format!("token {number} did not come home: {error}"));
                }
            }
            _ => truth.tally.failed += 1,
        }
    }

    async fn hand_over(&self, number: u64, token: TokenProxy) {
        let way = self.world.below(8);
        let again = matches!(way, 2 | 5 | 6);
        let (stamp, call) = {
            let mut truth = lock(&self.truth);
            (truth.stamp(self.number), truth.begin_call(self.number, number, again))
        };
        let Holder::Call(id, guest) = call else { return };
        let outcome = match way {
            0 | 1 => self.wait(self.room.keep(guest, number, token)).await,
            2 => self.wait(self.room.keep_again(guest, number, token)).await,
            3 | 4 => self.wait(self.room.show(guest, id, number, token)).await,
            5 | 6 => self.wait(self.room.show_again(guest, id, number, token)).await,
            _ => match self.wait(self.room.swap(guest, number, token)).await {
                Some(Ok(back)) => {
                    self.recognise(number, back, stamp).await;
                    Some(Ok(()))
                }
                Some(Err(error)) => Some(Err(error)),
                None => None,
            },
        };
        let mut truth = lock(&self.truth);
        truth.end_call(number, call);
        match outcome {
            Some(Ok(())) => {
                truth.arrives(number);
                truth.tally.passed += 1;
            }
            Some(Err(error)) if is_dead(&error) && (again || truth.is_current(stamp)) => {
                truth.broken.push(format!("token {number} was gone when it came: {error}"));
            }
            _ => truth.tally.failed += 1,
        }
    }

    /// Own tokens that came back are that, and are called here, unless session or process was lost since they were passed.
    async fn recognise(&self, number: u64, back: Vec<TokenProxy>, stamp: Stamp) {
        for token in back {
            let own = self.node.object_of(&token).is_some();
            let found = token.number().await;
            let mut truth = lock(&self.truth);
            truth.tally.home += 1;
            let known = own && found.as_ref().ok() == Some(&number);
            if !known && truth.is_current(stamp) && truth.has_owner(number) {
                truth.broken.push(format!("token {number} came home as {found:?}, own: {own}"));
            }
        }
    }

    /// Gets a token of the room's.
    async fn get(&self) {
        let stamp = lock(&self.truth).stamp(self.number);
        let made = match self.world.one_in(3) {
            true => self.wait(self.room.make_again()).await,
            false => self.wait(self.room.make()).await,
        };
        let mut truth = lock(&self.truth);
        match made {
            Some(Ok((number, token))) => {
                let came = truth.stamp(self.number);
                truth.hold(number, self.kept(), Some(came));
                truth.arrives(number);
                truth.tally.passed += 1;
                lock(&self.tokens).insert(number, token);
            }
            Some(Err(error)) if is_dead(&error) && truth.is_current(stamp) => {
                truth.broken.push(format!("a token was gone when it came: {error}"));
            }
            _ => truth.tally.failed += 1,
        }
    }

    async fn call(&self, number: u64, token: TokenProxy) {
        let holder = {
            let mut truth = lock(&self.truth);
            let Some(stamp) = truth.held(number, self.kept()) else { return };
            let holder = Holder::Used(truth.number(), self.process());
            truth.hold(number, holder, stamp);
            holder
        };
        let answer = token.number().timeout(Duration::from_secs(5)).await;
        let mut truth = lock(&self.truth);
        truth.judge(number, holder, &answer);
        truth.release(number, holder);
    }

    fn let_go(&self, number: u64, token: TokenProxy) {
        lock(&self.truth).release(number, self.kept());
        let kept = lock(&self.tokens).remove(&number);
        drop((kept, token));
    }

    /// Has the room give a token back.
    async fn take_back(&self, number: u64) {
        let stamp = lock(&self.truth).stamp(self.number);
        match self.wait(self.room.give_back(number)).await {
            Some(Ok(Some(token))) => self.recognise(number, vec![token], stamp).await,
            Some(Err(error)) => {
                let mut truth = lock(&self.truth);
                if is_dead(&error) && truth.is_current(stamp) {
                    truth.broken.push(format!("token {number} did not come back: {error}"));
                }
                truth.tally.failed += 1;
            }
            _ => {}
        }
    }

    /// Waits for a call as long as there is patience; nothing if it is forgotten before.
    async fn wait<A: Serialize, T>(&self, call: Call<A, T>) -> Option<Result<T, CallError>>
    where
        Call<A, T>: Future<Output = Result<T, CallError>>,
    {
        match self.patience() {
            Patience::Deadline(most) => Some(call.timeout(most).await),
            Patience::Forgets(after) => tokio::time::timeout(after, call).await.ok(),
        }
    }

    fn patience(&self) -> Patience {
        let short = self.world.time_up_to(Duration::from_millis(60)) + Duration::from_millis(1);
        match self.world.below(6) {
            0 | 1 => Patience::Deadline(short),
            2 => Patience::Forgets(short),
            3 => Patience::Deadline(Duration::from_secs(2)),
            _ => Patience::Deadline(Duration::from_secs(20)),
        }
    }
}

/// Whether the call failed for a reference that means nothing.
fn is_dead(error: &CallError) -> bool {
    matches!(error, CallError::BadArguments(_) | CallError::BadReply { .. })
}

/// Where it runs.
pub(super) fn host(number: u64) -> String {
    format!("guest{number}")
}
