//! Messages: a mailbox, senders that wait and senders that do not, and full buffers made visible.
//!
//! Owner and senders are in one process here; nothing would change if they were not. Each claim that is printed is
//! checked.

use std::error::Error;
use std::time::Duration;

use farcall::{Capacity, Execution, Mailbox, Node, SendError, Sender, SenderConfig};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Parcel {
    number: u64,
    to: String,
}

fn parcel(number: u64) -> Parcel {
    Parcel { number, to: "room 12".to_owned() }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mailroom = Node::builder().build();
    let here = mailroom.listen("tcp://127.0.0.1:0").await?;
    let also = mailroom.listen("udp://127.0.0.1:0").await?;
    let node = Node::builder().build();

    let shelf: Mailbox<Parcel> = mailroom.mailbox("shelf", Capacity::Bounded(4))?;
    println!("A shelf of 4 places, and a sender that keeps 3 parcels itself");
    let config = SenderConfig { buffer: 3, ..SenderConfig::default() };
    let sender: Sender<Parcel> = node.sender_with(here.url("shelf"), config).await?;
    synchronous(&shelf, &sender).await?;
    asynchronous(&shelf, &sender).await?;

    println!("\nA counter without a shelf: a rendezvous");
    let counter: Mailbox<Parcel> = mailroom.mailbox("counter", Capacity::Rendezvous)?;
    let sender: Sender<Parcel> = node.sender(also.url("counter")).await?;
    rendezvous(&counter, &sender).await?;

    println!("\nA thread without a runtime");
    let reader = counter.clone();
    let reading = std::thread::spawn(move || reader.receive_blocking());
    sender.send(&parcel(90)).await?;
    // Joined off the runtime, which drives the sender.
    let read =
        tokio::task::spawn_blocking(|| reading.join()).await?.map_err(|_| "it panicked")??;
    println!("  received, with the thread parked:  parcel {}", read.number);
    assert_eq!(read.number, 90);

    println!("\nThe mailroom closes");
    drop(counter);
    let gone = sender.send(&parcel(91)).await.err().ok_or("nobody is there")?;
    println!("  send:                              {gone}");
    assert!(matches!(gone, SendError::Gone { .. }));
    assert_eq!(gone.execution(), Execution::NotExecuted);
    sender.post(&parcel(92)).await?;
    let lost = sender.flush().await.err().ok_or("it cannot arrive")?;
    println!("  post, and then flush:              {lost}");
    assert!(matches!(lost, SendError::Lost { messages: 1, .. }));
    Ok(())
}

/// `send` returns when the parcel was received.
async fn synchronous(
    shelf: &Mailbox<Parcel>,
    sender: &Sender<Parcel>,
) -> Result<(), Box<dyn Error>> {
    let reader = shelf.clone();
    let reading = tokio::spawn(async move {
        sleep(Duration::from_millis(60)).await;
        reader.receive().await
    });
    let began = Instant::now();
    sender.send(&parcel(1)).await?;
    let waited = began.elapsed();
    let received = reading.await??;
    println!("  send, read after 60 ms:            returned after {} ms", waited.as_millis());
    assert!(waited >= Duration::from_millis(60));
    assert_eq!(received, parcel(1));
    Ok(())
}

/// `post` returns when the parcel is in the sender's buffer. Nobody reads, so that both buffers fill up.
async fn asynchronous(
    shelf: &Mailbox<Parcel>,
    sender: &Sender<Parcel>,
) -> Result<(), Box<dyn Error>> {
    println!(
        "  posted while nobody reads:         (. one that the sender keeps, # one on the shelf)"
    );
    for number in 2..9 {
        timeout(PATIENCE, sender.post(&parcel(number))).await??;
        // The sender moves what it can, by itself.
        timeout(PATIENCE, until(|| shelf.len() as u64 == (number - 1).min(4))).await?;
        let kept = number - 1 - shelf.len() as u64;
        println!(
            "    parcel {number}  {:<4} {}",
            "#".repeat(shelf.len()),
            ".".repeat(kept as usize)
        );
    }
    let full = sender.try_post(&parcel(9)).err().ok_or("there is no place")?;
    println!("  try_post of one more:              {full}");
    assert!(matches!(full, SendError::Full));
    assert_eq!(shelf.len(), 4);

    let waiting = sender.clone();
    let mut post = tokio::spawn(async move { waiting.post(&parcel(9)).await });
    assert!(timeout(Duration::from_millis(50), &mut post).await.is_err());
    println!("  post of one more:                  waits, since both are full");
    let mut order = Vec::new();
    while order.len() < 8 {
        order.push(timeout(PATIENCE, shelf.receive()).await??.number);
    }
    post.await??;
    println!("  received, in the order posted:     {order:?}");
    assert_eq!(order, [2, 3, 4, 5, 6, 7, 8, 9]);
    Ok(())
}

/// A rendezvous keeps nothing: sender and receiver meet.
async fn rendezvous(
    counter: &Mailbox<Parcel>,
    sender: &Sender<Parcel>,
) -> Result<(), Box<dyn Error>> {
    let sending = sender.clone();
    let mut send = tokio::spawn(async move { sending.send(&parcel(50)).await });
    assert!(timeout(Duration::from_millis(50), &mut send).await.is_err());
    println!("  send, while nobody is there:       waits");
    let received = timeout(PATIENCE, counter.receive()).await??;
    timeout(PATIENCE, send).await???;
    println!("  somebody comes:                    both go on, with parcel {}", received.number);
    assert_eq!((received, counter.len()), (parcel(50), 0));
    Ok(())
}

/// Waits for what tells nobody when it is there.
async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        sleep(Duration::from_millis(1)).await;
    }
}

/// How long something may take that must come.
const PATIENCE: Duration = Duration::from_secs(10);
