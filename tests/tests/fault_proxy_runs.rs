//! The promises of each semantics under load, while the network cuts, loses, repeats, stalls and half-opens, and while
//! servers crash: real sockets, through the fault proxy.
//!
//! The server counts every execution by the call's id; after each run all reports are held against these counts, and
//! every run asserts how much of it must have succeeded and how many faults it must have seen.

use std::sync::Arc;
use std::time::Duration;

use farcall::{CallError, Limits, Proxy as _, Semantics};
use farcall_tests::fault_proxy::{Counts, Direction, Fault, FaultProxy, Faults, FrameKind};
use farcall_tests::service::{
    Answer, How, Log, Order, SEMANTICS, Server, Summary, WorkProxy, call, client, order, start,
    within, work_at,
};
use tokio::task::JoinSet;

/// Limits under which a link comes back soon.
fn quick() -> Limits {
    let (two, ten) = (Duration::from_millis(2), Duration::from_millis(10));
    Limits { reconnect_min: two, reconnect_max: ten, ..Limits::default() }
}

struct Scene {
    server: Server,
    proxy: Arc<FaultProxy>,
    work: WorkProxy,
    log: Arc<Log>,
}

async fn scene(limits: Limits) -> Scene {
    let log = Log::new();
    let server = Server::start(quick(), &log).await;
    let proxy = Arc::new(FaultProxy::start(server.address()).expect("a port"));
    let work = client(work_at(proxy.address()), limits).await.expect("bound");
    Scene { server, proxy, work: work.with_timeout(Duration::from_secs(20)), log }
}

type Outcomes = Vec<(u64, Result<Answer, CallError>)>;

/// Makes so many calls, some at a time: some short, some that need a task, some long.
async fn load(work: &WorkProxy, semantics: Semantics, calls: u64) -> Outcomes {
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let work = work.clone();
        callers.spawn(async move {
            let mut outcomes = Vec::new();
            for id in (caller..calls).step_by(CALLERS as usize) {
                let mut order = order(id);
                if id % 3 == 0 {
                    order.how = How::Yield;
                }
                if id % 50 == 7 {
                    order.padding = vec![1; 100_000];
                }
                outcomes.push((id, call(&work, semantics, order).await));
            }
            outcomes
        });
    }
    callers.join_all().await.concat()
}

const CALLERS: u64 = 16;

fn all_faults(seed: u64) -> Faults {
    Faults {
        seed,
        cut_one_in: 60,
        lose_one_in: 120,
        loss_lasts: Duration::from_millis(5),
        repeat_one_in: 6,
        delay_one_in: 20,
        delay_at_most: Duration::from_millis(2),
    }
}

fn saw_them_all(counts: Counts) {
    let seen = [
        counts.cuts,
        counts.cuts_in_frame,
        counts.lost_frames,
        counts.repeated,
        counts.replayed,
        counts.delayed,
    ];
    assert!(seen.iter().all(|&seen| seen >= 3), "{counts:?}");
}

#[tokio::test]
async fn a_link_that_loses_repeats_and_cuts_breaks_no_promise() {
    for semantics in SEMANTICS {
        let scene = scene(quick()).await;
        scene.proxy.set_faults(all_faults(11));
        let outcomes = load(&scene.work, semantics, 1000).await;
        saw_them_all(scene.proxy.counts());
        scene.proxy.set_faults(Faults::default());
        // What still waits somewhere comes to its end: every report must stay true.
        let last = call(&scene.work, Semantics::AtMostOnce, order(5000)).await;
        last.expect("the link is well again");
        let summary = Summary::of(semantics, &outcomes, &scene.log);
        match semantics {
            Semantics::Maybe => assert!(summary.ok >= 300, "{summary:?}"),
            // The network alone, without a crash, is never seen.
            _ => assert_eq!(summary.ok, 1000, "{summary:?}"),
        }
        if semantics == Semantics::AtLeastOnce {
            assert!(summary.repeated >= 3, "some must have run again: {summary:?}");
        }
    }
}

#[tokio::test]
async fn servers_that_crash_under_such_a_load_break_no_promise() {
    for semantics in SEMANTICS {
        let Scene { server, proxy, work, log } = scene(quick()).await;
        proxy.set_faults(Faults { cut_one_in: 300, ..all_faults(12) });
        let crashes = tokio::spawn({
            let (proxy, log) = (proxy.clone(), log.clone());
            async move {
                let mut server = server;
                for crash in 1..=8 {
                    let more = crash * 100;
                    within("more calls", proxy.until(|counts| counts.frames_from_client > more))
                        .await;
                    let next = Server::start(quick(), &log).await;
                    proxy.set_upstream(next.address());
                    std::mem::replace(&mut server, next).crash();
                }
                server
            }
        });
        let outcomes = load(&work, semantics, 1500).await;
        let _server = within("the crashes", crashes).await.expect("no panic");
        proxy.set_faults(Faults::default());
        call(&work, Semantics::AtMostOnce, order(5000)).await.expect("all is well again");
        let summary = Summary::of(semantics, &outcomes, &log);
        assert_eq!(summary.calls, 1500);
        match semantics {
            Semantics::AtLeastOnce => assert_eq!(summary.ok, 1500, "{summary:?}"),
            _ => assert!(summary.ok >= 500, "{summary:?}"),
        }
        if semantics == Semantics::AtMostOnce {
            // Only what was in flight when a server crashed may be unknown.
            assert!(summary.unknown <= 8 * CALLERS as usize, "{summary:?}");
            assert_eq!(summary.not_executed, 0, "{summary:?}");
        }
    }
}

#[tokio::test]
async fn a_cut_at_any_byte_of_a_request_or_a_reply_is_not_seen() {
    let scene = scene(quick()).await;
    let mut id = 0;
    for bytes in 0..14 {
        for (direction, kind) in
            [(Direction::ToServer, FrameKind::CALL), (Direction::ToClient, FrameKind::REPLY)]
        {
            id += 1;
            scene.proxy.on_next(direction, Some(kind), Fault::CutInFrame { bytes });
            let answer = within("an answer", scene.work.at_most_once(order(id))).await;
            assert_eq!(answer.expect("answered").id, id);
            assert_eq!(scene.log.runs(id), 1, "{direction:?} {bytes}");
        }
    }
    assert_eq!(scene.proxy.counts().cuts, 28);
}

#[tokio::test]
async fn a_cut_within_a_large_message_is_not_seen() {
    let scene = scene(quick()).await;
    for (id, direction) in [(1, Direction::ToServer), (2, Direction::ToClient)] {
        for _ in 0..3 {
            let cut = Fault::CutInFrame { bytes: 30_000 };
            scene.proxy.on_next(direction, Some(FrameKind::FRAGMENT), cut);
        }
        let large = match direction {
            Direction::ToServer => Order { padding: vec![1; 400_000], ..order(id) },
            Direction::ToClient => order(id).how(How::Large(400_000)),
        };
        let answer = within("an answer", scene.work.at_most_once(large)).await;
        assert_eq!(answer.expect("answered").id, id);
        assert_eq!(scene.log.runs(id), 1);
    }
    assert_eq!(scene.proxy.counts().cuts_in_frame, 6);
}

#[tokio::test]
async fn a_stall_delays_and_breaks_nothing() {
    for semantics in SEMANTICS {
        let scene = scene(quick()).await;
        let stalls = tokio::spawn({
            let proxy = scene.proxy.clone();
            async move {
                for stall in 1..=3 {
                    let more = stall * 100;
                    proxy.until(|counts| counts.frames_from_client > more).await;
                    proxy.stall();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    proxy.resume();
                }
            }
        });
        let outcomes = load(&scene.work, semantics, 600).await;
        within("the stalls", stalls).await.expect("no panic");
        let summary = Summary::of(semantics, &outcomes, &scene.log);
        assert_eq!((summary.ok, summary.repeated), (600, 0), "{summary:?}");
        assert_eq!(scene.proxy.counts().accepted, 1, "one connection did it all");
    }
}

#[tokio::test]
async fn a_half_open_connection_is_noticed_and_replaced() {
    let alert = Limits { ping_interval: Duration::from_millis(50), ..quick() };
    for semantics in SEMANTICS {
        let scene = scene(alert.clone()).await;
        call(&scene.work, semantics, order(1)).await.expect("answered");
        scene.proxy.half_open();
        let lost = start(&scene.work, semantics, order(2)).await.expect("room");
        let outcomes = vec![(2, within("an answer", lost).await)];
        let summary = Summary::of(semantics, &outcomes, &scene.log);
        assert_eq!(summary.ok, usize::from(semantics != Semantics::Maybe), "{summary:?}");
        call(&scene.work, semantics, order(3)).await.expect("over the next connection");
        assert!(scene.proxy.counts().accepted >= 2);
    }
}

#[tokio::test]
async fn an_idle_connection_is_kept_and_a_dead_one_replaced_before_it_is_needed() {
    let alert = Limits { ping_interval: Duration::from_millis(40), ..quick() };
    let scene = scene(alert).await;
    // PING and PONG, several times.
    let frames = scene.proxy.counts().frames_from_server + 5;
    within("pongs", scene.proxy.until(|counts| counts.frames_from_server >= frames)).await;
    assert_eq!(scene.proxy.counts().accepted, 1);
    scene.proxy.half_open();
    within("the next connection", scene.proxy.until(|counts| counts.accepted >= 2)).await;
    call(&scene.work, Semantics::AtMostOnce, order(1)).await.expect("answered");
}

#[tokio::test]
async fn a_restarted_server_is_found_on_its_own_port() {
    let log = Log::new();
    let server = Server::start(quick(), &log).await;
    let (address, url) = (server.address(), server.url());
    let work = client(url.clone(), quick()).await.expect("bound");
    work.at_most_once(order(1)).await.expect("answered");
    server.crash();
    let waiting = work.at_most_once(order(2)).start().await.expect("room");
    let place = format!("tcp://{address}");
    let next = Server::start_at(&place, quick(), &log).await;
    let outcome = within("an answer", waiting).await;
    // Sent to the old one's dead connection, it may be unknown; it never ran twice.
    assert!(outcome.is_ok() == (log.runs(2) == 1), "{outcome:?}");
    within("an answer", work.at_most_once(order(3))).await.expect("answered");
    assert_eq!(next.node().statistics().kept_sessions, 1);
}
