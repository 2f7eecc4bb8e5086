//! Nodes: transports, runtimes that differ or end, good order at the end.

use std::time::Duration;

use farcall::{CallError, Execution, Limits, Node, Proxy as _, Semantics, ServeError, Unfinished};
use farcall_tests::service::{
    How, Log, Report, SEMANTICS, Server, TRANSPORTS, WorkProxy, Worker, client, eventually, order,
    start, within,
};
use tokio::runtime::{Builder, Runtime};

const GRACE: Duration = Duration::from_secs(10);

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads")
}

async fn served(log: &std::sync::Arc<Log>) -> (farcall::Listening, WorkProxy) {
    let server = farcall::serve("tcp://127.0.0.1:0", "work", Worker::new(log)).await;
    let server = server.expect("a port");
    let work = farcall::connect(server.url("work")).await.expect("bound");
    (server, work)
}

#[tokio::test]
async fn calls_inside_the_process_need_no_socket() {
    let log = Log::new();
    let server = farcall::serve("mem://bank", "work", Worker::new(&log)).await.expect("free");
    assert_eq!(server.url("work").to_string(), "mem://bank/work");
    let work: WorkProxy = farcall::connect("mem://bank/work").await.expect("bound");
    for semantics in SEMANTICS {
        let pending = start(&work, semantics, order(7)).await.expect("room");
        assert_eq!(pending.await.expect("answered").id, 7);
    }
    let bytes = vec![5; 1 << 20];
    assert_eq!(work.echo(&bytes).await.expect("answered"), bytes);
    let taken = Node::builder().build().listen("mem://bank").await;
    assert!(matches!(taken, Err(ServeError::Listen { .. })));
    let nobody = farcall::connect::<WorkProxy>("mem://nobody/work").await;
    assert!(matches!(nobody, Err(CallError::Unreachable { .. })));
}

#[tokio::test]
async fn a_name_in_the_process_is_free_when_its_node_has_shut_down() {
    let log = Log::new();
    let first = farcall::serve("mem://inn", "work", Worker::new(&log)).await.expect("free");
    first.shutdown(GRACE).await.expect("nothing runs");
    drop(first);
    for _ in 0..1000 {
        match farcall::serve("mem://inn", "work", Worker::new(&log)).await {
            Ok(_) => return,
            Err(_) => tokio::task::yield_now().await,
        }
    }
    panic!("the name stays taken");
}

#[test]
fn nodes_on_separate_runtimes_and_a_caller_on_a_third_work_together() {
    let (log, (one, two, three)) = (Log::new(), (runtime(), runtime(), runtime()));
    let worker = Worker::new(&log);
    let server = one.block_on(farcall::serve("tcp://127.0.0.1:0", "work", worker));
    let url = server.expect("a port");
    let work: WorkProxy = two.block_on(farcall::connect(url.url("work"))).expect("bound");
    let answer = three.block_on(work.at_most_once(order(1)).timeout(GRACE));
    assert_eq!(answer.expect("answered").id, 1);
    assert_eq!(work.at_most_once(order(2)).blocking().expect("answered").id, 2);
    let second: WorkProxy =
        three.block_on(work.node().lookup(url.url("work"))).expect("the node's runtime goes on");
    assert_eq!(three.block_on(second.at_most_once(order(3))).expect("answered").id, 3);
}

#[test]
fn a_runtime_that_ends_leaves_nobody_waiting() {
    let (log, server, client) = (Log::new(), runtime(), runtime());
    let worker = Worker::new(&log);
    let serving = server.block_on(farcall::serve("tcp://127.0.0.1:0", "work", worker));
    let url = serving.as_ref().expect("a port").url("work");
    let limits = farcall::Limits { window: 2, ..farcall::Limits::default() };
    let node = Node::builder().limits(limits).build();
    let work: WorkProxy = client.block_on(node.lookup(url)).expect("bound");
    let hold = |id| work.at_most_once(order(id).how(How::Hold)).timeout(Duration::MAX);
    let mut pending: Vec<_> = (1..=2).map(|id| hold(id).try_start().expect("room")).collect();
    server.block_on(async {
        log.begun(1).await;
        log.begun(2).await
    });
    let waiters: Vec<_> = vec![
        std::thread::spawn({
            let pending = pending.remove(0);
            move || pending.wait().map(drop)
        }),
        // No room: it waits for the first two.
        std::thread::spawn({
            let queued = hold(3);
            move || queued.blocking().map(drop)
        }),
    ];
    client.shutdown_background();
    for waiter in waiters {
        let outcome = waiter.join().expect("no panic");
        assert!(matches!(outcome, Err(CallError::Closed { .. })), "{outcome:?}");
    }
    let last = pending.remove(0).wait();
    let unknown = matches!(last, Err(CallError::Closed { execution: Execution::Unknown }));
    assert!(unknown, "{last:?}");
    let after = work.at_most_once(order(4)).blocking();
    let refused = matches!(after, Err(CallError::Closed { execution: Execution::NotExecuted }));
    assert!(refused, "{after:?}");
    assert_eq!((log.runs(3), log.runs(4)), (0, 0));
}

#[test]
fn a_server_whose_runtime_ends_is_a_server_that_crashed() {
    let caller = runtime();
    caller.block_on(async {
        let log = Log::new();
        let server = Server::start(farcall::Limits::default(), &log).await;
        let work = client(server.url(), farcall::Limits::default()).await.expect("bound");
        let soon = work.with_timeout(Duration::from_millis(200));
        let hold = order(1).how(How::Hold);
        let pending = start(&soon, Semantics::AtMostOnce, hold).await.expect("room");
        log.begun(1).await;
        server.crash();
        let outcome = within("an answer", pending).await;
        assert_eq!(Report::of(&outcome), Report::Unknown, "{outcome:?}");
    });
}

#[tokio::test]
async fn a_shutdown_lets_what_runs_end_and_refuses_what_comes() {
    let log = Log::new();
    let (server, work) = served(&log).await;
    let hold = order(1).how(How::Hold);
    let running = work.at_most_once(hold).start().await.expect("room");
    log.begun(1).await;
    let node = server.node().clone();
    let ending = tokio::spawn(async move { node.shutdown(GRACE).await });
    // It is refused as soon as the shutdown has begun; until then it is answered.
    let mut id = 1;
    let refused = within("the refusal", async {
        loop {
            id += 1;
            let outcome = work.at_most_once(order(id)).await;
            if let Err(error) = outcome {
                break error;
            }
        }
    })
    .await;
    assert!(matches!(refused, CallError::ShuttingDown(_)), "{refused:?}");
    assert_eq!(refused.execution(), Execution::NotExecuted);
    assert_eq!(log.runs(id), 0);
    log.open();
    assert_eq!(running.await.expect("what runs is answered").id, 1);
    ending.await.expect("no panic").expect("all is done");
    let port = server.addr().to_string();
    let late = farcall::connect::<WorkProxy>(format!("{port}/work")).await;
    assert!(matches!(late, Err(CallError::Unreachable { .. })), "{late:?}");
}

#[tokio::test]
async fn a_shutdown_whose_grace_is_over_says_what_is_unfinished() {
    let log = Log::new();
    let (server, work) = served(&log).await;
    let short = Duration::from_millis(50);
    let hold = order(1).how(How::Hold);
    let running = work.at_most_once(hold).start().await.expect("room");
    log.begun(1).await;
    let left = work.node().shutdown(short).await;
    assert!(matches!(left, Err(Unfinished { calls: 1, .. })), "{left:?}");
    let outcome = running.await;
    let unknown = matches!(outcome, Err(CallError::Closed { execution: Execution::Unknown }));
    assert!(unknown, "{outcome:?}");
    let left = server.shutdown(short).await;
    assert!(matches!(left, Err(Unfinished { handlers: 1, .. })), "{left:?}");
}

#[tokio::test]
async fn detached_and_oneway_calls_leave_before_the_end() {
    let log = Log::new();
    let (server, work) = served(&log).await;
    for id in 1..=200 {
        work.at_most_once(order(id)).start().await.expect("room").detach();
        work.note(1000 + id).await.expect("it left");
    }
    work.node().shutdown(GRACE).await.expect("all has left");
    // A oneway call has left when it is written; the server reads it in its own time.
    eventually("all calls", || log.calls() == 400).await;
    server.shutdown(GRACE).await.expect("nothing runs");
}

/// Found by a race in another test: a server did not wait for methods whose clients had closed their sessions.
#[tokio::test]
async fn a_server_waits_for_methods_whose_callers_have_left() {
    let log = Log::new();
    let (server, work) = served(&log).await;
    let hold = order(1).how(How::Hold);
    work.at_most_once(hold).start().await.expect("room").detach();
    log.begun(1).await;
    let _ = work.node().shutdown(Duration::ZERO).await;
    let kept = || server.node().statistics().kept_sessions;
    eventually("the end of the session", || kept() == 0).await;
    let left = server.node().clone().shutdown(Duration::from_millis(20)).await;
    assert!(matches!(left, Err(Unfinished { handlers: 1, .. })), "{left:?}");
    log.open();
    log.ended(1).await;
    server.shutdown(GRACE).await.expect("all is done");
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_connection() {
    let log = Log::new();
    let (server, work) = served(&log).await;
    work.at_most_once(order(1)).await.expect("answered");
    assert_eq!(server.node().statistics().kept_sessions, 1);
    drop(work);
    // The client says that it is done, and the server forgets it.
    let kept = || server.node().statistics().kept_sessions;
    eventually("the end of the session", || kept() == 0).await;
}

#[tokio::test]
async fn links_that_no_proxy_leads_to_are_closed_when_there_are_many() {
    const SERVERS: u64 = 200;
    for transport in TRANSPORTS {
        let (log, server) = (Log::new(), Node::builder().build());
        server.registry().bind("work", Worker::new(&log)).expect("free");
        let client = Node::builder().build();
        let (mut places, mut kept) = (Vec::new(), Vec::new());
        for id in 1..=SERVERS {
            let place = server.listen(transport.anywhere()).await.expect("a port");
            let work: WorkProxy = client.lookup(place.url("work")).await.expect("bound");
            match id {
                1 => {
                    // A call that nobody waits for keeps its link as a proxy does.
                    let held = work.at_most_once(order(id).how(How::Hold)).start().await;
                    held.expect("room").detach();
                }
                _ => drop(within("it", work.at_most_once(order(id))).await.expect("answered")),
            }
            places.push(place);
            kept.extend((id % 40 == 0).then_some(work));
        }
        let links = client.statistics().links;
        // Of some the acknowledgements were on their way when it was looked.
        assert!((kept.len() + 1..=150).contains(&links), "{transport:?}: {links}");
        eventually("the others end", || server.statistics().kept_sessions == links).await;
        for (work, id) in kept.iter().zip(SERVERS + 1..) {
            within("it", work.at_most_once(order(id))).await.expect("answered");
        }
        log.open();
        log.ended(1).await;
        let all = client.statistics();
        assert_eq!((all.connections, all.calls), (SERVERS, SERVERS + kept.len() as u64));
    }
}

/// Limits that bound nothing, as large as they can be written; a reserve is none of them.
fn endless() -> Limits {
    let (most, never) = (usize::MAX, Duration::MAX);
    Limits {
        message: most,
        window: most,
        request_bytes: most,
        reply_bytes: most,
        process_bytes: most,
        running_calls: most,
        send_buffer: most,
        control_backlog: most,
        ack_batch: most,
        datagram_message: most,
        session_ttl: never,
        default_timeout: Some(never),
        handshake_timeout: never,
        ping_interval: never,
        progress_timeout: never,
        reconnect_min: never,
        reconnect_max: never,
        resolve_wait: never,
        ack_delay: never,
        ack_solicit: never,
        ..Limits::default()
    }
}

#[tokio::test]
async fn limits_without_an_end_are_no_danger() {
    for scheme in ["tcp://127.0.0.1:0", "udp://127.0.0.1:0", "mem://endless"] {
        let log = Log::new();
        let server = Node::builder().limits(endless()).build();
        server.registry().bind("work", Worker::new(&log)).expect("a free name");
        let listening = server.listen(scheme).await.expect("a free place");
        let client = Node::builder().limits(endless()).build();
        let work: WorkProxy = client.lookup(listening.url("work")).await.expect("bound");
        for semantics in SEMANTICS {
            let pending = start(&work, semantics, order(7)).await.expect("room");
            assert_eq!(within("the answer", pending).await.expect("answered").id, 7);
        }
        let bytes = vec![5; 200 << 10];
        assert_eq!(within("the echo", work.echo(&bytes)).await.expect("answered"), bytes);
        client.shutdown(GRACE).await.expect("nothing runs");
        server.shutdown(GRACE).await.expect("nothing runs");
    }
}
