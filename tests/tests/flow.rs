//! Large messages, full buffers and small limits: senders wait, nothing is lost, small calls pass.

use std::sync::Arc;
use std::time::Duration;

use farcall::{CallError, Execution, Limits, Proxy as _};
use farcall_tests::fault_proxy::FaultProxy;
use farcall_tests::service::{
    How, Log, Order, SEMANTICS, Server, WorkProxy, call, client, order, within, work_at,
};
use tokio::task::JoinSet;

async fn scene(server: Limits, limits: Limits) -> (Server, WorkProxy, Arc<Log>) {
    let log = Log::new();
    let server = Server::start(server, &log).await;
    let work = client(server.url(), limits).await.expect("bound");
    (server, work, log)
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index / 7) as u8).collect()
}

#[tokio::test]
async fn large_messages_come_back_whole() {
    let (_server, work, _) = scene(Limits::default(), Limits::default()).await;
    for length in [0, 1, 65_535, 65_536, 65_537, 1 << 20, 15 << 20] {
        let sent = bytes(length);
        let received = within("the echo", work.echo(&sent)).await.expect("answered");
        assert!(received == sent, "{length} bytes");
    }
}

#[tokio::test]
async fn many_large_messages_at_once_come_back_whole() {
    let (_server, work, _) = scene(Limits::default(), Limits::default()).await;
    let mut calls = JoinSet::new();
    for number in 0..16_usize {
        let work = work.clone();
        calls.spawn(async move {
            let sent = bytes((1 << 20) + number);
            let received = work.echo(&sent).await.expect("answered");
            assert!(received == sent);
        });
    }
    while let Some(done) = within("the echoes", calls.join_next()).await {
        done.expect("no panic");
    }
}

/// Found by this test: small calls and small replies waited until less than a send buffer was left of the large ones.
#[tokio::test]
async fn small_calls_pass_between_the_parts_of_large_ones() {
    let (_server, work, _) = scene(Limits::default(), Limits::default()).await;
    let sent = bytes(15 << 20);
    let mut large = JoinSet::new();
    for _ in 0..3 {
        let pending = work.echo(&sent).start().await.expect("room");
        large.spawn(async move { pending.await.expect("answered").len() });
    }
    let mut small = 0;
    while !large.is_empty() {
        tokio::select! {
            biased;
            Some(length) = large.join_next() => assert_eq!(length.expect("no panic"), 15 << 20),
            answer = work.at_most_once(order(small)) => {
                answer.expect("answered");
                small += 1;
            }
        }
    }
    // Each waits for the megabytes that the kernel holds already, which is most of its time.
    assert!(small >= 3, "{small} small calls while the large ones were on their way");
}

#[tokio::test]
async fn what_is_over_the_limit_of_either_side_is_refused_here() {
    let small = Limits { message: 70_000, ..Limits::default() };
    for (server, own) in [(small.clone(), Limits::default()), (Limits::default(), small)] {
        let (_server, work, log) = scene(server, own).await;
        let outcome = work.echo(&bytes(70_001)).await;
        let Err(error @ CallError::TooLarge { limit: 70_000, .. }) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(error.execution(), Execution::NotExecuted);
        let fits = bytes(69_000);
        assert!(work.echo(&fits).await.expect("answered") == fits);
        assert_eq!(work.node().statistics().connections, 1);
        assert_eq!(log.calls(), 0);
    }
}

#[tokio::test]
async fn a_full_window_makes_senders_wait_in_turn_and_loses_nothing() {
    let narrow = Limits { window: 4, ..Limits::default() };
    for (server, own) in [(narrow.clone(), Limits::default()), (Limits::default(), narrow)] {
        let (_server, work, log) = scene(server, own).await;
        for semantics in SEMANTICS {
            let mut calls = JoinSet::new();
            for id in 0..500 {
                let work = work.clone();
                let how = if id % 3 == 0 { How::Yield } else { How::Answer };
                let id = id + 1000 * semantics as u64;
                calls.spawn(async move { call(&work, semantics, order(id).how(how)).await });
            }
            let mut answered = 0;
            while let Some(done) = within("the answers", calls.join_next()).await {
                done.expect("no panic").expect("answered");
                answered += 1;
            }
            assert_eq!(answered, 500);
        }
        assert_eq!(log.calls(), 1500);
    }
}

#[tokio::test]
async fn a_full_buffer_refuses_those_who_do_not_wait() {
    let limits = Limits { send_buffer: 10_000, ..Limits::default() };
    let log = Log::new();
    let server = Server::start(Limits::default(), &log).await;
    let proxy = FaultProxy::start(server.address()).expect("a port");
    let work = client(work_at(proxy.address()), limits).await.expect("bound");
    proxy.stall();
    let padded = |id| Order { padding: vec![0; 5000], ..order(id) };
    // The kernel's buffers take some megabytes before ours fills up.
    let (mut pending, mut id) = (Vec::new(), 0);
    let refused = within("the refusal", async {
        loop {
            match work.at_most_once(padded(id)).try_start() {
                Ok(one) => pending.push(one),
                Err(error) => break error,
            }
            id += 1;
            // The connection's task writes in between.
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(matches!(refused, CallError::BufferFull), "{refused:?}");
    assert_eq!(refused.execution(), Execution::NotExecuted);
    let waiting = work.at_most_once(padded(id + 1)).start();
    let mut waiting = std::pin::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(20), &mut waiting).await;
    assert!(early.is_err(), "it waits for room");
    proxy.resume();
    let waited = within("room", waiting).await.expect("it is sent");
    for one in pending {
        within("the answer", one).await.expect("answered");
    }
    within("the answer", waited).await.expect("answered");
    assert_eq!(log.runs(id), 0, "the refused one");
    assert_eq!(log.calls() as u64, id + 1);
}

/// Found by reading: the client kept its own budget only, and a server with a smaller one closed the connection of an
/// honest client, again and again.
#[tokio::test]
async fn a_servers_smaller_request_budget_makes_senders_wait() {
    let tight = Limits { message: 1 << 20, request_bytes: 1 << 20, ..Limits::default() };
    let (_server, work, _) = scene(tight, Limits::default()).await;
    let mut calls = JoinSet::new();
    for _ in 0..12 {
        let work = work.clone();
        calls.spawn(async move {
            let sent = bytes(900_000);
            assert!(work.echo(&sent).await.expect("answered") == sent);
        });
    }
    while let Some(done) = within("the echoes", calls.join_next()).await {
        done.expect("no panic");
    }
    assert_eq!(work.node().statistics().connections, 1, "it was never cut");
}

/// Found by reading: a caller whose request did not fit the budget was told at once that there was room, and asked
/// again, and kept a core busy.
#[tokio::test]
async fn a_caller_without_budget_sleeps_until_there_is_some() {
    let tight = Limits { request_bytes: 1 << 20, ..Limits::default() };
    let (_server, work, log) = scene(Limits::default(), tight).await;
    let padded = |id| Order { padding: vec![0; 600_000], ..order(id).how(How::Hold) };
    let first = work.at_most_once(padded(1)).start().await.expect("room");
    log.begun(1).await;
    let mut polls = 0;
    let mut second = std::pin::pin!(work.at_most_once(padded(2)).start());
    let counted = std::future::poll_fn(|cx| {
        polls += 1;
        second.as_mut().poll(cx)
    });
    let early = tokio::time::timeout(Duration::from_millis(50), counted).await;
    assert!(early.is_err(), "it waits for room");
    assert!(polls < 10, "it was polled {polls} times");
    log.open();
    within("the answer", first).await.expect("answered");
    let second = within("room", second).await.expect("it is sent");
    within("the answer", second).await.expect("answered");
}

/// Found by reading: the pieces of all waiting replies were mixed, more of them than the client would put together, and
/// it cut the connection, again and again.
#[tokio::test]
async fn many_large_replies_at_once_fit_a_client_with_little_room() {
    let tight = Limits { message: 1 << 20, reply_bytes: 1 << 20, ..Limits::default() };
    let (_server, work, _) = scene(Limits::default(), tight).await;
    for semantics in SEMANTICS {
        let mut calls = JoinSet::new();
        for id in 0..8 {
            let work = work.clone();
            let large = order(id).how(How::Large(1_000_000));
            calls.spawn(async move { call(&work, semantics, large).await });
        }
        while let Some(done) = within("the answers", calls.join_next()).await {
            done.expect("no panic").expect("answered");
        }
    }
    assert_eq!(work.node().statistics().connections, 1, "it was never cut");
}

#[tokio::test]
async fn replies_over_the_reply_budget_hold_new_calls_up_and_lose_none() {
    let tight = Limits { reply_bytes: 1 << 20, reply_reserve: 64 << 10, ..Limits::default() };
    let (_server, work, log) = scene(tight, Limits::default()).await;
    let mut calls = JoinSet::new();
    for id in 0..64 {
        let work = work.clone();
        let large = order(id).how(How::Large(60_000));
        calls.spawn(async move { (id, work.at_most_once(large).await) });
    }
    let mut answered = 0;
    while let Some(done) = within("the answers", calls.join_next()).await {
        let (id, outcome) = done.expect("no panic");
        match outcome {
            Ok(_) => answered += 1,
            // Definite, and so safe to repeat.
            Err(CallError::Busy(refusal)) => {
                assert_eq!(refusal.execution, Execution::NotExecuted);
                assert_eq!(log.runs(id), 0);
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(answered >= 8, "{answered}");
}

#[tokio::test]
async fn a_node_with_no_room_at_all_answers_in_its_own_time() {
    let tiny = Limits { window: 1, send_buffer: 1, ..Limits::default() };
    let (_server, work, _) = scene(tiny.clone(), tiny).await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let work = work.clone();
        calls.spawn(async move {
            let sent = bytes(200_000);
            assert!(work.echo(&sent).await.expect("answered") == sent);
        });
    }
    while let Some(done) = within("the echoes", calls.join_next()).await {
        done.expect("no panic");
    }
}
