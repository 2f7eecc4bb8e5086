//! What a mailbox and its name do when one thread ends what another is about to do.

use tokio::time::Instant;

use super::inbox::{Inbox, Seen};
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
