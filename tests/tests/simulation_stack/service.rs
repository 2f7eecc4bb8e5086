//! The service that the simulation of the whole stack calls: every semantics, and every way a method can end.
//!
//! Each method tells the ledger that it begins, and notes in the journal which call of which session it served.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use farcall::sim::Ledger;
use farcall::{Context, SessionId, remote};

/// A list that grows.
#[remote(semantics = "at_most_once")]
pub(crate) trait Store {
    /// Appends after a pause of so many milliseconds; gives the key back, and the number of the run.
    async fn append(&self, key: u64, pause_ms: u64) -> (u64, u32);

    /// As `append`, in a task of its own from the start.
    #[remote(spawn)]
    async fn append_aside(&self, key: u64, pause_ms: u64) -> (u64, u32);

    /// Answers with an error of its own.
    async fn refuse(&self, key: u64) -> Result<(), String>;

    /// Panics after a pause.
    async fn panic(&self, key: u64, pause_ms: u64);

    /// Answers so many bytes.
    async fn download(&self, key: u64, bytes: u64) -> (u64, Vec<u8>);

    /// Takes many bytes, and says how many.
    async fn upload(&self, key: u64, bytes: Vec<u8>) -> (u64, u64);

    /// Reads; harmless when repeated.
    #[remote(semantics = "at_least_once")]
    async fn read(&self, key: u64, pause_ms: u64) -> (u64, u32);

    /// May be lost.
    #[remote(semantics = "maybe")]
    async fn hint(&self, key: u64, pause_ms: u64) -> (u64, u32);

    /// May be lost, and nobody hears of it.
    #[remote(semantics = "maybe", oneway)]
    async fn tell(&self, key: u64);
}

/// One start of a method.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    pub(crate) session: SessionId,
    pub(crate) seq: u64,
    pub(crate) key: u64,
    pub(crate) method: &'static str,
}

/// The service; what it shares is what a disk would keep over a crash.
#[derive(Clone)]
pub(crate) struct Memory {
    ledger: Ledger,
    journal: Arc<Mutex<Vec<Start>>>,
}

impl Memory {
    pub(crate) fn new(ledger: Ledger) -> Memory {
        Memory { ledger, journal: Arc::default() }
    }

    /// All starts, in their order.
    pub(crate) fn journal(&self) -> Vec<Start> {
        self.journal.lock().expect("no panic under the lock").clone()
    }

    fn begin(&self, key: u64) -> u32 {
        let context = Context::current().expect("in a handler");
        let (id, method) = (context.call_id(), context.method().name);
        let start = Start { session: id.session, seq: id.seq, key, method };
        self.journal.lock().expect("no panic under the lock").push(start);
        self.ledger.ran(key)
    }
}

#[remote]
impl Store for Memory {
    async fn append(&self, key: u64, pause_ms: u64) -> (u64, u32) {
        let run = self.begin(key);
        pause(pause_ms).await;
        (key, run)
    }

    async fn append_aside(&self, key: u64, pause_ms: u64) -> (u64, u32) {
        let run = self.begin(key);
        pause(pause_ms).await;
        (key, run)
    }

    async fn refuse(&self, key: u64) -> Result<(), String> {
        self.begin(key);
        Err(key.to_string())
    }

    async fn panic(&self, key: u64, pause_ms: u64) {
        self.begin(key);
        pause(pause_ms).await;
        panic!("{PLANNED}");
    }

    async fn download(&self, key: u64, bytes: u64) -> (u64, Vec<u8>) {
        self.begin(key);
        (key, content(key, bytes))
    }

    async fn upload(&self, key: u64, bytes: Vec<u8>) -> (u64, u64) {
        self.begin(key);
        assert!(bytes == content(key, bytes.len() as u64), "another call's bytes");
        (key, bytes.len() as u64)
    }

    async fn read(&self, key: u64, pause_ms: u64) -> (u64, u32) {
        let run = self.begin(key);
        pause(pause_ms).await;
        (key, run)
    }

    async fn hint(&self, key: u64, pause_ms: u64) -> (u64, u32) {
        let run = self.begin(key);
        pause(pause_ms).await;
        (key, run)
    }

    async fn tell(&self, key: u64) {
        self.begin(key);
    }
}

async fn pause(milliseconds: u64) {
    if milliseconds > 0 {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
}

/// Bytes that belong to one call; no two fragments of them are the same.
pub(crate) fn content(key: u64, bytes: u64) -> Vec<u8> {
    let pattern: Vec<u8> = (0..251_u64).map(|position| (key ^ position) as u8).collect();
    let length = bytes as usize;
    let mut content = pattern.repeat(length / pattern.len() + 1);
    content.truncate(length);
    content
}

/// What a panic of the service says.
pub(crate) const PLANNED: &str = "a planned panic";
