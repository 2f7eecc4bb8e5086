//! Messages in virtual time, in one process, and what a mailbox or a sender does that is ended in between.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use super::buffer::Buffer;
use super::inbox::{Inbox, Seen};
use super::object::Door;
use super::*;
use crate::limits::Limits;
use crate::semantics::Execution;

#[tokio::test]
async fn a_message_of_a_rendezvous_that_ends_before_it_is_taken_back_was_never_received() {
    let inbox = Inbox::<u8>::new(1, Capacity::Rendezvous);
    let position = inbox.try_place().expect("a place").put(7).expect("open");
    // Nobody came by the deadline, and the mailbox ends before the message is taken back.
    assert_eq!(inbox.seen(position, Instant::now()).await, Seen::NotYet);
    inbox.close();
    assert_eq!(inbox.withdraw(position), Seen::Never);
}

#[test]
fn a_message_of_a_rendezvous_is_taken_back_unless_it_was_received() {
    let inbox = Inbox::<u8>::new(1, Capacity::Rendezvous);
    let position = inbox.try_place().expect("a place").put(7).expect("open");
    assert_eq!(inbox.withdraw(position), Seen::NotYet);
    assert_eq!(inbox.take(), None);
    let position = inbox.try_place().expect("it has its place back").put(8).expect("open");
    assert_eq!(inbox.take(), Some(8));
    assert_eq!(inbox.withdraw(position), Seen::Taken);
    assert_eq!(inbox.room(), 1);
}

#[test]
fn a_mailbox_whose_name_was_bound_again_leaves_the_name_to_the_new_one() {
    let node = Node::builder().build();
    let open = || node.mailbox::<u8>("orders", Capacity::Bounded(1));
    let old = open().expect("a free name");
    node.registry().unbind("orders").expect("it is bound");
    let new = open().expect("it is free again");
    drop(old);
    assert_eq!(node.registry().list().len(), 1, "the name means the new mailbox");
    drop(new);
    assert_eq!(node.registry().list(), [], "and is free when that has ended");
}

#[test]
fn a_mailbox_whose_name_was_rebound_leaves_the_name_to_the_other_object() {
    let node = Node::builder().build();
    let old: Mailbox<u8> = node.mailbox("orders", Capacity::Bounded(1)).expect("a free name");
    let other = Arc::new(Inbox::<u8>::new(1, Capacity::Bounded(1)));
    node.registry().rebind("orders", Door::new(other)).expect("a good name");
    drop(old);
    assert_eq!(node.registry().list().len(), 1, "the name means the other object");
}

#[test]
fn a_message_that_had_a_place_before_the_end_is_refused_after_it() {
    let buffer = Buffer::new(2);
    let place = buffer.places.try_acquire().expect("there are two");
    // Another thread ends the runtime: what is in the buffer has an end, and nobody carries more.
    buffer.close();
    buffer.end(0, 0, usize::MAX, &Err(SendError::Closed));
    let error = buffer.push(place, Bytes::new(), 1, None).expect_err("nobody carries it");
    assert!(matches!(error, SendError::Closed), "{error}");
    assert_eq!(buffer.flow().posted, 0, "a flush does not wait for it");
}

/// A mailbox with one place, taken, in this process.
async fn full(name: &str) -> (Mailbox<u8>, Sender<u8>) {
    let owner = Node::builder().build();
    let inbox = owner.mailbox("box", Capacity::Bounded(1)).expect("a free name");
    let here = owner.listen(&*format!("mem://{name}")).await.expect("a free name");
    let sender = Node::builder().build().sender(here.url("box")).await.expect("it is there");
    sender.post(&0).await.expect("there is room");
    sender.flush().await.expect("it arrived");
    (inbox, sender)
}

#[tokio::test(start_paused = true)]
async fn what_an_idle_sender_left_in_its_end_is_offered_for_its_whole_timeout() {
    let (inbox, sender) = full("idle-sender").await;
    sleep(TIMEOUT + TIMEOUT / 3).await;
    sender.post(&1).await.expect("there is room in the sender's buffer");
    drop(sender);
    sleep(TIMEOUT - TIMEOUT / 10).await;
    assert_eq!(inbox.try_receive(), Some(0));
    assert_eq!(timeout(TIMEOUT, inbox.receive()).await, Ok(Ok(1)), "it was given up");
}

#[tokio::test(start_paused = true)]
async fn how_long_a_mailbox_was_full_before_its_sender_was_dropped_does_not_count() {
    let (inbox, sender) = full("held-up-sender").await;
    sender.post(&1).await.expect("there is room in the sender's buffer");
    sleep(TIMEOUT + TIMEOUT / 3).await;
    drop(sender);
    sleep(TIMEOUT - TIMEOUT / 10).await;
    assert_eq!(inbox.try_receive(), Some(0));
    assert_eq!(timeout(TIMEOUT, inbox.receive()).await, Ok(Ok(1)), "it was given up");
}

#[tokio::test(start_paused = true)]
async fn what_a_dropped_sender_left_is_given_up_when_the_mailbox_took_nothing_for_its_timeout() {
    let (inbox, sender) = full("given-up").await;
    sender.post(&1).await.expect("there is room in the sender's buffer");
    drop(sender);
    // The last answer comes two seconds after the timeout at the latest.
    sleep(TIMEOUT + TIMEOUT / 5).await;
    assert_eq!(inbox.receive().await, Ok(0));
    sleep(TIMEOUT).await;
    assert!(inbox.is_empty(), "nobody offers the other any more");
}

#[test]
fn what_was_on_its_way_when_the_runtime_ended_may_have_been_received() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let paused = builder.enable_all().start_paused(true).build().expect("a runtime");
    let (_inbox, sender) = paused.block_on(full("ended-runtime"));
    let mut sent = Box::pin(sender.send(&1));
    let mut behind = Box::pin(sender.send(&2));
    paused.block_on(async {
        assert!(timeout(Duration::from_secs(1), &mut sent).await.is_err(), "it has no place");
        assert!(timeout(Duration::from_secs(1), &mut behind).await.is_err(), "nor this one");
        sender.post(&3).await.expect("there is room in the sender's buffer");
    });
    drop(paused);
    let after = builder.start_paused(false).build().expect("a runtime");
    let error = after.block_on(sent).expect_err("nobody heard of it");
    assert_eq!(error.execution(), Execution::Unknown, "{error}");
    let error = after.block_on(behind).expect_err("it never left");
    assert!(matches!(error, SendError::Closed), "{error}");
    let error = after.block_on(sender.flush()).expect_err("the last one is lost");
    let SendError::Lost { messages: 1, first } = error else { panic!("{error}") };
    assert!(matches!(*first, SendError::Closed), "{first}");
}

#[tokio::test(start_paused = true)]
async fn messages_that_fit_alone_arrive_where_their_batch_is_too_large() {
    let small = || Limits { message: 1000, ..Limits::default() };
    for (name, here, there) in
        [("small-owner", small(), Limits::default()), ("small-sender", Limits::default(), small())]
    {
        let owner = Node::builder().limits(here).build();
        let inbox = owner.mailbox("box", Capacity::Bounded(64)).expect("a free name");
        let here = owner.listen(&*format!("mem://{name}")).await.expect("a free name");
        let node = Node::builder().limits(there).build();
        let sender: Sender<Vec<u8>> = node.sender(here.url("box")).await.expect("it is there");
        // Of several sizes, one of which fills a call by itself, and many that are mostly ends.
        let sizes = [[300; 16], [1; 16], [0; 16]].concat();
        let messages = sizes.into_iter().chain([900, 1, 900]).enumerate();
        let messages: Vec<_> = messages.map(|(number, size)| vec![number as u8; size]).collect();
        for message in &messages {
            sender.try_post(message).expect("there is room");
        }
        sender.flush().await.expect("all fit");
        for message in messages {
            assert_eq!(inbox.try_receive(), Some(message), "{name}");
        }
    }
}

/// How long a sender waits for a mailbox, if it does not say.
const TIMEOUT: Duration = Duration::from_secs(30);
