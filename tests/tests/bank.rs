//! A bank of real processes: its server and its clients are killed by SIGKILL at random moments, two hundred times, over
//! TCP and over UDP.
//!
//! At the end everything is restarted and drained, and what the server's database holds is held against what the clients
//! have asked and were told, before and after their crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use farcall::sqlite::rusqlite::Connection;
use farcall_tests::bank::{Case, Word};
use farcall_tests::bank_processes::{Programs, World};
use farcall_tests::random::Random;
use farcall_tests::service::Transport;
use tokio::time::{Instant, sleep};

const PROGRAMS: Programs = Programs {
    server: env!("CARGO_BIN_EXE_bank_server"),
    client: env!("CARGO_BIN_EXE_bank_client"),
};
/// Kills in one run, of which there are two.
const CYCLES: u64 = 100;
/// Client processes.
const CLIENTS: usize = 3;
/// Words that clients are told between one kill and the next, at most.
const WORDS: u64 = 25;
/// A moment behind that, at most.
const MICROS: u64 = 20_000;
/// Answers that the server keeps of one client, at most: they are forgotten some 64 at a time.
const KEPT: i64 = 100;
/// The whole run takes less.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn money_and_words_survive_kills_over_tcp() {
    kill_again_and_again(Transport::Tcp, 1).await;
}

#[tokio::test]
async fn money_and_words_survive_kills_over_udp() {
    kill_again_and_again(Transport::Udp, 2).await;
}

/// `FARCALL_SEED` chooses other moments.
async fn kill_again_and_again(transport: Transport, seed: u64) {
    let seed = std::env::var("FARCALL_SEED").map_or(seed, |text| text.parse().expect("a number"));
    println!("seed {seed}: run again with FARCALL_SEED={seed}");
    let began = Instant::now();
    let mut random = Random::new(seed);
    let mut world = World::new(PROGRAMS, transport).await;
    for _ in 0..CLIENTS {
        world.add_client();
    }
    world.hear(1).await;
    for _ in 0..CYCLES {
        // One in four is killed while it still starts.
        if !random.one_in(4) {
            world.hear(random.below(WORDS)).await;
        }
        sleep(Duration::from_micros(random.below(MICROS))).await;
        let victim = random.below(CLIENTS as u64 * 2) as usize;
        if victim >= CLIENTS || random.one_in(8) {
            world.server.kill().await;
            world.start_server();
        }
        if victim < CLIENTS {
            world.restart_client(victim).await;
        }
    }
    for client in &mut world.clients {
        client.stop().await;
    }
    world.server.kill().await;
    world.start_server();
    world.ask_again().await;
    world.server.kill().await;
    check(&world);
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
}

fn check(world: &World) {
    let books = world.books();
    books.check();
    assert!(books.answers <= CLIENTS as i64 * KEPT, "{} answers are kept", books.answers);
    let mut counts = Counts { ran_again: ran_again(world), ..Counts::default() };
    let mut asked = BTreeSet::new();
    for client in 0..CLIENTS {
        let outbox = outbox(world, client);
        for case in world.cases(client) {
            books.check_case(&case);
            counts.add(&case, outbox.contains(&case.key));
            asked.insert(case.key);
        }
        assert!(outbox.iter().all(|key| asked.contains(key)), "it sent what it did not ask");
    }
    let unasked: Vec<_> = books.ledger.keys().filter(|key| !asked.contains(*key)).collect();
    assert!(unasked.is_empty(), "nobody asked for {unasked:?}");
    println!("{counts:?}");
    counts.check();
}

/// How much was met, so that the test means something.
#[derive(Debug, Default)]
struct Counts {
    made: usize,
    declined: usize,
    /// Through the outbox.
    enqueued: usize,
    /// Told by a run of the server that had not made them.
    from_rows: usize,
    /// Told again by a later run of the client.
    told_again: usize,
    /// Asked by one run of a client and told by a later one.
    told_later: usize,
    /// Whose handler ran more than once, since the server was killed before its commit.
    ran_again: usize,
}

impl Counts {
    fn add(&mut self, case: &Case, enqueued: bool) {
        match case.answer() {
            Some(Word::Made(_)) => self.made += 1,
            Some(Word::Declined(_)) => self.declined += 1,
            _ => panic!("kills are no reason: {case:?}"),
        }
        let failed = case.words.iter().any(|(_, word)| matches!(word, Word::Failed(..)));
        assert!(!failed, "kills are no reason: {case:?}");
        self.enqueued += usize::from(enqueued);
        self.from_rows += usize::from(case.from_row);
        self.told_again += case.words.len() - 1;
        self.told_later += usize::from(case.words[0].0 > case.asked);
    }

    fn check(&self) {
        let Counts { made, declined, enqueued, from_rows, told_again, told_later, ran_again } =
            *self;
        assert!(made >= 500 && declined >= 50 && enqueued >= 100, "too little was done: {self:?}");
        assert!(from_rows >= 5, "rows answered {from_rows} calls");
        assert!(told_later >= 20, "kills of clients met {told_later} calls");
        assert!(told_again >= made, "{told_again} words were told again");
        assert!(ran_again >= 5, "kills of the server met {ran_again} handlers");
    }
}

/// How many handlers ran more than once.
fn ran_again(world: &World) -> usize {
    let text = std::fs::read_to_string(world.folder.file("runs")).expect("the server wrote it");
    let mut runs = BTreeMap::<&str, u32>::new();
    for key in text.lines() {
        *runs.entry(key).or_default() += 1;
    }
    runs.values().filter(|runs| **runs > 1).count()
}

/// The keys in a client's own table, which was written in the transactions of its outbox.
fn outbox(world: &World, client: usize) -> BTreeSet<String> {
    let database = Connection::open(world.journal(client)).expect("a journal");
    let mut keys = database.prepare("select key from sent").expect("the client's own table");
    let keys = keys.query_map([], |row| row.get(0)).expect("it can be read");
    let mut found = BTreeSet::new();
    for key in keys {
        let key: String = key.expect("a text");
        assert!(!found.contains(&key), "{key} is in an outbox twice");
        found.insert(key);
    }
    found
}
