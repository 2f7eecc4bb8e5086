//! The service of processes that are killed: what ran stands in a file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use farcall::{CallError, remote};

use crate::service::{Answer, Fussy, Order, Work};

/// Appends each call's id to a file before it does anything else; what was written is there after the process was killed.
pub struct Recorder {
    log: File,
}

impl Recorder {
    /// One that appends to this file.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(log: &Path) -> io::Result<Recorder> {
        Ok(Recorder { log: File::options().create(true).append(true).open(log)? })
    }

    fn record(&self, id: u64) -> Result<(), CallError> {
        let failed =
            |error: io::Error| CallError::FailedWithin { reason: error.to_string().into() };
        // One write to a file that is open for appending: whole or not at all.
        (&self.log).write_all(format!("{id}\n").as_bytes()).map_err(failed)
    }

    async fn work(&self, order: Order) -> Result<Answer, CallError> {
        self.record(order.id)?;
        // Some are answered at once, and some are still running when the process is killed.
        if !order.id.is_multiple_of(4) {
            tokio::time::sleep(Duration::from_millis(order.id % 4)).await;
        }
        Ok(Answer { id: order.id, fussy: Fussy::Fine, padding: Vec::new() })
    }
}

/// How often each call ran, by its id.
///
/// # Errors
/// The file cannot be read.
pub fn runs(log: &Path) -> io::Result<HashMap<u64, u32>> {
    let mut runs = HashMap::new();
    for id in std::fs::read_to_string(log)?.lines() {
        *runs.entry(id.parse().map_err(io::Error::other)?).or_default() += 1;
    }
    Ok(runs)
}

#[remote]
impl Work for Recorder {
    async fn maybe(&self, order: Order) -> Result<Answer, CallError> {
        self.work(order).await
    }

    async fn at_least_once(&self, order: Order) -> Result<Answer, CallError> {
        self.work(order).await
    }

    async fn at_most_once(&self, order: Order) -> Result<Answer, CallError> {
        self.work(order).await
    }

    async fn note(&self, id: u64) -> Result<(), CallError> {
        self.record(id)
    }

    async fn echo(&self, bytes: &[u8]) -> Result<Vec<u8>, CallError> {
        Ok(bytes.to_vec())
    }
}
