//! Messages over real sockets: who waits for what, in which order they come, and what is told of those that do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farcall::{
    CallError, Capacity, Execution, Limits, Listening, Mailbox, Node, ReceiveError, Semantics,
    SendError, Sender, SenderConfig, remote,
};
use farcall_tests::service::{TRANSPORTS, Transport, eventually, within};
use serde::{Deserialize, Serialize};

/// A mailbox on a node of its own.
struct Owner<T> {
    inbox: Mailbox<T>,
    here: Listening,
}

async fn owner<T>(transport: Transport, capacity: Capacity) -> Owner<T>
where
    T: for<'de> Deserialize<'de> + Send + 'static,
{
    let node = Node::builder().build();
    let inbox = node.mailbox("box", capacity).expect("a free name");
    let here = node.listen(transport.anywhere()).await.expect("a free port");
    Owner { inbox, here }
}

impl<T> Owner<T> {
    async fn sender(&self, config: SenderConfig) -> Sender<T> {
        self.sender_of(config).await
    }

    async fn sender_of<M>(&self, config: SenderConfig) -> Sender<M> {
        Node::builder()
            .build()
            .sender_with(self.here.url("box"), config)
            .await
            .expect("it is there")
    }
}

fn buffer(buffer: usize) -> SenderConfig {
    SenderConfig { buffer, ..SenderConfig::default() }
}

#[tokio::test]
async fn what_is_posted_arrives_in_its_order_under_every_semantics() {
    for transport in TRANSPORTS {
        for semantics in [Semantics::Maybe, Semantics::AtLeastOnce, Semantics::AtMostOnce] {
            let owner = owner::<u64>(transport, Capacity::Bounded(7)).await;
            let sender = owner.sender(SenderConfig { semantics, ..buffer(16) }).await;
            let posting = tokio::spawn(async move {
                for number in 0..500_u64 {
                    sender.post(&number).await?;
                }
                sender.flush().await
            });
            // In datagrams a request whose reply is late is sent again, and what is at least once is then received again.
            let repeats = (transport, semantics) == (Transport::Udp, Semantics::AtLeastOnce);
            let mut number = 0;
            while number < 500 {
                let message = within("a message", owner.inbox.receive()).await;
                assert!(owner.inbox.len() <= 7);
                if repeats && message.is_ok_and(|message| message < number) {
                    continue;
                }
                assert_eq!(message, Ok(number), "{transport:?} {semantics}");
                number += 1;
            }
            within("the flush", posting).await.expect("no panic").expect("all arrived");
        }
    }
}

#[tokio::test]
async fn send_returns_when_the_message_was_received_and_not_before() {
    for transport in TRANSPORTS {
        for capacity in [Capacity::Bounded(3), Capacity::Rendezvous] {
            let owner = owner::<String>(transport, capacity).await;
            let sender = owner.sender(buffer(1)).await;
            let mut sending = tokio::spawn(async move { sender.send(&"tea".to_owned()).await });
            eventually("the message is there", || owner.inbox.len() == 1).await;
            let early = tokio::time::timeout(Duration::from_millis(30), &mut sending).await;
            assert!(early.is_err(), "{transport:?}, {capacity}: it was not received");
            assert_eq!(owner.inbox.try_receive().as_deref(), Some("tea"));
            let sent = within("the return", sending).await.expect("no panic");
            sent.expect("it was received");
        }
    }
}

#[tokio::test]
async fn posts_go_before_a_send_that_comes_after_them() {
    let owner = owner::<u64>(Transport::Tcp, Capacity::Bounded(100)).await;
    let sender = owner.sender(buffer(100)).await;
    for number in 0..50 {
        sender.try_post(&number).expect("there is room");
    }
    let sending = tokio::spawn(async move { sender.send(&50).await });
    for number in 0..=50 {
        assert_eq!(within("a message", owner.inbox.receive()).await, Ok(number));
    }
    within("the return", sending).await.expect("no panic").expect("it was received");
}

#[tokio::test]
async fn full_buffers_hold_up_who_posts_and_nothing_is_lost() {
    for transport in TRANSPORTS {
        let owner = owner::<u64>(transport, Capacity::Bounded(2)).await;
        let sender = owner.sender(buffer(3)).await;
        let mut posted = 0;
        // Two move on to the mailbox, and three stay.
        eventually("both buffers are full", || {
            while sender.try_post(&posted).is_ok() {
                posted += 1;
            }
            owner.inbox.len() == 2 && posted >= 5
        })
        .await;
        let error = sender.try_post(&posted).expect_err("it is full");
        assert!(matches!(error, SendError::Full), "{error}");
        assert_eq!((posted, error.execution()), (5, Execution::NotExecuted));
        let waiting = sender.clone();
        let mut post = tokio::spawn(async move { waiting.post(&5).await });
        assert!(tokio::time::timeout(Duration::from_millis(30), &mut post).await.is_err());
        for number in 0..=5 {
            assert_eq!(within("a message", owner.inbox.receive()).await, Ok(number));
        }
        within("the post", post).await.expect("no panic").expect("posted");
    }
}

#[tokio::test]
async fn a_rendezvous_keeps_nothing_that_nobody_receives() {
    let owner = owner::<u64>(Transport::Tcp, Capacity::Rendezvous).await;
    let sender =
        owner.sender(SenderConfig { timeout: Duration::from_millis(200), ..buffer(4) }).await;
    sender.post(&1).await.expect("there is room in the sender's buffer");
    // Offered, taken back after half the timeout, and offered again.
    for _ in 0..2 {
        eventually("it is offered", || owner.inbox.len() == 1).await;
        eventually("it is taken back", || owner.inbox.is_empty()).await;
    }
    assert_eq!(within("the message", owner.inbox.receive()).await, Ok(1));
    within("the flush", sender.flush()).await.expect("nothing is lost");
    assert_eq!(owner.inbox.try_receive(), None, "it came once");
}

#[tokio::test]
async fn an_owner_that_is_gone_is_a_clear_error() {
    let Owner { inbox, here } = owner::<u64>(Transport::Tcp, Capacity::Bounded(1)).await;
    let sender: Sender<u64> = Node::builder().build().sender(here.url("box")).await.expect("there");
    let waiting = sender.clone();
    let waits = tokio::spawn(async move { waiting.send(&1).await });
    eventually("it is there", || inbox.len() == 1).await;
    drop(inbox);
    let error = within("the error", waits).await.expect("no panic").expect_err("never received");
    assert!(matches!(error, SendError::Gone { .. }), "{error}");
    let error = within("the error", sender.send(&2)).await.expect_err("it is gone");
    assert!(matches!(error, SendError::Gone { execution: Execution::NotExecuted, .. }), "{error}");
    let text = error.to_string();
    assert_eq!(
        text,
        format!("the mailbox {} is gone; the message was not received", here.url("box"))
    );

    sender.post(&3).await.expect("the sender's buffer has room");
    let error = within("the error", sender.flush()).await.expect_err("it did not arrive");
    let SendError::Lost { messages: 1, first } = error else { panic!("{error}") };
    assert!(matches!(*first, SendError::Gone { .. }), "{first}");
    within("nothing", sender.flush()).await.expect("it is said once");
    let error = Node::builder().build().sender::<u64>(here.url("box")).await.expect_err("gone");
    assert!(matches!(error, CallError::NoSuchObject(_)), "{error}");
    // The name is free again.
    let again: Mailbox<u64> = here.node().mailbox("box", Capacity::Bounded(1)).expect("free");
    let sending = tokio::spawn(async move { sender.send(&4).await });
    assert_eq!(within("a message", again.receive()).await, Ok(4));
    within("the return", sending).await.expect("no panic").expect("it was received");
}

#[tokio::test]
async fn a_message_of_another_type_is_refused_alone() {
    let owner = owner::<String>(Transport::Tcp, Capacity::Bounded(4)).await;
    let numbers: Sender<(u64, u64, u64)> = owner.sender_of(buffer(4)).await;
    let error = within("the refusal", numbers.send(&(90, 91, 92))).await.expect_err("no text");
    assert!(matches!(error, SendError::Refused { .. }), "{error}");
    assert_eq!(error.execution(), Execution::NotExecuted);
    let texts: Sender<String> = owner.sender(buffer(4)).await;
    texts.post(&"good".to_owned()).await.expect("there is room");
    assert_eq!(within("a message", owner.inbox.receive()).await.as_deref(), Ok("good"));
}

#[tokio::test]
async fn a_message_to_several_mailboxes_names_those_that_did_not_take_it() {
    let mut owners = Vec::new();
    for transport in [Transport::Tcp, Transport::Udp, Transport::Tcp] {
        owners.push(owner::<u64>(transport, Capacity::Bounded(1)).await);
    }
    let urls: Vec<_> = owners.iter().map(|owner| owner.here.url("box")).collect();
    let node = Node::builder().build();
    let sender: Sender<u64> = node.group_sender(&urls, buffer(2)).await.expect("good addresses");
    assert_eq!(sender.mailboxes().len(), 3);
    let sending = tokio::spawn({
        let sender = sender.clone();
        async move { sender.send(&7).await }
    });
    for owner in &owners {
        assert_eq!(within("a message", owner.inbox.receive()).await, Ok(7));
    }
    within("the return", sending).await.expect("no panic").expect("all received it");

    let gone = owners.remove(1);
    drop(gone.inbox);
    let sending = tokio::spawn(async move { sender.send(&8).await });
    for owner in &owners {
        assert_eq!(within("a message", owner.inbox.receive()).await, Ok(8));
    }
    let error = within("the return", sending).await.expect("no panic").expect_err("one is gone");
    assert_eq!(error.execution(), Execution::Executed, "the others received it");
    let SendError::Some { failed, of: 3 } = error else { panic!("{error}") };
    assert_eq!(failed.len(), 1);
    assert_eq!(*failed[0].0.url(), urls[1]);
}

#[tokio::test]
async fn a_node_that_is_shut_down_gives_what_is_left_and_then_says_so() {
    let owner = owner::<u64>(Transport::Tcp, Capacity::Bounded(2)).await;
    let sender = owner.sender(buffer(2)).await;
    sender.post(&1).await.expect("there is room");
    sender.flush().await.expect("it arrived");
    let inbox = owner.inbox.clone();
    owner.here.shutdown(Duration::from_secs(1)).await.expect("nothing runs");
    assert_eq!(within("what is left", inbox.receive()).await, Ok(1));
    assert_eq!(within("the end", inbox.receive()).await, Err(ReceiveError::Closed));
}

#[test]
fn a_thread_without_a_runtime_receives() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let owner = runtime.block_on(owner::<u64>(Transport::Tcp, Capacity::Bounded(1)));
    let sender = runtime.block_on(owner.sender(buffer(1)));
    let sending = runtime.spawn(async move { sender.send(&5).await });
    assert_eq!(owner.inbox.receive_blocking(), Ok(5));
    runtime.block_on(sending).expect("no panic").expect("it was received");
    let inbox = owner.inbox.clone();
    let refused = runtime.spawn(async move { inbox.receive_blocking() });
    let refused = runtime.block_on(refused).expect("no panic");
    assert_eq!(refused, Err(ReceiveError::BlockingInAsync));
}

#[tokio::test]
async fn what_a_mailbox_cannot_promise_is_refused_when_the_sender_is_made() {
    let owner = owner::<u64>(Transport::Tcp, Capacity::Bounded(1)).await;
    let config = SenderConfig { semantics: Semantics::ExactlyOnce, ..buffer(1) };
    let sender = Node::builder().build().sender_with::<u64>(owner.here.url("box"), config).await;
    let error = sender.expect_err("it has no store");
    assert!(matches!(error, CallError::NoStore), "{error}");
}

#[test]
fn a_thread_sends_and_posts_and_a_task_is_told_to_await() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let owner = runtime.block_on(owner::<u64>(Transport::Udp, Capacity::Bounded(1)));
    let sender = runtime.block_on(owner.sender(buffer(1)));
    let asked = Arc::new(AtomicBool::new(false));
    let sends = {
        let (sender, asked) = (sender.clone(), asked.clone());
        std::thread::spawn(move || {
            for number in 1..=20 {
                sender.post_blocking(&number).expect("it leaves when there is room");
            }
            sender.send_blocking(&21).expect("it was received");
            assert!(asked.load(Ordering::Acquire), "nobody had received it");
        })
    };
    let next = || runtime.block_on(within("a message", owner.inbox.receive()));
    for number in 1..=20 {
        assert_eq!(next(), Ok(number));
    }
    runtime.block_on(eventually("the last message", || owner.inbox.len() == 1));
    asked.store(true, Ordering::Release);
    assert_eq!(next(), Ok(21));
    sends.join().expect("it was received before it was sent");
    // What should be refused, and is not, must not wait for us.
    let heard = {
        let inbox = owner.inbox.clone();
        runtime.spawn(async move { inbox.receive().await })
    };
    let last = sender.clone();
    let refused =
        runtime.spawn(async move { [sender.send_blocking(&1), sender.post_blocking(&1)] });
    for refused in runtime.block_on(refused).expect("no panic") {
        let error = refused.expect_err("inside a task");
        assert!(matches!(error, SendError::BlockingInAsync), "{error}");
        assert_eq!(error.execution(), Execution::NotExecuted);
    }
    // What was refused would have come before it.
    runtime.block_on(within("the last", last.send(&22))).expect("it was received");
    assert_eq!(runtime.block_on(heard).expect("no panic"), Ok(22));
    assert_eq!(owner.inbox.try_receive(), None);
}

#[tokio::test]
async fn a_message_over_the_limit_is_not_sent_and_a_posted_one_is_said_to_be_lost() {
    let owner = owner::<Vec<u8>>(Transport::Udp, Capacity::Bounded(1)).await;
    let limits = Limits { message: 2 << 20, ..Limits::default() };
    let node = Node::builder().limits(limits).build();
    let sender: Sender<Vec<u8>> = node.sender(owner.here.url("box")).await.expect("it is there");
    let error = sender.send(&vec![7; 3 << 20]).await.expect_err("over the node's limit");
    assert!(matches!(error, SendError::Failed(CallError::TooLarge { .. })), "{error:?}");
    // Less than this node accepts, and more than datagrams carry.
    sender.post(&vec![7; 3 << 19]).await.expect("posted");
    let error = within("the end", sender.flush()).await.expect_err("it is too large");
    assert!(matches!(error, SendError::Lost { messages: 1, .. }), "{error:?}");
    sender.post(&vec![7; 1000]).await.expect("posted");
    let message = within("the next one", owner.inbox.receive()).await.expect("open");
    assert_eq!(message.len(), 1000);
}

/// The mailbox's interface as a peer of another make may call it.
mod forged {
    use super::{Deserialize, Serialize, remote};

    #[remote]
    pub(super) trait RemoteMailbox {
        async fn put(&self, batch: &Batch, wait_ms: u32) -> Result<Put, NotPut>;
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Batch {
        pub(super) bytes: Vec<u8>,
        pub(super) ends: Vec<u32>,
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) struct Put {
        pub(super) mailbox: u64,
        pub(super) accepted: u32,
        pub(super) last: u64,
        pub(super) taken: bool,
        pub(super) refused: Option<String>,
        pub(super) room: u32,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(super) enum NotPut {
        Gone,
        Replaced,
        Busy,
        Garbled,
    }
}

#[tokio::test]
async fn a_batch_that_lies_about_its_messages_puts_nothing() {
    let owner = owner::<u8>(Transport::Tcp, Capacity::Bounded(4)).await;
    let door: forged::RemoteMailboxProxy =
        farcall::connect(owner.here.url("box")).await.expect("it is an object like others");
    for ends in [vec![2], vec![1, 0], vec![u32::MAX], vec![1; 5000]] {
        let batch = forged::Batch { bytes: vec![7], ends };
        let error = door.put(&batch, u32::MAX).await;
        match error {
            Err(CallError::Method(forged::NotPut::Garbled)) => assert!(owner.inbox.is_empty()),
            // Messages of no bytes: the first is one, the second is none.
            Ok(put) => {
                assert_eq!((put.accepted, put.refused.is_some()), (1, true), "{put:?}");
                assert_eq!(owner.inbox.try_receive(), Some(7));
            }
            other => panic!("{other:?}"),
        }
    }
    let all = forged::Batch { bytes: vec![1, 2, 3, 4, 5, 6], ends: (1..=6).collect() };
    let put = door.put(&all, 0).await.expect("as many as there is room for");
    assert_eq!((put.accepted, put.room), (4, 0));
    let put = door.put(&all, 0).await.expect("it is full, and that is an answer");
    assert_eq!(put.accepted, 0);
    assert_eq!(owner.inbox.len(), 4);
}
