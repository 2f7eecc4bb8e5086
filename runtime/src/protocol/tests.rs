//! Conversations between a client and a server, compared as text: what each semantics does when the network does this.

mod conversation;

use conversation::{Conversation, Fate::*, Method};

use crate::semantics::Semantics::{AtLeastOnce, AtMostOnce, Maybe};

const DEPOSIT: Method = Method { name: "deposit", semantics: AtMostOnce };
const REFRESH: Method = Method { name: "refresh", semantics: AtLeastOnce };
const NOTIFY: Method = Method { name: "notify", semantics: Maybe };

#[test]
fn at_most_once_a_reply_lost_once_is_answered_from_the_cache() {
    let mut talk = Conversation::new();
    talk.connect();
    talk.call(DEPOSIT);
    talk.up(Arrive);
    talk.down(Lost);
    talk.lose_link();
    talk.connect();
    talk.expect(
        "
   1ms  -> hello
   2ms  <- welcome
   2ms  call deposit
   3ms  -> call 1
   3ms  server: run 1
   4ms  <- reply 1    lost
   4ms  link lost
   5ms  -> hello again, finished below 1
   6ms  <- welcome back, known [(1, 2)]
   7ms  <- reply 1
   7ms  done deposit: ok
",
    );
}

#[test]
fn at_most_once_a_request_lost_with_its_link_is_sent_again() {
    let mut talk = Conversation::new();
    talk.connect();
    talk.call(DEPOSIT);
    talk.up(Lost);
    talk.lose_link();
    talk.connect();
    talk.up(Arrive);
    talk.down(Arrive);
    talk.expect(
        "
   1ms  -> hello
   2ms  <- welcome
   2ms  call deposit
   3ms  -> call 1    lost
   3ms  link lost
   4ms  -> hello again, finished below 1
   5ms  <- welcome back, known []
   6ms  -> call 1, attempt 2
   6ms  server: run 1
   7ms  <- reply 1
   7ms  done deposit: ok
",
    );
}

#[test]
fn at_most_once_a_late_copy_of_the_old_link_is_answered_not_run() {
    let mut talk = Conversation::new();
    talk.connect();
    talk.call(DEPOSIT);
    talk.up(Late);
    talk.lose_link();
    talk.connect();
    talk.up(Arrive);
    talk.late_arrives();
    talk.down(Arrive);
    talk.expect(
        "
   1ms  -> hello
   2ms  <- welcome
   2ms  call deposit
   3ms  -> call 1    late
   3ms  link lost
   4ms  -> hello again, finished below 1
   5ms  <- welcome back, known []
   6ms  -> call 1, attempt 2
   6ms  server: run 1
   7ms  late -> call 1
   7ms  server: answer 1 from cache
   8ms  <- reply 1
   9ms  <- reply 1
   9ms  done deposit: ok
",
    );
}

#[test]
fn at_least_once_a_lost_reply_runs_it_again() {
    let mut talk = Conversation::new();
    talk.connect();
    talk.call(REFRESH);
    talk.up(Arrive);
    talk.down(Lost);
    talk.lose_link();
    talk.connect();
    talk.up(Arrive);
    talk.down(Arrive);
    talk.expect(
        "
   1ms  -> hello
   2ms  <- welcome
   2ms  call refresh
   3ms  -> call 1
   3ms  server: run 1
   4ms  <- reply 1    lost
   4ms  link lost
   5ms  -> hello again, finished below 1
   6ms  <- welcome back, known []
   7ms  -> call 1, attempt 2
   7ms  server: run 1
   8ms  <- reply 1
   8ms  done refresh: ok
",
    );
}

#[test]
fn maybe_is_not_sent_again() {
    let mut talk = Conversation::new();
    talk.connect();
    talk.call(NOTIFY);
    talk.up(Lost);
    talk.lose_link();
    talk.connect();
    talk.up(Arrive);
    talk.expect(
        "
   1ms  -> hello
   2ms  <- welcome
   2ms  call notify
   3ms  -> call 1    lost
   3ms  link lost
   3ms  done notify: the link to bank failed; it may have run
   4ms  -> hello again, finished below 2
   5ms  <- welcome back, known []
",
    );
}

#[test]
fn what_never_left_is_sent_again_under_every_semantics() {
    let mut talk = Conversation::new();
    talk.connect();
    for method in [DEPOSIT, REFRESH, NOTIFY] {
        talk.call(method);
    }
    talk.lose_link();
    talk.connect();
    talk.up(Arrive);
    talk.down(Arrive);
    talk.expect(
        "
   1ms  -> hello
   2ms  <- welcome
   2ms  call deposit
   2ms  call refresh
   2ms  call notify
   2ms  link lost
   3ms  -> hello again, finished below 1
   4ms  <- welcome back, known []
   5ms  -> call 1
   5ms  server: run 1
   6ms  -> call 2
   6ms  server: run 2
   7ms  -> call 3
   7ms  server: run 3
   8ms  <- reply 1
   9ms  <- reply 2
  10ms  <- reply 3
  10ms  done deposit: ok
  10ms  done refresh: ok
  10ms  done notify: ok
",
    );
}

#[test]
fn a_dropped_call_that_has_not_come_is_fenced() {
    let mut talk = Conversation::new();
    talk.connect();
    talk.call(DEPOSIT);
    talk.up(Late);
    talk.abandon("deposit");
    talk.up(Arrive);
    talk.down(Arrive);
    talk.late_arrives();
    talk.down(Arrive);
    talk.expect(
        "
   1ms  -> hello
   2ms  <- welcome
   2ms  call deposit
   3ms  -> call 1    late
   3ms  drop deposit
   4ms  -> resolve 1
   5ms  <- reply 1: Fenced
   6ms  late -> call 1
   6ms  server: answer 1 from cache
   7ms  <- reply 1: Fenced
",
    );
}

#[test]
fn a_deadline_while_it_runs_is_unknown_and_says_that_it_began() {
    let mut talk = Conversation::new();
    talk.connect();
    talk.slow = true;
    talk.call_within(DEPOSIT, 30);
    talk.up(Arrive);
    talk.wait(30);
    talk.up(Arrive);
    talk.down(Arrive);
    talk.finish(1);
    talk.wait(50);
    talk.up(Arrive);
    talk.expect(
        "
   1ms  -> hello
   2ms  <- welcome
   2ms  call deposit
   3ms  -> call 1
   3ms  server: run 1
  34ms  -> resolve 1
  35ms  <- executing 1
  35ms  done deposit: no answer within 33ms; it may have run, the server had begun
  35ms  server: end 1
  86ms  -> finished below 2
  86ms  server: keeps 0
",
    );
}

#[test]
fn a_restarted_server_ends_at_most_once_and_runs_at_least_once_again() {
    let mut talk = Conversation::new();
    talk.connect();
    talk.slow = true;
    for method in [DEPOSIT, REFRESH] {
        talk.call(method);
    }
    talk.up(Arrive);
    talk.restart();
    talk.slow = false;
    talk.connect();
    talk.up(Arrive);
    talk.down(Arrive);
    talk.expect(
        "
   1ms  -> hello
   2ms  <- welcome
   2ms  call deposit
   2ms  call refresh
   3ms  -> call 1
   3ms  server: run 1
   4ms  -> call 2
   4ms  server: run 2
   4ms  server: restarts
   4ms  link lost
   5ms  -> hello again, finished below 1
   6ms  <- welcome
   6ms  done deposit: the server was restarted while the call was in flight; it may have run
   7ms  -> call 1, attempt 2
   7ms  server: run 1
   8ms  <- reply 1
   8ms  done refresh: ok
",
    );
}

#[test]
fn go_away_fences_what_has_not_come_and_lets_the_rest_end() {
    let mut talk = Conversation::new();
    talk.connect();
    talk.slow = true;
    talk.call(DEPOSIT);
    talk.up(Arrive);
    for method in [DEPOSIT, REFRESH] {
        talk.call(method);
    }
    talk.up(Late);
    talk.go_away();
    talk.down(Arrive);
    talk.late_arrives();
    talk.finish(1);
    talk.down(Arrive);
    talk.restart();
    talk.slow = false;
    talk.connect();
    talk.up(Arrive);
    talk.down(Arrive);
    talk.expect(
        "
   1ms  -> hello
   2ms  <- welcome
   2ms  call deposit
   3ms  -> call 1
   3ms  server: run 1
   3ms  call deposit
   3ms  call refresh
   4ms  -> call 2    late
   5ms  -> call 3    late
   6ms  <- go away, known [(1, 2)]
   6ms  done deposit: the server is shutting down: it takes no more calls
   7ms  late -> call 2
   7ms  server: answer 2 with a refusal
   8ms  late -> call 3
   8ms  server: answer 3 with a refusal
   8ms  server: end 1
   9ms  <- reply 2: Failed(ShuttingDown)
  10ms  <- reply 3: Failed(ShuttingDown)
  11ms  <- reply 1
  11ms  done deposit: ok
  11ms  server: restarts
  11ms  link lost
  12ms  -> hello again, finished below 3
  13ms  <- welcome
  14ms  -> call 1, attempt 2
  14ms  server: run 1
  15ms  <- reply 1
  15ms  done refresh: ok
",
    );
}

#[test]
fn hello_of_an_older_link_does_not_take_the_replies() {
    let mut talk = Conversation::new();
    talk.connect();
    talk.slow = true;
    talk.call(DEPOSIT);
    talk.up(Arrive);
    talk.lose_link();
    talk.hello(Late);
    talk.lose_link();
    talk.connect();
    talk.late_arrives();
    talk.finish(1);
    talk.down(Arrive);
    talk.expect(
        "
   1ms  -> hello
   2ms  <- welcome
   2ms  call deposit
   3ms  -> call 1
   3ms  server: run 1
   3ms  link lost
   4ms  -> hello again, finished below 1    late
   4ms  link lost
   5ms  -> hello again, finished below 1
   6ms  <- welcome back, known [(1, 2)]
   7ms  late -> hello again, finished below 1
   7ms  server: the link is too old
   7ms  server: end 1
   8ms  <- reply 1
   8ms  done deposit: ok
",
    );
}

#[test]
fn a_refusal_that_overtakes_go_away_puts_an_at_least_once_call_off() {
    let mut talk = Conversation::new();
    talk.connect();
    talk.call(REFRESH);
    talk.call_within(REFRESH, 30);
    talk.up(Late);
    talk.go_away();
    talk.late_arrives();
    talk.down_backwards();
    talk.call(REFRESH);
    talk.wait(30);
    talk.restart();
    talk.connect();
    talk.up(Arrive);
    talk.down(Arrive);
    talk.expect(
        "
   1ms  -> hello
   2ms  <- welcome
   2ms  call refresh
   2ms  call refresh
   3ms  -> call 1    late
   4ms  -> call 2    late
   5ms  late -> call 1
   5ms  server: answer 1 with a refusal
   6ms  late -> call 2
   6ms  server: answer 2 with a refusal
   7ms  <- reply 2: Failed(ShuttingDown)
   8ms  <- reply 1: Failed(ShuttingDown)
   9ms  <- go away, known []
   9ms  call refresh
  39ms  done refresh: no answer within 37ms; it did not run
  39ms  server: restarts
  39ms  link lost
  40ms  -> hello again, finished below 1
  41ms  <- welcome
  42ms  -> call 1
  42ms  server: run 1
  43ms  -> call 2
  43ms  server: run 2
  44ms  <- reply 1
  45ms  <- reply 2
  45ms  done refresh: ok
  45ms  done refresh: ok
",
    );
}

#[test]
fn a_call_without_a_clock_does_not_end_by_the_time_before_it() {
    // The deadline of the first call is looked at before anybody has told when the second one began.
    let mut talk = Conversation::new();
    talk.connect();
    talk.call_within(DEPOSIT, 30);
    talk.up(Arrive);
    talk.down(Arrive);
    talk.call_untimed_within(REFRESH, 20);
    talk.wait(40);
    talk.wait(20);
    talk.expect(
        "
   1ms  -> hello
   2ms  <- welcome
   2ms  call deposit
   3ms  -> call 1
   3ms  server: run 1
   4ms  <- reply 1
   4ms  done deposit: ok
   4ms  call refresh
  64ms  done refresh: no answer within 20ms; it may have run
",
    );
}
