//! Calls over UDP on loopback: the same as over TCP.

use std::sync::Arc;
use std::time::Duration;

use farcall::{CallError, Execution, Limits, Listening, Node, Proxy as _, Semantics};
use farcall_tests::service::{
    How, Log, SEMANTICS, Server, WorkProxy, Worker, client, eventually, order, start, within,
};
use tokio::runtime::Builder;

const GRACE: Duration = Duration::from_secs(10);

async fn served(log: &Arc<Log>) -> (Listening, WorkProxy) {
    let server = farcall::serve("udp://127.0.0.1:0", "work", Worker::new(log)).await;
    let server = server.expect("a port");
    let work = within("a link", farcall::connect(server.url("work"))).await.expect("bound");
    (server, work)
}

#[tokio::test]
async fn every_semantics_is_answered() {
    let log = Log::new();
    let (server, work) = served(&log).await;
    assert!(server.url("work").to_string().starts_with("udp://127.0.0.1:"));
    for (id, semantics) in (1..).zip(SEMANTICS) {
        let pending = start(&work, semantics, order(id)).await.expect("room");
        assert_eq!(within("an answer", pending).await.expect("answered").id, id);
        assert_eq!(log.runs(id), 1);
    }
    work.note(9).await.expect("sent");
    eventually("the note", || log.runs(9) == 1).await;
    let nobody: Result<WorkProxy, _> = farcall::connect(server.url("nobody")).await;
    assert!(matches!(nobody, Err(CallError::NoSuchObject { .. })));
}

#[test]
fn a_program_without_a_runtime_calls_as_over_tcp() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("threads");
    let log = Log::new();
    let (_server, work) = runtime.block_on(served(&log));
    for id in 1..=20 {
        assert_eq!(work.at_most_once(order(id)).blocking().expect("answered").id, id);
    }
    assert_eq!(log.calls(), 20);
}

#[tokio::test]
async fn large_messages_travel_in_pieces() {
    let log = Log::new();
    let (_server, work) = served(&log).await;
    for size in [0, 1, 1100, 1200, 5000, 64 << 10, (1 << 20) - 64] {
        let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let echo = within("an echo", work.echo(&bytes)).await;
        assert!(echo.expect("answered") == bytes, "{size} bytes came back changed");
    }
    let answer = work.at_most_once(order(1).how(How::Large(500_000)));
    assert_eq!(within("an answer", answer).await.expect("answered").padding.len(), 500_000);
}

#[tokio::test]
async fn datagrams_are_as_large_as_both_sides_allow() {
    let bytes = vec![5; 1_000_000];
    let mut sent = Vec::new();
    for (here, there) in [(60_000, 60_000), (60_000, 9_000), (1_200, 60_000)] {
        let log = Log::new();
        let node = |datagram| Node::builder().limits(Limits { datagram, ..Limits::default() });
        let server = node(there).build();
        server.registry().bind("work", Worker::new(&log)).expect("a free name");
        let listening = server.listen("udp://127.0.0.1:0").await.expect("a port");
        let client = node(here).build();
        let work: WorkProxy = client.lookup(listening.url("work")).await.expect("bound");
        let echo = within("an echo", work.echo(&bytes)).await;
        assert!(echo.expect("answered") == bytes);
        sent.push(client.statistics().datagrams_sent);
    }
    // The request alone takes as many, each acknowledged now and then.
    let least = [1_000_000 / 60_000, 1_000_000 / 9_000, 1_000_000 / 1_200];
    for (sent, least) in sent.iter().zip(least) {
        assert!((least..4 * least + 20).contains(sent), "{sent} datagrams, at least {least}");
    }
}

#[tokio::test]
async fn a_message_over_the_limit_does_not_run_and_is_sent_to_tcp() {
    let log = Log::new();
    let (server, work) = served(&log).await;
    let error = work.echo(&vec![7; 2 << 20]).await.expect_err("over the limit");
    assert_eq!(error.execution(), Execution::NotExecuted);
    assert!(error.to_string().contains("tcp://"), "{error}");
    drop(server);
}

#[tokio::test]
async fn calls_in_flight_share_datagrams() {
    let log = Log::new();
    let (server, work) = served(&log).await;
    let calls = (1..=200).map(|id| {
        let work = work.clone();
        tokio::spawn(async move { work.at_most_once(order(id).how(How::Yield)).await })
    });
    for call in calls.collect::<Vec<_>>() {
        within("an answer", call).await.expect("no panic").expect("answered");
    }
    assert_eq!(log.calls(), 200);
    let statistics = work.node().statistics();
    assert!(statistics.datagrams_sent < 200, "{statistics:?}");
    assert_eq!(server.node().statistics().datagrams_rejected, 0);
}

#[tokio::test]
async fn two_clients_have_their_own_sessions() {
    let log = Log::new();
    let (server, one) = served(&log).await;
    let two: WorkProxy = farcall::connect(server.url("work")).await.expect("bound");
    for id in 1..=20 {
        let work = if id % 2 == 0 { &one } else { &two };
        assert_eq!(work.at_most_once(order(id)).await.expect("answered").id, id);
    }
    assert_eq!(server.node().statistics().kept_sessions, 2);
}

#[tokio::test]
async fn a_server_that_comes_back_at_its_port_is_found_again() {
    let log = Log::new();
    let (server, work) = served(&log).await;
    work.at_most_once(order(1)).await.expect("answered");
    let url = server.url("work").to_string();
    let address = server.addr().to_string();
    server.shutdown(GRACE).await.expect("nothing runs");
    drop(server);
    let pending = start(&work, Semantics::AtLeastOnce, order(2)).await.expect("room");
    let server = farcall::serve(&address, "work", Worker::new(&log)).await.expect("the port");
    assert_eq!(within("an answer", pending).await.expect("answered").id, 2);
    work.at_most_once(order(3)).await.expect("answered");
    assert_eq!(server.url("work").to_string(), url);
}

#[tokio::test]
async fn a_server_that_crashed_and_came_back_tells_what_may_have_run() {
    let log = Log::new();
    let mut server = Server::start_at("udp://127.0.0.1:0", Limits::default(), &log).await;
    let url = server.url();
    let work = client(&url, Limits::default()).await.expect("bound");
    for id in [10, 20, 30] {
        let hold = start(&work, Semantics::AtMostOnce, order(id).how(How::Hold)).await;
        log.begun(id).await;
        server.crash();
        server = Server::start_at(&url, Limits::default(), &log).await;
        let outcome = within("an answer", hold.expect("room")).await;
        assert!(matches!(outcome, Err(CallError::ServerRestarted)), "{outcome:?}");
        let again = within("an answer", work.at_most_once(order(id + 1))).await;
        assert_eq!(again.expect("answered").id, id + 1);
        assert_eq!((log.runs(id), log.runs(id + 1)), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_and_small_messages_pass_side_by_side() {
    let log = Log::new();
    let (server, work) = served(&log).await;
    let large = (0..8_u8).map(|task| {
        let work = work.clone();
        tokio::spawn(async move {
            for round in 0..10 {
                let bytes = vec![task ^ round; 100_000 + usize::from(round) * 7919];
                assert!(work.echo(&bytes).await.expect("answered") == bytes);
            }
        })
    });
    let large: Vec<_> = large.collect();
    for id in 1..=500 {
        let answer = within("an answer", work.at_most_once(order(id).how(How::Yield))).await;
        assert_eq!(answer.expect("answered").id, id);
    }
    for task in large {
        within("all echoes", task).await.expect("no panic");
    }
    assert_eq!(log.calls(), 500);
    eventually("all memory is free again", || server.node().statistics().kept_bytes == 0).await;
}

#[tokio::test]
async fn nobody_at_the_address_is_told_at_once() {
    let log = Log::new();
    let (server, work) = served(&log).await;
    let url = server.url("work");
    server.shutdown(GRACE).await.expect("nothing runs");
    let refused: Result<WorkProxy, _> = within("an error", farcall::connect(url)).await;
    assert!(matches!(refused, Err(CallError::Unreachable { .. })), "{refused:?}");
    drop(work);
}

#[tokio::test]
async fn a_shutdown_loses_no_detached_call() {
    let log = Log::new();
    let (_server, work) = served(&log).await;
    for id in 1..=100 {
        work.at_most_once(order(id)).start().await.expect("room").detach();
        work.note(100 + id).await.expect("sent");
    }
    work.node().shutdown(GRACE).await.expect("all was answered");
    assert_eq!((1..=100).filter(|&id| log.runs(id) == 1).count(), 100);
    eventually("the notes", || log.calls() == 200).await;
}

#[tokio::test]
async fn a_server_that_shuts_down_answers_what_runs() {
    let log = Log::new();
    let (server, work) = served(&log).await;
    let pending = start(&work, Semantics::AtMostOnce, order(1).how(How::Hold)).await;
    let pending = pending.expect("room");
    log.begun(1).await;
    let end = tokio::spawn(async move { server.shutdown(GRACE).await });
    let refused = async {
        loop {
            match work.at_most_once(order(2)).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => return error,
            }
        }
    };
    let refused = within("a refusal", refused).await;
    assert_eq!(refused.execution(), Execution::NotExecuted);
    log.open();
    assert_eq!(within("an answer", pending).await.expect("answered").id, 1);
    within("the end", end).await.expect("no panic").expect("all was answered");
}

#[tokio::test]
async fn a_name_with_several_addresses_is_tried_at_each() {
    let log = Log::new();
    let server = farcall::serve("udp://127.0.0.1:0", "work", Worker::new(&log)).await;
    let url = server.as_ref().expect("a port").url("work").to_string();
    let url = url.replace("127.0.0.1", "localhost");
    let work: WorkProxy = within("a link", farcall::connect(url)).await.expect("bound");
    work.at_most_once(order(1)).await.expect("answered");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_at_every_address_answers_from_the_one_that_was_asked() {
    let log = Log::new();
    let server = farcall::serve("udp://0.0.0.0:0", "work", Worker::new(&log)).await;
    let url = server.as_ref().expect("a port").url("work").to_string();
    // Left to itself the kernel would answer from 127.0.0.1, and the client would not hear it.
    let url = url.replace("0.0.0.0", "127.0.0.2");
    let work: WorkProxy = within("a link", farcall::connect(url)).await.expect("bound");
    within("an answer", work.at_most_once(order(1))).await.expect("answered");
    let bytes = vec![7; 100_000];
    assert!(within("an echo", work.echo(&bytes)).await.expect("answered") == bytes);
}

#[tokio::test]
async fn both_kinds_of_links_end_at_one_node() {
    let log = Log::new();
    let node = Node::builder().limits(Limits::default()).build();
    node.registry().bind("work", Worker::new(&log)).expect("free");
    let udp = node.listen("udp://[::1]:0").await.expect("a port");
    let tcp = node.listen("tcp://127.0.0.1:0").await.expect("a port");
    let over_udp: WorkProxy = farcall::connect(udp.url("work")).await.expect("bound");
    let over_tcp: WorkProxy = farcall::connect(tcp.url("work")).await.expect("bound");
    over_udp.at_most_once(order(1)).await.expect("answered");
    over_tcp.at_most_once(order(2)).await.expect("answered");
    assert_eq!(node.statistics().kept_sessions, 2);
}
