//! Messages in virtual time, in one process, and what a mailbox or a sender does that is ended in between.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::buffer::Buffer;
use super::inbox::{Inbox, Seen};
use super::object::Door;
use super::*;

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
