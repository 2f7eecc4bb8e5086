//! Calls to groups over real sockets: who is called, whose answer counts, when it is over, and what is told of the rest.

use std::sync::Arc;
use std::time::Duration;

use farcall::{CallError, Execution, Group, Limits, Listening, Node, Outcome, remote};
use farcall_tests::service::{
    How, Log, Server, TRANSPORTS, Transport, WorkGroup, eventually, order, within, work_at,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

/// An object whose answer the test decides.
#[remote]
trait Desk {
    /// Answers, when it may, with the number of the desk.
    async fn number(&self) -> Result<u64, Shut>;

    /// Says nothing.
    #[remote(oneway)]
    async fn ring(&self);

    /// Names that the group has for itself.
    async fn add(&self, remove: u64) -> u64;
}

/// The desk's own error.
#[derive(Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("the desk is shut")]
struct Shut;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Answer,
    Hold,
    Refuse,
}

/// What a desk does, and what happened to it.
#[derive(Clone)]
struct Clerk {
    number: u64,
    way: watch::Sender<Way>,
    asked: watch::Sender<u64>,
    given_up: watch::Sender<u64>,
}

impl Clerk {
    fn new(number: u64, way: Way) -> Clerk {
        let [asked, given_up] = [(); 2].map(|()| watch::Sender::new(0));
        Clerk { number, way: watch::Sender::new(way), asked, given_up }
    }

    async fn was_asked(&self, times: u64) {
        let mut asked = self.asked.subscribe();
        let _ = within("the call", asked.wait_for(|asked| *asked >= times)).await;
    }
}

#[remote]
impl Desk for Clerk {
    async fn number(&self) -> Result<u64, Shut> {
        self.asked.send_modify(|asked| *asked += 1);
        let cancellation = farcall::Context::current().expect("in a handler").cancellation();
        let mut way = self.way.subscribe();
        tokio::select! {
            () = async { drop(way.wait_for(|way| *way != Way::Hold).await) } => {}
            () = cancellation.cancelled() => {
                self.given_up.send_modify(|count| *count += 1);
                // Who holds says nothing, at its deadline either.
                drop(way.wait_for(|way| *way != Way::Hold).await);
            }
        }
        if *self.way.borrow() == Way::Refuse { Err(Shut) } else { Ok(self.number) }
    }

    async fn ring(&self) {
        self.asked.send_modify(|asked| *asked += 1);
    }

    async fn add(&self, remove: u64) -> u64 {
        self.number + remove
    }
}

/// Desks on nodes of their own, every other one over UDP.
struct Bank {
    clerks: Vec<Clerk>,
    servers: Vec<Listening>,
    desks: DeskGroup,
}

async fn bank(ways: &[Way]) -> Bank {
    let (mut clerks, mut servers) = (Vec::new(), Vec::new());
    for (number, way) in ways.iter().enumerate() {
        let clerk = Clerk::new(number as u64, *way);
        let at = TRANSPORTS[number % 2].anywhere();
        servers.push(farcall::serve(at, "desk", clerk.clone()).await.expect("a free port"));
        clerks.push(clerk);
    }
    let urls = servers.iter().map(|server| server.url("desk"));
    let desks = farcall::group(urls).await.expect("good addresses");
    Bank { clerks, servers, desks }
}

use Way::{Answer, Hold, Refuse};

#[tokio::test]
async fn all_gives_an_entry_a_member_over_tcp_and_udp() {
    let bank = bank(&[Answer, Answer, Refuse, Answer]).await;
    let replies = bank.desks.number().all().await;
    assert_eq!(replies.len(), 4);
    for (number, member) in bank.desks.members().iter().enumerate() {
        let reply = replies.of(member).expect("an entry");
        match &reply.result {
            Ok(answer) => assert_eq!((*answer, reply.accepted), (number as u64, true)),
            Err(error) => {
                assert!(matches!(error, CallError::Method(Shut)), "{error}");
                assert_eq!((number, reply.accepted, reply.is_silent()), (2, false, false));
            }
        }
    }
    let unmet = replies.require().expect_err("one of them refused");
    assert_eq!(unmet.to_string(), "4 accepted answers were needed of 4 members; 3 came");
}

#[tokio::test]
async fn the_first_answer_is_enough_and_the_others_go_on() {
    let bank = bank(&[Hold, Answer, Hold]).await;
    let replies = within("an answer", bank.desks.number().first()).await;
    assert!(replies.is_met());
    assert_eq!(replies.accepted().map(|(_, number)| *number).collect::<Vec<_>>(), [1]);
    assert_eq!(replies.len(), 3, "a silent member is an entry");
    for silent in replies.iter().filter(|reply| reply.is_silent()) {
        let error = silent.result.as_ref().expect_err("silent");
        assert!(matches!(error, CallError::Silent { execution: Execution::Unknown }), "{error}");
    }
    assert_eq!(replies.iter().filter(|reply| reply.is_silent()).count(), 2);
    for held in [0, 2] {
        bank.clerks[held].was_asked(1).await;
        assert_eq!(*bank.clerks[held].given_up.borrow(), 0, "it goes on");
    }
}

#[tokio::test]
async fn the_rest_is_cancelled_if_that_is_asked_for() {
    let bank = bank(&[Hold, Answer]).await;
    // Once, so that both have the call before one of them answers.
    bank.clerks[1].way.send_replace(Hold);
    let first = tokio::spawn(bank.desks.number().cancel_rest().first());
    bank.clerks[0].was_asked(1).await;
    bank.clerks[1].was_asked(1).await;
    bank.clerks[1].way.send_replace(Answer);
    assert!(within("an answer", first).await.expect("no panic").is_met());
    let mut given_up = bank.clerks[0].given_up.subscribe();
    let _ = within("the cancellation", given_up.wait_for(|count| *count == 1)).await;
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled_at_every_member() {
    let bank = bank(&[Hold, Hold]).await;
    let replies = bank.desks.number().all().start().await;
    for clerk in &bank.clerks {
        clerk.was_asked(1).await;
    }
    drop(replies);
    for clerk in &bank.clerks {
        let mut given_up = clerk.given_up.subscribe();
        let _ = within("the cancellation", given_up.wait_for(|count| *count == 1)).await;
    }
}

#[tokio::test]
async fn a_quorum_that_can_no_longer_be_met_ends_early_and_says_why() {
    let bank = bank(&[Refuse, Hold, Refuse, Hold, Refuse]).await;
    let replies = within("the end", bank.desks.number().majority()).await;
    let unmet = replies.require().expect_err("three of five refused");
    assert_eq!((unmet.needed, unmet.accepted, unmet.called, unmet.open), (3, 0, 5, 2));
    let text = unmet.to_string();
    assert_eq!(
        text,
        "3 accepted answers were needed of 5 members; 0 came, and 2 more could not have been enough"
    );
}

#[tokio::test]
async fn a_quorum_of_more_than_there_are_sends_nothing() {
    let bank = bank(&[Answer, Answer]).await;
    let replies = bank.desks.number().quorum(3).await;
    assert!(matches!(replies.outcome(), Some(Outcome::Unmet(_))));
    assert_eq!(replies.len(), 2);
    for reply in &replies {
        let error = reply.result.as_ref().expect_err("not called");
        assert_eq!(error.execution(), Execution::NotExecuted, "{error}");
    }
    assert!(bank.desks.number().all().await.is_met(), "and what was called once is called alone");
    assert!(bank.clerks.iter().all(|clerk| *clerk.asked.borrow() == 1));
}

#[tokio::test]
async fn a_member_that_is_silent_until_the_deadline_is_an_entry_that_says_so() {
    let bank = bank(&[Answer, Hold, Answer]).await;
    let until = Instant::now() + Duration::from_millis(1500);
    let replies = within("the deadline", bank.desks.number().until(until)).await;
    assert!(replies.is_met(), "it asked for what comes");
    let silent: Vec<_> = replies.iter().filter(|reply| reply.is_silent()).collect();
    assert_eq!(silent.len(), 1, "{replies:?}");
    assert_eq!(silent[0].member, bank.desks.members()[1]);
    let error = silent[0].result.as_ref().expect_err("silent");
    assert!(
        matches!(error, CallError::DeadlineExceeded { execution: Execution::Unknown, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn what_the_filter_refuses_does_not_count_and_who_is_excluded_is_not_called() {
    let bank = bank(&[Answer, Answer, Answer, Answer]).await;
    let members = bank.desks.members();
    let call = bank.desks.number().accept(|_, number| number % 2 == 1).exclude(&members[3]);
    let replies = call.all().await;
    assert_eq!(replies.len(), 3);
    assert!(replies.of(&members[3]).is_none());
    let accepted: Vec<_> =
        replies.accepted().map(|(member, number)| (member.clone(), *number)).collect();
    assert_eq!(accepted, [(members[1].clone(), 1)]);
    assert_eq!(*bank.clerks[3].asked.borrow(), 0);
    // Two are excluded, but three of four are a majority all the same.
    let call = bank.desks.number().exclude(&members[2]).exclude(&members[3]);
    assert_eq!(call.majority().await.require().expect_err("two are left").needed, 3);
}

#[tokio::test]
async fn two_ways_to_one_object_are_one_vote() {
    let bank = bank(&[Answer, Hold]).await;
    let also = bank.servers[0].node().listen("udp://127.0.0.1:0").await.expect("a free port");
    let twin = Group::add(&bank.desks, also.url("desk")).expect("a good address");
    let replies = bank.desks.number().quorum(2).start().await;
    bank.clerks[0].was_asked(2).await;
    let mut replies = replies;
    let (first, second) = (replies.next().await, replies.next().await);
    let accepted = [first, second].map(|reply| reply.expect("both answered").accepted);
    assert_eq!(accepted.iter().filter(|accepted| **accepted).count(), 1);
    assert!(replies.outcome().is_none());
    bank.clerks[1].way.send_replace(Answer);
    let replies = within("the other object", replies.finish()).await;
    assert!(replies.is_met());
    assert!(bank.desks.remove(&twin));
}

#[tokio::test]
async fn replies_are_a_stream_in_order_of_arrival() {
    let bank = bank(&[Hold, Hold, Hold]).await;
    let mut replies = bank.desks.number().all().start().await;
    assert!(replies.is_empty() && replies.outcome().is_none());
    for number in [2, 0, 1] {
        bank.clerks[number].was_asked(1).await;
        bank.clerks[number].way.send_replace(Answer);
        let reply = within("an answer", replies.next()).await.expect("not over");
        assert_eq!(reply.result.ok(), Some(number as u64));
    }
    assert!(within("the end", replies.next()).await.is_none());
    assert!(replies.is_met());
}

#[tokio::test]
async fn nobody_is_waited_for_if_nobody_is_asked_for() {
    let bank = bank(&[Hold, Hold]).await;
    let replies = within("the sending", bank.desks.number().none()).await;
    assert_eq!((replies.is_met(), replies.len()), (true, 2));
    for clerk in &bank.clerks {
        clerk.was_asked(1).await;
    }
    assert!(within("the bells", bank.desks.ring().all()).await.is_met());
    for clerk in &bank.clerks {
        clerk.was_asked(2).await;
    }
    assert!(bank.clerks.iter().all(|clerk| *clerk.given_up.borrow() == 0));
}

#[tokio::test]
async fn members_come_and_go() {
    let bank = bank(&[Answer, Answer]).await;
    let other = bank.desks.clone();
    let members = bank.desks.members();
    assert!(bank.desks.remove(&members[0]));
    assert!(!bank.desks.remove(&members[0]), "it is gone");
    assert_eq!(other.members(), members[1..], "a clone is the same group");
    let called = bank.desks.number();
    let again = Group::add(&other, members[0].url()).expect("a good address");
    assert_eq!(again, members[0]);
    assert_eq!(
        Group::add(&other, members[0].url()).expect("a good address"),
        again,
        "once is enough"
    );
    assert_eq!(called.all().await.len(), 1, "a call has the members of its moment");
    assert_eq!(bank.desks.number().all().await.len(), 2);
    // A method of the interface has the name, and the group's own is reached all the same.
    let added = bank.desks.clone();
    let sum = DeskGroup::add(&added, 7).all().await;
    assert_eq!(sum.accepted().map(|(_, sum)| *sum).min(), Some(7));
}

#[tokio::test]
async fn a_group_has_a_limit_and_needs_good_addresses() {
    let node = Node::builder().limits(Limits { members: 2, ..Limits::default() }).build();
    let urls = ["tcp://127.0.0.1:1/a", "tcp://127.0.0.1:1/b", "tcp://127.0.0.1:1/c"];
    let error = node.group::<DeskGroup>(urls).await.expect_err("one too many");
    assert!(matches!(error, CallError::Busy(_)), "{error}");
    let error = node.group::<DeskGroup>(["tcp://127.0.0.1:1"]).await.expect_err("no object");
    assert!(matches!(error, CallError::BadAddress(_)), "{error}");
    let group = node.group::<DeskGroup>(urls[..2].iter().copied()).await.expect("two are allowed");
    assert_eq!(group.members().len(), 2);
}

#[tokio::test]
async fn a_member_without_the_object_and_one_that_is_not_there_are_entries() {
    let bank = bank(&[Answer]).await;
    Group::add(&bank.desks, bank.servers[0].url("no desk")).expect("a good address");
    Group::add(&bank.desks, "tcp://127.0.0.1:9/desk").expect("a good address");
    let patience = Duration::from_millis(300);
    let replies = within("the end", bank.desks.number().timeout(patience).all()).await;
    let members = bank.desks.members();
    let error = |number: usize| {
        let reply = replies.of(&members[number]).expect("an entry");
        reply.result.as_ref().expect_err("no answer")
    };
    assert!(matches!(error(1), CallError::NoSuchObject(_)), "{}", error(1));
    assert_eq!(error(2).execution(), Execution::NotExecuted, "{}", error(2));
    assert_eq!(replies.accepted().count(), 1);
}

#[tokio::test]
async fn an_at_most_once_call_of_a_member_that_restarts_is_unknown_and_runs_once() {
    for transport in TRANSPORTS {
        let logs = [Log::new(), Log::new()];
        let stays = Server::start_over(transport, Limits::default(), &logs[0]).await;
        let restarts = Server::start_over(transport, Limits::default(), &logs[1]).await;
        let url = restarts.url();
        let node = Node::builder().limits(soon()).build();
        let group: WorkGroup =
            node.group([stays.url(), url.clone()]).await.expect("good addresses");
        let member = &group.members()[1];
        let replies = group.at_most_once(order(1).how(How::Hold)).all().start().await;
        for log in &logs {
            log.begun(1).await;
        }
        restarts.crash();
        let listen = url.trim_end_matches("/work").to_owned();
        let _restarted = Server::start_at(&listen, Limits::default(), &logs[1]).await;
        logs[0].open();
        let replies = within("both ends", replies.finish()).await;
        let error = replies.of(member).and_then(|reply| reply.result.as_ref().err());
        assert!(matches!(error, Some(CallError::ServerRestarted)), "{transport:?}: {error:?}");
        assert_eq!((replies.accepted().count(), logs[0].runs(1), logs[1].runs(1)), (1, 1, 1));
        // The same member, at its new run.
        let replies = within("both answers", group.at_most_once(order(2)).all()).await;
        assert!(replies.is_met(), "{transport:?}: {replies:?}");
    }
}

/// Limits under which a link comes back soon.
fn soon() -> Limits {
    let (two, ten) = (Duration::from_millis(2), Duration::from_millis(10));
    Limits {
        reconnect_min: two,
        reconnect_max: ten,
        ping_interval: Duration::from_millis(200),
        ..Limits::default()
    }
}

#[test]
fn a_thread_without_a_runtime_calls_a_group() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let bank = runtime.block_on(bank(&[Answer, Answer, Answer]));
    let replies = bank.desks.number().all().blocking();
    assert!(replies.is_met());
    let desks = bank.desks.clone();
    runtime.block_on(async {
        let refused = tokio::spawn(async move { desks.number().all().blocking() });
        let refused = refused.await.expect("no panic");
        assert_eq!(refused.len(), 3);
        for reply in &refused {
            let error = reply.result.as_ref().expect_err("refused");
            assert!(matches!(error, CallError::BlockingInAsync { .. }), "{error}");
        }
    });
    assert!(bank.clerks.iter().all(|clerk| *clerk.asked.borrow() == 1));
}

#[tokio::test]
async fn arguments_may_be_borrowed_and_are_the_same_for_all() {
    let log = Log::new();
    let servers = [
        Server::start_over(Transport::Tcp, Limits::default(), &log).await,
        Server::start_over(Transport::Udp, Limits::default(), &log).await,
    ];
    let group: WorkGroup = farcall::group(servers.iter().map(Server::url)).await.expect("good");
    let bytes = vec![7; 3000];
    let replies = group.echo(&bytes).all().await;
    assert!(replies.is_met());
    assert!(replies.accepted().all(|(_, echo)| *echo == bytes));
    let address = work_at(servers[0].address());
    eventually("nothing is in flight", || group.node().statistics().running == 0).await;
    assert_eq!(group.members()[0].to_string(), address);
    let _: &Arc<Log> = &log;
}
