//! Eight members over UDP on a network that loses datagrams, some of which are killed and come back: real sockets,
//! through the datagram proxy.
//!
//! Each member counts its executions; all that callers were told is held against these counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farcall::{CallError, Group as _, Limits, Node, Replies, Semantics};
use farcall_tests::datagram_proxy::{DatagramFaults, DatagramProxy};
use farcall_tests::service::{
    Answer, Log, Report, Server, Transport, WorkGroup, eventually, order,
};
use tokio::task::JoinSet;

/// Limits under which a link comes back soon.
fn quick() -> Limits {
    let (two, ten) = (Duration::from_millis(2), Duration::from_millis(10));
    Limits {
        reconnect_min: two,
        reconnect_max: ten,
        ping_interval: Duration::from_millis(300),
        ..Limits::default()
    }
}

/// A member: its server may die, its proxy and its counts stay.
struct Place {
    log: Arc<Log>,
    proxy: DatagramProxy,
    server: Option<Server>,
}

impl Place {
    async fn start(number: u64) -> Place {
        let log = Log::new();
        let server = Server::start_over(Transport::Udp, quick(), &log).await;
        let proxy = DatagramProxy::start(server.address()).expect("a port");
        proxy.set_both(DatagramFaults { seed: number, loss: 0.05, ..DatagramFaults::default() });
        Place { log, proxy, server: Some(server) }
    }

    async fn kill_and_restart(&mut self) {
        if let Some(server) = self.server.take() {
            server.crash();
        }
        let server = Server::start_over(Transport::Udp, quick(), &self.log).await;
        self.proxy.set_upstream(server.address());
        self.server = Some(server);
    }
}

/// What a caller was told of one call.
struct Told {
    id: u64,
    semantics: Semantics,
    /// Executions that its policy asked for, if it was met.
    met: Option<usize>,
    reports: Vec<Report>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_to_eight_members_at_five_percent_loss_while_members_are_killed() {
    let mut places = Vec::new();
    for number in 0..MEMBERS {
        places.push(Place::start(number).await);
    }
    let node = Node::builder().limits(quick()).build();
    let urls = places.iter().map(|place| Transport::Udp.work_at(place.proxy.address()));
    let group: WorkGroup = node.group(urls).await.expect("good addresses");
    assert!(group.note(0).timeout(PATIENCE).all().await.is_met());

    let next = Arc::new(AtomicU64::new(1));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (group, next) = (group.clone(), next.clone());
        callers.spawn(async move {
            let mut told = Vec::new();
            loop {
                let id = next.fetch_add(1, Ordering::Relaxed);
                if id > CALLS {
                    return told;
                }
                told.push(call(&group, id).await);
            }
        });
    }
    for victim in 0..KILLED {
        let reached = (victim + 1) * CALLS / (KILLED + 2);
        eventually("the callers go on", || next.load(Ordering::Relaxed) > reached).await;
        places[victim as usize].kill_and_restart().await;
    }
    let told: Vec<Told> = callers.join_all().await.into_iter().flatten().collect();
    assert_eq!(told.len() as u64, CALLS);
    let (mut answers, mut met) = (0, 0);
    for told in &told {
        let runs: Vec<u32> = places.iter().map(|place| place.log.runs(told.id)).collect();
        for (report, runs) in told.reports.iter().zip(&runs) {
            assert!(report.is_true(told.semantics, *runs), "{}: {report:?}, ran {runs}x", told.id);
            answers += u64::from(*report == Report::Ok);
        }
        if let Some(wanted) = told.met {
            met += 1;
            let ran = runs.iter().filter(|runs| **runs > 0).count();
            assert!(ran >= wanted, "I13: {} of {wanted} executions of call {}", ran, told.id);
        }
    }
    println!("{met} of {CALLS} calls met, {answers} answers");
    // Only a call in flight at the moment of a kill can fail, at the member that was killed.
    assert!(met >= CALLS * 98 / 100, "only {met} calls were met");
    assert!(answers >= CALLS * 4, "only {answers} answers");
}

/// One call, under one policy or another.
async fn call(group: &WorkGroup, id: u64) -> Told {
    let semantics =
        if id.is_multiple_of(3) { Semantics::AtLeastOnce } else { Semantics::AtMostOnce };
    let call = match semantics {
        Semantics::AtLeastOnce => group.at_least_once(order(id)),
        _ => group.at_most_once(order(id)),
    };
    let call = call.timeout(PATIENCE);
    let (wanted, replies) = match id % 4 {
        0 => (1, call.first().await),
        1 => (5, call.quorum(5).await),
        2 => (5, call.majority().await),
        _ => (0, call.until(tokio::time::Instant::now() + PATIENCE).await),
    };
    let reports = reports(group, id, &replies);
    Told { id, semantics, met: replies.is_met().then_some(wanted), reports }
}

/// What is said of each member, in their order.
fn reports(group: &WorkGroup, id: u64, replies: &Replies<Answer>) -> Vec<Report> {
    let report = |member| {
        let reply = replies.of(member).expect("one entry a member");
        if let Ok(answer) = &reply.result {
            assert_eq!(answer.id, id, "I3: another call's answer");
        }
        let error = reply.result.as_ref().err();
        let unexpected = error.is_some_and(|error| {
            !matches!(error, CallError::Silent { .. } | CallError::ServerRestarted)
        });
        assert!(!unexpected, "call {id} at {member}: {error:?}");
        Report::of(&reply.result)
    };
    group.members().iter().map(report).collect()
}

const MEMBERS: u64 = 8;
const CALLS: u64 = 1000;
const CALLERS: u64 = 8;
/// Members that die once each.
const KILLED: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(20);
