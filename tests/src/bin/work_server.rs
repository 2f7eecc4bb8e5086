//! A server in a process of its own, to be killed: `work_server ADDRESS LOG`.
//!
//! Each execution appends the call's id to the file LOG before it does anything else; what was written is there after
//! the process was killed. Prints its URL when it listens, and serves until its standard input ends, so that it never
//! outlives the test that started it.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use farcall::{CallError, remote};
use farcall_tests::service::{Answer, Fussy, Order, Work};

struct Recorder {
    log: File,
}

impl Recorder {
    fn record(&self, id: u64) -> Result<(), CallError> {
        let failed =
            |error: std::io::Error| CallError::FailedWithin { reason: error.to_string().into() };
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

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, log] = &arguments[..] else { return Err("work_server ADDRESS LOG".into()) };
    let log = File::options().create(true).append(true).open(log)?;
    let server = farcall::serve(address.as_str(), "work", Recorder { log }).await?;
    println!("{}", server.url("work"));
    let ended =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    ended.await??;
    Ok(())
}
