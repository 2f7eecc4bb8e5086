//! A client of the bank in a process of its own, to be killed: `bank_client URL JOURNAL DIARY NAME work|check`.
//!
//! `work`: asks again what its diary has no word for, and some of what it has; then makes one transfer after another,
//! several at a time, and notes what it asks and what it is told before it goes on. A line on its standard input stops it
//! when all have been told. `check`: asks again all that it ever asked, but what certainly did not run, and ends. When its
//! standard input ends it ends at once, so that it never outlives the test that started it.
//!
//! Prints a line for each word that it notes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use farcall::sqlite::Transaction;
use farcall::{CallError, Execution, Limits, Node, SqliteStore, StoreError, Ticket};
use farcall_tests::bank::{BankProxy, Declined, Diary, Entry, Receipt, Transfer, Word, diary};
use tokio::task::{JoinSet, LocalSet};

/// Transfers at a time.
const AT_ONCE: usize = 8;
/// How long a word is waited for before the client looks which run of the server there is.
const WAIT: Duration = Duration::from_millis(60);
/// What a client that restarts asks again though it knows the word.
const ASKED_AGAIN: usize = 10;
/// How long a transfer waits that could not be saved.
const PAUSE: Duration = Duration::from_millis(2);

struct Client {
    name: String,
    bank: BankProxy,
    node: Node,
    diary: Diary,
    next: AtomicU64,
    stopped: Arc<AtomicBool>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run())
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, journal, path, name, what] = &arguments[..] else {
        return Err("bank_client URL JOURNAL DIARY NAME work|check".into());
    };
    let stopped = Arc::<AtomicBool>::default();
    let hears = stopped.clone();
    std::thread::spawn(move || {
        for _ in std::io::stdin().lock().lines().map_while(Result::ok) {
            hears.store(true, Ordering::Release);
        }
        std::process::exit(1);
    });
    let store = SqliteStore::open(journal)?;
    let outbox = store.transaction().await?;
    outbox.execute("create table if not exists sent (key text not null)", [])?;
    outbox.commit().await?;
    let soon = Duration::from_millis(5);
    let limits = Limits { reconnect_min: soon, reconnect_max: soon, ..Limits::default() };
    let node = Node::builder().store(store).limits(limits).build();
    let (known, next) = known(Path::new(path));
    let client = Rc::new(Client {
        name: name.clone(),
        bank: node.proxy(url.as_str())?,
        node,
        diary: Diary::open(Path::new(path)),
        next: AtomicU64::new(next),
        stopped,
    });
    client.diary.write(&Entry::Start);
    client.ask_again(&known, what == "check").await?;
    if what == "work" {
        let mut workers = JoinSet::new();
        for _ in 0..AT_ONCE {
            let client = client.clone();
            workers.spawn_local(async move { client.work().await });
        }
        while let Some(ended) = workers.join_next().await {
            ended??;
        }
    }
    client.node.shutdown(Duration::from_secs(5)).await.map_err(|left| format!("{left:?}"))?;
    println!("over");
    // The thread that listens to standard input goes with the process.
    std::process::exit(0);
}

/// The last word for each key, if there is one, and the number of the next.
fn known(path: &Path) -> (BTreeMap<String, Option<Word>>, u64) {
    let (mut known, mut asked) = (BTreeMap::new(), BTreeSet::new());
    for entry in diary(path) {
        match entry {
            Entry::Ask(key) => {
                asked.insert(key.clone());
                known.entry(key).or_insert(None);
            }
            Entry::Told(key, word) => {
                known.insert(key, Some(word));
            }
            Entry::Start | Entry::FromRow(_) => {}
        }
    }
    (known, asked.len() as u64)
}

impl Client {
    /// What has no word, first, and then some or all of what has one, which must be the same.
    async fn ask_again(
        self: &Rc<Client>,
        known: &BTreeMap<String, Option<Word>>,
        all: bool,
    ) -> Result<(), String> {
        let told = known.values().flatten().count();
        let skipped = if all { 0 } else { told.saturating_sub(ASKED_AGAIN) };
        let open = known.iter().filter(|(_, word)| word.is_none());
        let told = known.iter().filter(|(_, word)| word.is_some()).skip(skipped);
        let mut asked = JoinSet::new();
        for (key, word) in open.chain(told) {
            // It would be another call under the same key, and may be made.
            if matches!(word, Some(Word::Failed(Execution::NotExecuted, _))) {
                continue;
            }
            let (client, key, before) = (self.clone(), key.clone(), word.clone());
            asked.spawn_local(async move {
                let word = client.ask(&key).await?;
                match before {
                    Some(before @ (Word::Made(_) | Word::Declined(_))) if before != word => {
                        Err(format!("{key} was {before:?}, and is {word:?}"))
                    }
                    _ => Ok(()),
                }
            });
            while asked.len() >= AT_ONCE {
                let ended = asked.join_next().await;
                ended.map_or(Ok(Ok(())), |ended| ended).map_err(|error| error.to_string())??;
            }
        }
        while let Some(ended) = asked.join_next().await {
            ended.map_err(|error| error.to_string())??;
        }
        Ok(())
    }

    /// One transfer after another, until it is stopped.
    async fn work(&self) -> Result<(), String> {
        while !self.stopped.load(Ordering::Acquire) {
            let key = format!("{}-{}", self.name, self.next.fetch_add(1, Ordering::Relaxed));
            self.diary.write(&Entry::Ask(key.clone()));
            let word = self.ask(&key).await?;
            if let Word::Failed(..) = word {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    /// Asks, and notes the word.
    async fn ask(&self, key: &str) -> Result<Word, String> {
        let order = Transfer::of(key);
        let (word, run) = if self.enqueues(key) {
            match self.enqueue(key, &order).await {
                Ok(ticket) => self.follow(&ticket).await,
                Err(word) => (word, None),
            }
        } else {
            let answer = self.bank.transfer(&order).key(key).timeout(WAIT).await;
            match answer.as_ref().err().and_then(CallError::ticket).cloned() {
                Some(ticket) => self.follow(&ticket).await,
                None => (word(answer), None),
            }
        };
        let made_by = match &word {
            Word::Made(Receipt { run, .. }) | Word::Declined(Declined { run, .. }) => Some(*run),
            Word::Failed(..) => None,
        };
        self.diary.write(&Entry::Told(key.to_owned(), word.clone()));
        if made_by.zip(run).is_some_and(|(made_by, run)| made_by < run) {
            self.diary.write(&Entry::FromRow(key.to_owned()));
        }
        println!("told");
        Ok(word)
    }

    /// One in four goes through the outbox.
    fn enqueues(&self, key: &str) -> bool {
        key.bytes().last().is_some_and(|last| last % 4 == 0)
    }

    /// Saves the call together with a row of the client's own.
    async fn enqueue(&self, key: &str, order: &Transfer) -> Result<Ticket, Word> {
        let not_begun = |error: StoreError| Word::Failed(Execution::NotExecuted, error.to_string());
        let store = self.node.store().expect("it was given, and the node is open");
        let tx = store.transaction().await.map_err(not_begun)?;
        let saved = self.save(&tx, key, order);
        let ticket = saved.map_err(|error| Word::Failed(error.execution(), error.to_string()))?;
        match tx.commit().await {
            Ok(()) => Ok(ticket),
            // Nobody knows whether the commit was done.
            Err(error @ (StoreError::Poisoned | StoreError::Closed)) => {
                Err(Word::Failed(Execution::Unknown, error.to_string()))
            }
            Err(error) => Err(not_begun(error)),
        }
    }

    fn save(
        &self,
        tx: &Transaction,
        key: &str,
        order: &Transfer,
    ) -> Result<Ticket, CallError<Declined>> {
        let sent = "select count(*) from sent where key = ?1";
        if tx.query_row(sent, [key], |row| row.get::<_, i64>(0))? == 0 {
            tx.execute("insert into sent (key) values (?1)", [key])?;
        }
        self.bank.transfer(order).key(key).enqueue(tx)
    }

    /// Waits for a call that has no answer yet. The run of the server that was there before there was one, if it was
    /// looked up.
    async fn follow(&self, ticket: &Ticket) -> (Word, Option<u64>) {
        if let Some(answer) = ticket.try_take() {
            return (word(answer), None);
        }
        let run = self.bank.run().await.ok();
        match ticket.try_take() {
            Some(answer) => (word(answer), None),
            None => (word(ticket.wait().await), run),
        }
    }
}

fn word(answer: Result<Receipt, CallError<Declined>>) -> Word {
    match answer {
        Ok(receipt) => Word::Made(receipt),
        Err(CallError::Method(declined)) => Word::Declined(declined),
        Err(error) => Word::Failed(error.execution(), error.to_string()),
    }
}
