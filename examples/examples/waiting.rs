//! Every way to wait for a call, and every way not to: awaiting, blocking, starting, giving up.
//!
//! Client and server are in one process here; nothing would change if they were not. Each claim
//! that is printed is checked.

use std::error::Error;
use std::time::Duration;

use farcall::{CallError, Context, Execution, Limits, Node, Proxy as _, remote};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// An oven. Its minutes are milliseconds.
#[remote]
pub trait Oven {
    /// Bakes for so long, unless nobody waits for the bread any more.
    async fn bake(&self, minutes: u64) -> Result<String, Raw>;
}

/// The oven was opened too early.
#[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("the bread is raw")]
pub struct Raw;

/// An oven that tells when it is opened before the bread is done.
struct Hearth {
    opened_early: mpsc::UnboundedSender<u64>,
}

#[remote]
impl Oven for Hearth {
    async fn bake(&self, minutes: u64) -> Result<String, Raw> {
        // Only who calls from afar has a context, and this oven bakes for nobody else.
        let Ok(context) = Context::current() else { return Err(Raw) };
        let cancellation = context.cancellation();
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(minutes)) => {
                Ok(format!("bread of {minutes} minutes"))
            }
            () = cancellation.cancelled() => {
                // The one who watches may have gone; that is no business of the oven.
                let _ = self.opened_early.send(minutes);
                Err(Raw)
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (opened_early, mut early) = mpsc::unbounded_channel();
    let server = farcall::serve("tcp://127.0.0.1:0", "oven", Hearth { opened_early }).await?;
    let url = server.url("oven");
    let oven: OvenProxy = farcall::connect(&url).await?;

    awaiting(&oven).await?;
    starting(&oven).await?;
    not_waiting_at_all(&url).await?;
    limits_in_time(&oven, &mut early).await?;
    giving_up(&oven, &mut early).await?;

    println!("\nA thread without a runtime");
    let url = url.to_string();
    let thread = std::thread::spawn(move || blocking(&url).map_err(|error| error.to_string()));
    // Joined off the runtime, which goes on to drive the server.
    tokio::task::spawn_blocking(|| thread.join()).await?.map_err(|_| "the thread panicked")??;

    // What was detached ends before the program does.
    oven.node().shutdown(Duration::from_secs(1)).await?;
    Ok(())
}

/// A call is a future: it can be awaited, joined, spawned.
async fn awaiting(oven: &OvenProxy) -> Result<(), Box<dyn Error>> {
    println!("Awaiting");
    let bread = oven.bake(5).await?;
    println!("  one call:                        {bread}");

    let began = Instant::now();
    let (first, second) = tokio::join!(oven.bake(60), oven.bake(60));
    let took = began.elapsed();
    assert_eq!((first?, second?), ("bread of 60 minutes".into(), "bread of 60 minutes".into()));
    println!("  two calls at once, of 60 ms each: done after {} ms", took.as_millis());

    let spawned = tokio::spawn(oven.bake(5));
    println!("  a call owns what it needs:       {} from a spawned task", spawned.await??);

    // Blocking here would stop the runtime that has to deliver the answer.
    let refused = oven.bake(5).blocking().expect_err("this is an async task");
    assert!(matches!(refused, CallError::BlockingInAsync { .. }));
    assert_eq!(refused.execution(), Execution::NotExecuted);
    println!("  blocking in an async task:       {refused}");
    Ok(())
}

/// A started call is on its way while the caller does something else.
async fn starting(oven: &OvenProxy) -> Result<(), Box<dyn Error>> {
    println!("\nStarting now, collecting later");
    let mut pending = oven.bake(300).start().await?;
    assert!(pending.try_take().is_none(), "three hundred milliseconds are not over");
    println!("  try_take at once:                nothing yet");
    // By reference: it can be asked again if this is too short.
    let early = timeout(Duration::from_millis(2), &mut pending).await;
    assert!(early.is_err());
    println!("  after 2 ms more:                 nothing yet");
    println!("  awaited:                         {}", pending.await?);

    oven.bake(1).start().await?.detach();
    println!("  detached:                        it goes on, and nobody waits for it");
    Ok(())
}

/// `try_start` never waits: where `start` would, it gives the call back.
async fn not_waiting_at_all(url: &farcall::Url) -> Result<(), Box<dyn Error>> {
    println!("\nNot waiting even for room");
    let limits = Limits { window: 2, ..Limits::default() };
    let small = Node::builder().limits(limits).build();
    let oven: OvenProxy = small.lookup(url).await?;
    let (first, second) = (oven.bake(200).try_start()?, oven.bake(200).try_start()?);
    let refused = oven.bake(200).try_start().expect_err("two are in flight");
    assert!(matches!(refused, CallError::BufferFull));
    assert!(refused.is_safe_to_retry());
    println!("  the third of at most two:        {refused}");
    let waited = oven.bake(1).start();
    let (first, second, third) = tokio::join!(first, second, waited);
    println!("  start waited for room:           {}", third?.await?);
    assert!(first.is_ok() && second.is_ok());
    Ok(())
}

/// A call ends at its timeout; the error says what is known of the method.
async fn limits_in_time(
    oven: &OvenProxy,
    early: &mut mpsc::UnboundedReceiver<u64>,
) -> Result<(), Box<dyn Error>> {
    println!("\nLimits in time");
    let late = oven.bake(2_000).timeout(Duration::from_millis(100)).await;
    let late = late.expect_err("two seconds are longer");
    // Or its own error, if it noticed and answered while the server was asked what it knows.
    assert!(matches!(late, CallError::DeadlineExceeded { .. } | CallError::Method(Raw)));
    println!("  a timeout of 100 ms:             {late}");
    noticed(early, 2_000).await?;
    println!("  the handler:                     noticed, and stopped baking");

    let deadline = Instant::now() + Duration::from_millis(60);
    let mut loaves = 0;
    while oven.bake(15).deadline(deadline).await.is_ok() {
        loaves += 1;
    }
    assert!(loaves <= 3, "sixty milliseconds have room for three");
    println!("  one deadline for many calls:     {loaves} loaves of 15 ms within 60 ms");

    let impatient = oven.with_timeout(Duration::from_millis(100));
    assert!(impatient.bake(3_000).await.is_err());
    noticed(early, 3_000).await?;
    println!("  a proxy with a timeout:          it holds for all calls of this clone");
    Ok(())
}

/// Dropping or cancelling a call tells the server; what runs is asked to stop, never forced.
async fn giving_up(
    oven: &OvenProxy,
    early: &mut mpsc::UnboundedReceiver<u64>,
) -> Result<(), Box<dyn Error>> {
    println!("\nGiving up");
    // Dropped by `timeout` when the time is over.
    let dropped = timeout(Duration::from_millis(100), oven.bake(4_000)).await;
    assert!(dropped.is_err());
    noticed(early, 4_000).await?;
    println!("  a call that was dropped:         the handler noticed, and stopped baking");

    let pending = oven.bake(5_000).start().await?;
    let cancelled = pending.cancel().await.expect_err("it was given up");
    println!("  a call that was cancelled:       {cancelled}");
    if cancelled.execution() == Execution::NotExecuted {
        println!("  the handler:                     never began");
    } else {
        noticed(early, 5_000).await?;
        println!("  the handler:                     noticed, and stopped baking");
    }
    Ok(())
}

/// The same from a thread that has no runtime: every call can park the thread instead.
fn blocking(url: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let oven: OvenProxy = farcall::blocking::connect(url)?;
    println!("  blocking:                        {}", oven.bake(5).blocking()?);

    let mut pending = oven.bake(100).try_start()?;
    let mut waits = 1;
    let bread = loop {
        match pending.wait_for(Duration::from_millis(30)) {
            Some(bread) => break bread?,
            None => waits += 1,
        }
    };
    assert!(waits > 1, "a hundred milliseconds are longer than thirty");
    println!("  wait_for 30 ms, {waits} times:         {bread}");

    println!("  wait:                            {}", oven.bake(5).try_start()?.wait()?);
    Ok(())
}

/// Waits until the handler of the call for so many minutes has noticed that nobody waits any more.
async fn noticed(
    early: &mut mpsc::UnboundedReceiver<u64>,
    minutes: u64,
) -> Result<(), Box<dyn Error>> {
    let noticed = async {
        while let Some(told) = early.recv().await {
            if told == minutes {
                return Ok(());
            }
        }
        Err("the oven is gone".into())
    };
    // Longer than anything here takes, so that a defect fails.
    timeout(Duration::from_secs(2), noticed).await?
}
