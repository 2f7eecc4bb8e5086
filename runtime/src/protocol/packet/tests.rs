//! Both ends of a link over a virtual path: what arrives, how many datagrams it takes, and what a bad path does to it.

mod conversation;
mod hostile;
mod path;

use std::time::Duration;

use path::{Faults, World};

use crate::limits::Limits;
use crate::semantics::Semantics;

const ALL: [Semantics; 3] = [Semantics::Maybe, Semantics::AtLeastOnce, Semantics::AtMostOnce];

#[test]
fn back_to_back_calls_take_two_datagrams_each_and_a_lone_one_three() {
    for semantics in ALL {
        let mut world = World::new(1, Faults::default());
        world.call(semantics, 16);
        world.rest();
        let before = world.datagrams();
        for _ in 0..100 {
            world.call(semantics, 16);
            world.answered();
        }
        let back_to_back = world.datagrams() - before;
        assert!(back_to_back <= 205, "{semantics:?}: {back_to_back}");
        world.rest();
        let before = world.datagrams();
        world.call(semantics, 16);
        world.rest();
        assert!(world.datagrams() - before <= 3, "{semantics:?}: {}", world.datagrams() - before);
        assert_eq!(world.resent(), 0);
        assert_eq!(world.records(), 0, "{semantics:?}");
    }
}

#[test]
fn a_slow_handler_causes_no_second_copy_of_its_request() {
    for semantics in ALL {
        let mut world = World::new(2, Faults::default());
        world.handler = Duration::from_secs(5);
        world.call(semantics, 16);
        world.answered();
        world.rest();
        assert_eq!((world.resent(), world.runs()), (0, 1), "{semantics:?}");
    }
}

#[test]
fn large_messages_arrive_on_a_bad_path() {
    for seed in 0..20 {
        let faults =
            Faults { loss: 50, repeat: 20, jitter: Duration::from_millis(5), ..Faults::default() };
        let mut world = World::new(seed, faults);
        for _ in 0..3 {
            world.call(Semantics::AtMostOnce, 300_000);
        }
        world.answered();
        world.rest();
        assert_eq!((world.runs(), world.records()), (3, 0), "seed {seed}");
    }
}

#[test]
fn calls_are_answered_whatever_is_lost() {
    for seed in 0..200 {
        let faults = Faults {
            loss: 250,
            repeat: 200,
            jitter: Duration::from_millis(50),
            ..Faults::default()
        };
        let mut world = World::new(seed, faults);
        for n in 0..50 {
            world.call(
                if n % 2 == 0 { Semantics::AtMostOnce } else { Semantics::AtLeastOnce },
                16 + n,
            );
            if n % 10 == 9 {
                world.answered();
            }
        }
        world.answered();
        world.run_for(Duration::from_secs(28));
        assert_eq!(world.records(), 0, "seed {seed}");
        assert_eq!(world.twice(), 0, "seed {seed}");
    }
}

#[test]
fn where_large_datagrams_vanish_small_ones_are_sent() {
    let mut world = World::new(3, Faults::default());
    world.call(Semantics::AtMostOnce, 16);
    world.answered();
    world.faults.largest = 600;
    world.call(Semantics::AtMostOnce, 20_000);
    world.answered();
    world.call(Semantics::AtMostOnce, 900);
    world.answered();
    world.rest();
    assert_eq!((world.runs(), world.records()), (3, 0));
}

#[test]
fn where_large_datagrams_vanish_an_answer_falls_back_too() {
    let mut world = World::new(3, Faults::default());
    world.handler = Duration::from_secs(1);
    world.call(Semantics::AtMostOnce, 20_000);
    world.run_for(Duration::from_millis(500));
    // Nothing but pieces waits at the server, and its probes are not to be filled up with them.
    world.faults.largest = 600;
    world.answered();
    world.rest();
    assert_eq!((world.runs(), world.records()), (1, 0));
}

#[test]
fn an_answer_falls_back_however_often_its_client_is_asked_meanwhile() {
    // Each question put the probes off, and vanished, since it was filled up with pieces.
    let limits = Limits { ack_solicit: Duration::from_millis(500), ..Limits::default() };
    let faults = Faults { delay: Duration::from_millis(400), ..Faults::default() };
    let mut world = World::with(3, faults, limits);
    world.handler = Duration::from_secs(1);
    world.call(Semantics::AtMostOnce, 20_000);
    while world.runs() == 0 {
        world.run_for(Duration::from_millis(100));
    }
    world.faults.largest = 600;
    world.run_for(Duration::from_secs(60));
    world.answered();
    assert_eq!(world.runs(), 1);
}

#[test]
fn a_silent_client_is_sent_its_reply_a_few_times_and_then_asked_now_and_then() {
    let mut world = World::new(4, Faults::default());
    world.call(Semantics::AtMostOnce, 16);
    world.answered();
    world.rest();
    world.handler = Duration::from_millis(20);
    world.call(Semantics::AtMostOnce, 16);
    world.run_for(Duration::from_millis(10));
    world.client_is_gone = true;
    let before = world.datagrams();
    world.run_for(Duration::from_secs(25));
    let sent_again = world.datagrams() - before;
    assert!((8..=30).contains(&sent_again), "{sent_again}");
    let before = world.datagrams();
    world.run_for(Duration::from_secs(25));
    assert_eq!(world.datagrams() - before, 1, "NEED_ACK, with the reply");
    assert_eq!(world.records(), 1);
}

#[test]
fn pieces_lost_of_a_request_that_is_given_up_do_not_end_the_link() {
    // The server had some of the pieces, was sent no others, and took the link for stalled.
    for lost in 1..=3 {
        let mut world = World::new(5, Faults::default());
        world.call(Semantics::AtLeastOnce, 16);
        world.answered();
        world.rest();
        world.faults.vanish = vec![world.datagrams() + lost];
        world.call(Semantics::AtLeastOnce, 3000);
        world.run_for(Duration::from_micros(100));
        world.abandon();
        world.run_for(Duration::from_secs(50));
        assert_eq!(world.runs(), 1, "{lost}");
        world.call(Semantics::AtLeastOnce, 3000);
        world.answered();
    }
}

#[test]
fn pieces_lost_of_a_reply_that_nobody_waits_for_do_not_end_the_link() {
    for lost in 1..=3 {
        let mut world = World::new(5, Faults::default());
        world.handler = Duration::from_millis(100);
        world.call(Semantics::AtLeastOnce, 3000);
        world.run_for(Duration::from_millis(90));
        world.faults.vanish = vec![world.datagrams() + lost];
        world.run_for(Duration::from_millis(12));
        world.abandon();
        // Tells the server that the first is finished, before it knows of the loss.
        world.call(Semantics::AtLeastOnce, 16);
        world.run_for(Duration::from_secs(50));
        world.answered();
        assert_eq!((world.runs(), world.records()), (2, 0), "{lost}");
    }
}

#[test]
fn a_reply_that_nobody_waits_for_is_sent_no_further() {
    let mut world = World::new(6, Faults::default());
    world.call(Semantics::AtLeastOnce, 900_000);
    while world.runs() == 0 {
        world.run_for(Duration::from_micros(100));
    }
    let before = world.datagrams();
    world.run_for(Duration::from_millis(1));
    world.abandon();
    world.call(Semantics::AtLeastOnce, 16);
    world.run_for(Duration::from_secs(50));
    world.answered();
    let sent = world.datagrams() - before;
    assert!(sent < 200, "{sent} of more than 700");
}

#[test]
fn a_call_that_is_taken_back_while_pacing_waits_leaves_no_timer() {
    // With one of these sizes, all of a first call leaves and nothing of a second.
    for size in (1000..40_000).step_by(1000) {
        let faults = Faults { delay: Duration::from_millis(50), ..Faults::default() };
        let mut world = World::new(7, faults);
        world.call(Semantics::AtLeastOnce, 100_000);
        world.answered();
        world.rest();
        world.call(Semantics::AtLeastOnce, size);
        world.run_for(Duration::ZERO);
        world.call(Semantics::AtLeastOnce, 3000);
        world.run_for(Duration::ZERO);
        world.abandon();
        world.run_for(Duration::from_secs(1));
        world.answered();
    }
}

#[test]
fn an_answer_makes_a_client_as_impatient_as_it_was() {
    let mut world = World::new(8, Faults::default());
    let [_, short, long, again] = [0, 4, 20, 4].map(|seconds| {
        world.handler = Duration::from_secs(seconds);
        let before = world.datagrams();
        world.call(Semantics::AtMostOnce, 16);
        world.answered();
        world.run_for(Duration::from_millis(100));
        world.datagrams() - before
    });
    // The pings are a second apart at first.
    assert_eq!((short, again), (8, 8), "{long}");
}
