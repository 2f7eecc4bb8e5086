//! Exactly-once messages: between two stores, while the receiver is killed and while nobody is there.

use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use farcall::sqlite::params;
use farcall::{
    CallError, Capacity, DurableMailbox, Limits, Listening, Mailbox, Node, RegistryError,
    Semantics, SendError, Sender, SenderConfig, SqliteStore,
};
use farcall_tests::ledger::{Folder, client, read};
use farcall_tests::process::Process;
use farcall_tests::service::{eventually, within};

const ANYWHERE: &str = "tcp://127.0.0.1:0";

fn exactly_once() -> SenderConfig {
    let timeout = Duration::from_millis(500);
    SenderConfig { semantics: Semantics::ExactlyOnce, timeout, ..SenderConfig::default() }
}

/// The owner of a mailbox in a process of its own.
async fn start(database: &Path, address: &str) -> Process {
    Process::start(env!("CARGO_BIN_EXE_mailbox_owner"), &[&database, &address]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_come_once_and_in_order_while_the_receiver_is_killed_again_and_again() {
    let folder = Folder::new("mailbox-killed");
    let database = folder.file("owner.db");
    let mut owner = start(&database, ANYWHERE).await;
    let url = owner.url.clone();
    let address = url.trim_end_matches("/orders").to_owned();
    let node = client(&folder.file("sender.db"));
    let orders: Sender<i64> = node.sender_with(&url, exactly_once()).await.expect("it is there");
    let posting = tokio::spawn(async move {
        for number in 1..=MESSAGES {
            orders.post(&number).await.expect("nothing is lost");
        }
        orders.flush().await.expect("nothing is lost");
        orders.send(&(MESSAGES + 1)).await.expect("it was received");
    });
    let got = || read(&database, "select number from got order by place");
    for kill in 1..=KILLS {
        let reached = usize::try_from(kill * MESSAGES / (KILLS + 2)).expect("few");
        eventually("messages come", || got().len() > reached).await;
        owner.kill().await;
        owner = start(&database, &address).await;
    }
    within("the end", posting).await.expect("the sender holds");
    let expected: Vec<u64> = (1..=MESSAGES.unsigned_abs() + 1).collect();
    assert_eq!(got(), expected);
}

/// An owner in this process.
struct Owner {
    inbox: DurableMailbox<u64>,
    store: SqliteStore,
    here: Listening,
}

async fn owner(database: &Path, address: &str) -> Owner {
    let store = SqliteStore::open(database).expect("a store");
    let node = Node::builder().store(store.clone()).build();
    let inbox = node.durable_mailbox("box", 4).expect("a free name");
    let here = node.listen(address).await.expect("a free port");
    Owner { inbox, store, here }
}

#[tokio::test]
async fn a_message_that_is_taken_in_a_transaction_that_fails_is_there_still() {
    let folder = Folder::new("mailbox-taken");
    let Owner { inbox, store, here } = owner(&folder.file("owner.db"), ANYWHERE).await;
    let node = client(&folder.file("sender.db"));
    let sender: Sender<u64> =
        node.sender_with(here.url("box"), exactly_once()).await.expect("it is there");
    sender.post(&7).await.expect("room");
    for _ in 0..3 {
        within("it", inbox.arrived()).await.expect("it is open");
        let tx = store.transaction().await.expect("a turn");
        assert_eq!(inbox.take(&tx).expect("it is one"), Some(7));
        assert_eq!(inbox.take(&tx).expect("it is empty"), None);
        drop(tx);
    }
    assert_eq!(within("it", inbox.receive()).await.expect("it is one"), 7);
    let sending = tokio::spawn(async move { sender.send(&8).await });
    assert_eq!(within("it", inbox.receive()).await.expect("it is one"), 8);
    within("the answer", sending).await.expect("no panic").expect("it was received");
}

#[tokio::test]
async fn a_receiver_that_goes_away_at_any_moment_loses_no_message() {
    let folder = Folder::new("mailbox-dropped");
    let database = folder.file("owner.db");
    let Owner { inbox, store, here } = owner(&database, ANYWHERE).await;
    let node = client(&folder.file("sender.db"));
    let sender: Sender<u64> =
        node.sender_with(here.url("box"), exactly_once()).await.expect("it is there");
    sender.post(&0).await.expect("room");
    assert_eq!(within("it", inbox.receive()).await.expect("it is open"), 0);
    let tx = store.transaction().await.expect("a turn");
    tx.execute_batch(WATCH_PUTS).expect("the table is there");
    tx.commit().await.expect("it is written");
    // Who leaves during a commit has the message put back. How often one waits before that is up to the threads.
    let mut messages = 0;
    while read(&database, "select count(*) from was_put")[0] <= messages {
        assert!(messages < 100, "nobody left during a commit");
        messages += 1;
        sender.post(&messages).await.expect("room");
        sender.flush().await.expect("it is kept");
        assert_eq!(receive_with_growing_patience(&inbox).await, messages);
        assert_eq!(read(&database, "select count(*) from mailbox_message"), [0]);
    }
}

/// Each receiver is polled once more often than the one before, until one has a message.
async fn receive_with_growing_patience(inbox: &DurableMailbox<u64>) -> u64 {
    for patience in 1..100 {
        let mut receiving = pin!(inbox.receive());
        let mut left = patience;
        let some = poll_fn(|cx| match receiving.as_mut().poll(cx) {
            Poll::Ready(message) => Poll::Ready(Some(message)),
            Poll::Pending => {
                left -= 1;
                if left == 0 { Poll::Ready(None) } else { Poll::Pending }
            }
        });
        if let Some(message) = within("a message, or the end of patience", some).await {
            return message.expect("it is open");
        }
    }
    panic!("it is still there")
}

/// Each message that comes to a mailbox, or comes back.
const WATCH_PUTS: &str = "
    create table was_put (position integer not null);
    create trigger watch after insert on mailbox_message
        begin insert into was_put (position) values (new.position); end;
";

#[tokio::test]
async fn a_full_mailbox_holds_the_sender_up_and_its_messages_outlive_the_node() {
    let folder = Folder::new("mailbox-full");
    let database = folder.file("owner.db");
    let first = owner(&database, ANYWHERE).await;
    let (url, address) = (first.here.url("box"), first.here.addr().to_string());
    let node = client(&folder.file("sender.db"));
    let config = SenderConfig { buffer: 2, ..exactly_once() };
    let sender: Sender<u64> = node.sender_with(&url, config).await.expect("it is there");
    // Four in the mailbox, two in the buffer.
    for number in 1..=6 {
        within("room", sender.post(&number)).await.expect("nothing is lost");
    }
    let full = || read(&database, "select position from mailbox_message").len() == 4;
    eventually("it is full", full).await;
    assert!(matches!(sender.try_post(&7), Err(SendError::Full)));
    let Owner { inbox, store, here } = first;
    here.shutdown(Duration::from_secs(1)).await.expect("nothing runs for long");
    drop((inbox, store, here));
    let again = owner(&database, &address).await;
    for number in 1..=6 {
        assert_eq!(within("it", again.inbox.receive()).await.expect("it is one"), number);
    }
    within("the end", sender.flush()).await.expect("nothing is lost");
}

#[tokio::test]
async fn what_cannot_be_exactly_once_is_refused_at_once() {
    let folder = Folder::new("mailbox-refused");
    let owner = Node::builder().build();
    let error = owner.durable_mailbox::<u64>("kept", 4).expect_err("it has no store");
    assert!(matches!(error, RegistryError::NoStore { .. }), "{error}");
    let _inbox: Mailbox<u64> = owner.mailbox("box", Capacity::Bounded(1)).expect("a free name");
    let here = owner.listen(ANYWHERE).await.expect("a free port");
    let node = client(&folder.file("sender.db"));
    let sender = node.sender_with::<u64>(here.url("box"), exactly_once()).await;
    let error = sender.expect_err("it keeps its messages in memory");
    assert!(matches!(error, CallError::NoSuchObject(_)), "{error}");
}

#[tokio::test]
async fn a_message_of_another_type_is_refused_and_those_behind_it_arrive() {
    let folder = Folder::new("mailbox-type");
    let Owner { inbox, store, here } = owner(&folder.file("owner.db"), ANYWHERE).await;
    let node = client(&folder.file("sender.db"));
    let sender: Sender<(u64, u64)> =
        node.sender_with(here.url("box"), exactly_once()).await.expect("it is there");
    sender.post(&(1, 2)).await.expect("room");
    let error = within("the end", sender.flush()).await.expect_err("it is no number");
    assert!(matches!(error, SendError::Lost { messages: 1, .. }), "{error}");
    let right: Sender<u64> =
        node.sender_with(here.url("box"), exactly_once()).await.expect("it is there");
    right.post(&3).await.expect("room");
    assert_eq!(within("it", inbox.receive()).await.expect("it is one"), 3);
    let tx = store.transaction().await.expect("a turn");
    let left: i64 = tx
        .query_row(
            "select count(*) from mailbox_message where mailbox = ?1",
            params!["box"],
            |row| row.get(0),
        )
        .expect("a number");
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_batch_that_was_saved_and_is_too_large_for_the_owner_arrives_in_parts() {
    let folder = Folder::new("mailbox-parts");
    let store = SqliteStore::open(folder.file("owner.db")).expect("a store");
    let limits = Limits { message: 1000, ..Limits::default() };
    let owner = Node::builder().store(store).limits(limits).build();
    let inbox: DurableMailbox<Vec<u8>> = owner.durable_mailbox("box", 64).expect("a free name");
    let here = owner.listen(ANYWHERE).await.expect("a free port");
    let node = client(&folder.file("sender.db"));
    let sender: Sender<Vec<u8>> =
        node.sender_with(here.url("box"), exactly_once()).await.expect("it is there");
    for number in 0..16 {
        sender.try_post(&vec![number; 300]).expect("room");
    }
    within("the end", sender.flush()).await.expect("each fits alone");
    for number in 0..16 {
        assert_eq!(within("it", inbox.receive()).await.expect("it is one"), [number; 300]);
    }
}

#[tokio::test]
async fn a_mailbox_whose_name_was_bound_again_leaves_it_to_the_new_one() {
    let folder = Folder::new("mailbox-again");
    let store = SqliteStore::open(folder.file("owner.db")).expect("a store");
    let node = Node::builder().store(store).build();
    let open = || node.durable_mailbox::<u64>("box", 4);
    let old = open().expect("a free name");
    node.registry().unbind("box").expect("it is bound");
    let new = open().expect("it is free again");
    drop(old);
    assert_eq!(node.registry().list().len(), 1, "the name means the new mailbox");
    drop(new);
    assert_eq!(node.registry().list(), [], "and is free when that has ended");
}

/// Messages that are posted while the receiver is killed.
const MESSAGES: i64 = 400;
const KILLS: i64 = 6;
