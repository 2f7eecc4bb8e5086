//! Every failure path that TCP and UDP can produce, under each semantics, held against the table in `docs/failures.md`.
//!
//! Real sockets on loopback, through the fault proxies. One test for each row of the table, which goes over both
//! transports; each compares its observations with the row and with what the server counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use farcall::{CallError, Limits, Pending, Proxy as _, Semantics};
use farcall_tests::failure_table::{holds, rows};
use farcall_tests::fault_proxy::{Direction, FrameKind};
use farcall_tests::link::Link;
use farcall_tests::service::{
    Answer, Fussy, How, Log, Order, Report, SEMANTICS, Server, TRANSPORTS, Transport, WorkProxy,
    call, client, eventually, order, start, within,
};

/// A server, a proxy before it, and a client that knows the object already.
struct Scene {
    transport: Transport,
    server: Server,
    link: Link,
    work: WorkProxy,
    log: Arc<Log>,
}

/// Limits under which a link comes back soon.
fn quick() -> Limits {
    let ten = Duration::from_millis(10);
    Limits { reconnect_min: ten, reconnect_max: ten, ..Limits::default() }
}

impl Scene {
    async fn new(transport: Transport) -> Scene {
        Scene::with(transport, quick(), quick()).await
    }

    async fn with(transport: Transport, server: Limits, limits: Limits) -> Scene {
        let alert = |limits| match transport {
            Transport::Tcp => limits,
            // Nothing but silence tells of the end of a link without connections.
            Transport::Udp => Limits {
                ping_interval: Duration::from_millis(150),
                handshake_timeout: Duration::from_secs(1),
                ..limits
            },
        };
        Scene::calm(transport, alert(server), alert(limits)).await
    }

    /// Where the link bears the silence that the limits say.
    async fn calm(transport: Transport, server: Limits, limits: Limits) -> Scene {
        let log = Log::new();
        let server = Server::start_over(transport, server, &log).await;
        let link = Link::start(transport, server.address()).expect("a free port");
        let work = client(transport.work_at(link.address()), limits).await;
        Scene { transport, server, link, work: work.expect("it is bound"), log }
    }

    /// A call under this semantics, with an id that tells which it is.
    async fn call(&self, semantics: Semantics, how: How) -> Result<Answer, CallError> {
        let order = order(id(semantics)).how(how);
        within("an answer", call(&self.patient(semantics), semantics, order)).await
    }

    async fn start(&self, semantics: Semantics, how: How) -> Pending<Answer> {
        let work = self.patient(semantics);
        let started = start(&work, semantics, order(id(semantics)).how(how));
        within("the start", started).await.expect("room")
    }

    /// The proxy; where nothing but its deadline ends a call whose datagram is lost, with one.
    fn patient(&self, semantics: Semantics) -> WorkProxy {
        match (self.transport, semantics) {
            (Transport::Udp, Semantics::Maybe) => self.work.with_timeout(Duration::from_secs(1)),
            _ => self.work.clone(),
        }
    }

    fn impatient(&self) -> WorkProxy {
        self.work.with_timeout(Duration::from_millis(100))
    }

    /// Compares with the row and with the count of executions.
    fn shows(&self, row: &str, semantics: Semantics, outcome: &Result<Answer, CallError>) {
        let (report, runs) = (Report::of(outcome), self.log.runs(id(semantics)));
        let truth = report.is_true(semantics, runs);
        let transport = self.transport;
        println!("{row} {transport:?} {semantics}: {outcome:?}, ran {runs}x");
        assert!(truth, "{row} {transport:?} {semantics}: {outcome:?}, ran {runs}x");
        holds(row, semantics, report);
    }

    /// Ends the link, and lets no other come up; the client has noticed.
    async fn cut_for_good(&self) {
        within("the cut", self.link.cut_for_good()).await;
    }
}

fn id(semantics: Semantics) -> u64 {
    SEMANTICS.iter().position(|known| *known == semantics).map_or(0, |index| index as u64 + 1)
}

/// A server that takes the place of another, behind the same proxy.
async fn restart(scene: &mut Scene) -> SocketAddr {
    let next = Server::start_over(scene.transport, quick(), &scene.log).await;
    scene.link.set_upstream(next.address());
    std::mem::replace(&mut scene.server, next).crash();
    scene.server.address()
}

#[test]
fn every_row_names_a_test_that_exists() {
    let source = include_str!("failures.rs");
    for (number, row) in rows() {
        let test = format!("async fn {}()", row.test);
        assert!(source.contains(&test), "row {number} names `{}`", row.test);
        assert!(source.contains(&format!("\"{number}\"")), "no test compares with row {number}");
    }
    assert!(rows().len() >= 20);
}

#[tokio::test]
async fn arguments_that_cannot_be_encoded_are_never_sent() {
    for transport in TRANSPORTS {
        let scene = Scene::new(transport).await;
        for semantics in SEMANTICS {
            let bad = Order { fussy: Fussy::NotEncodable, ..order(id(semantics)) };
            let outcome = call(&scene.work, semantics, bad).await;
            assert!(matches!(outcome, Err(CallError::NotEncoded { .. })), "{outcome:?}");
            scene.shows("1a", semantics, &outcome);
        }
    }
}

#[tokio::test]
async fn arguments_over_the_limit_are_never_sent() {
    for transport in TRANSPORTS {
        let small = Limits { message: 1000, ..quick() };
        let scene = Scene::with(transport, small, quick()).await;
        for semantics in SEMANTICS {
            let large = Order { padding: vec![1; 1001], ..order(id(semantics)) };
            let outcome = call(&scene.work, semantics, large).await;
            let limit = matches!(outcome, Err(CallError::TooLarge { limit: 1000, .. }));
            assert!(limit, "the server's limit: {outcome:?}");
            scene.shows("1b", semantics, &outcome);
        }
    }
}

#[tokio::test]
async fn arguments_too_large_for_udp_are_never_sent() {
    let scene = Scene::new(Transport::Udp).await;
    for semantics in SEMANTICS {
        let large = Order { padding: vec![1; (1 << 20) + 1], ..order(id(semantics)) };
        let outcome = call(&scene.work, semantics, large).await;
        let limit = matches!(outcome, Err(CallError::TooLarge { limit: 0x0010_0000, .. }));
        assert!(limit, "{outcome:?}");
        let said = outcome.as_ref().map(drop).expect_err("too large").to_string();
        assert!(said.contains("tcp://"), "it says what to do: {said}");
        scene.shows("1d", semantics, &outcome);
    }
}

#[tokio::test]
async fn a_full_window_until_the_deadline_sends_nothing() {
    for transport in TRANSPORTS {
        let scene = Scene::with(transport, quick(), Limits { window: 1, ..quick() }).await;
        let first = start(&scene.work, Semantics::AtMostOnce, order(99).how(How::Hold)).await;
        for semantics in SEMANTICS {
            let outcome = call(&scene.impatient(), semantics, order(id(semantics))).await;
            assert!(matches!(outcome, Err(CallError::DeadlineExceeded { .. })), "{outcome:?}");
            scene.shows("1c", semantics, &outcome);
            let refused = match semantics {
                Semantics::Maybe => scene.work.maybe(order(50)).try_start(),
                Semantics::AtLeastOnce => scene.work.at_least_once(order(50)).try_start(),
                _ => scene.work.at_most_once(order(50)).try_start(),
            };
            assert!(matches!(refused, Err(CallError::BufferFull)));
        }
        scene.log.open();
        first.expect("room").await.expect("the first one is answered");
        assert_eq!(scene.log.calls(), 1);
    }
}

#[tokio::test]
async fn a_server_that_is_gone_got_nothing() {
    for transport in TRANSPORTS {
        let scene = Scene::new(transport).await;
        scene.cut_for_good().await;
        for semantics in SEMANTICS {
            let outcome = call(&scene.impatient(), semantics, order(id(semantics))).await;
            // Silence tells nothing until the handshake has had its time.
            let silent = transport == Transport::Udp
                && matches!(outcome, Err(CallError::DeadlineExceeded { .. }));
            let said = silent || matches!(outcome, Err(CallError::Unreachable { .. }));
            assert!(said, "{outcome:?}");
            scene.shows("2", semantics, &outcome);
        }
        let nowhere = client(transport.work_at(scene.link.address()), quick()).await;
        assert_eq!(Report::of(&nowhere.map(drop)), Report::NotExecuted);
    }
}

#[tokio::test]
async fn an_object_that_is_gone_runs_nothing() {
    for transport in TRANSPORTS {
        let scene = Scene::new(transport).await;
        scene.server.node().registry().unbind("work").expect("it is bound");
        for semantics in SEMANTICS {
            let outcome = scene.call(semantics, How::Answer).await;
            assert!(matches!(outcome, Err(CallError::NoSuchObject(_))), "{outcome:?}");
            scene.shows("3a", semantics, &outcome);
        }
    }
}

#[tokio::test]
async fn arguments_that_cannot_be_decoded_run_nothing() {
    for transport in TRANSPORTS {
        let scene = Scene::new(transport).await;
        for semantics in SEMANTICS {
            let bad = Order { fussy: Fussy::NotDecodable, ..order(id(semantics)) };
            let outcome = within("an answer", call(&scene.work, semantics, bad)).await;
            assert!(matches!(outcome, Err(CallError::BadArguments(_))), "{outcome:?}");
            scene.shows("3b", semantics, &outcome);
        }
    }
}

#[tokio::test]
async fn a_server_at_its_limit_runs_nothing() {
    for transport in TRANSPORTS {
        let scene = Scene::with(transport, Limits { running_calls: 1, ..quick() }, quick()).await;
        let first = start(&scene.work, Semantics::AtMostOnce, order(99).how(How::Hold)).await;
        scene.log.begun(99).await;
        for semantics in SEMANTICS {
            let outcome = scene.call(semantics, How::Answer).await;
            assert!(matches!(outcome, Err(CallError::Busy(_))), "{outcome:?}");
            scene.shows("3c", semantics, &outcome);
        }
        drop(first);
    }
}

#[tokio::test]
async fn a_server_that_shuts_down_begins_nothing() {
    for transport in TRANSPORTS {
        let scene = Scene::new(transport).await;
        let last = start(&scene.work, Semantics::AtMostOnce, order(99).how(How::Hold)).await;
        scene.log.begun(99).await;
        let node = scene.server.node().clone();
        let seen = scene.link.from_server();
        let ending = tokio::spawn(async move { node.shutdown(Duration::from_secs(10)).await });
        within("GOAWAY", scene.link.until_more_than(seen)).await;
        for semantics in SEMANTICS {
            let outcome = call(&scene.impatient(), semantics, order(id(semantics))).await;
            scene.shows("3d", semantics, &outcome);
        }
        scene.log.open();
        last.expect("room").await.expect("what runs is answered");
        within("the end", ending).await.expect("no panic").expect("all is done");
    }
}

#[tokio::test]
async fn a_refusal_of_a_repeat_is_definite_only_under_at_most_once() {
    refused_after_a_loss(Transport::Tcp, "3e").await;
}

/// The server keeps what it refused on a link, so that an earlier copy that comes late is refused as well.
#[tokio::test]
async fn a_refusal_of_a_request_in_another_datagram_is_definite() {
    refused_after_a_loss(Transport::Udp, "3f").await;
}

async fn refused_after_a_loss(transport: Transport, row: &str) {
    for semantics in SEMANTICS {
        let scene = Scene::new(transport).await;
        scene.link.lose(Direction::ToServer, FrameKind::CALL);
        let pending = scene.start(semantics, How::Answer).await;
        within("the loss", scene.link.lost()).await;
        scene.server.node().registry().unbind("work").expect("it is bound");
        let outcome = within("an answer", pending).await;
        scene.shows(row, semantics, &outcome);
    }
}

#[tokio::test]
async fn a_panic_has_run() {
    for transport in TRANSPORTS {
        let scene = Scene::new(transport).await;
        for semantics in SEMANTICS {
            let outcome = scene.call(semantics, How::Panic).await;
            assert!(matches!(outcome, Err(CallError::Panicked { .. })), "{outcome:?}");
            scene.shows("4", semantics, &outcome);
        }
        let after = call(&scene.work, Semantics::AtMostOnce, order(99)).await;
        after.expect("the connection lives on");
        assert_eq!(scene.work.node().statistics().connections, 1);
    }
}

#[tokio::test]
async fn a_reply_over_the_limit_has_run() {
    for transport in TRANSPORTS {
        let scene = Scene::with(transport, quick(), Limits { message: 1000, ..quick() }).await;
        for semantics in SEMANTICS {
            let outcome = scene.call(semantics, How::Large(2000)).await;
            assert!(matches!(outcome, Err(CallError::BadReply { .. })), "{outcome:?}");
            scene.shows("5", semantics, &outcome);
        }
        let after = call(&scene.work, Semantics::AtMostOnce, order(99)).await;
        after.expect("the connection lives on");
        assert_eq!(scene.work.node().statistics().connections, 1);
    }
}

#[tokio::test]
async fn a_reply_that_cannot_be_decoded_has_run() {
    for transport in TRANSPORTS {
        let scene = Scene::new(transport).await;
        for semantics in SEMANTICS {
            let outcome = scene.call(semantics, How::Undecodable).await;
            assert!(matches!(outcome, Err(CallError::BadReply { .. })), "{outcome:?}");
            scene.shows("6", semantics, &outcome);
        }
        let after = call(&scene.work, Semantics::AtMostOnce, order(99)).await;
        after.expect("the connection lives on");
    }
}

#[tokio::test]
async fn a_lost_request_is_sent_again() {
    for transport in TRANSPORTS {
        for semantics in SEMANTICS {
            let scene = Scene::new(transport).await;
            scene.link.lose(Direction::ToServer, FrameKind::CALL);
            let outcome = scene.call(semantics, How::Answer).await;
            scene.shows("7a", semantics, &outcome);
            let runs = u32::from(semantics != Semantics::Maybe);
            assert_eq!(scene.log.runs(id(semantics)), runs);
        }
    }
}

#[tokio::test]
async fn a_lost_reply_is_asked_for_again() {
    for transport in TRANSPORTS {
        for semantics in SEMANTICS {
            let scene = Scene::new(transport).await;
            scene.link.lose(Direction::ToClient, FrameKind::REPLY);
            let outcome = scene.call(semantics, How::Answer).await;
            scene.shows("7b", semantics, &outcome);
            let runs = scene.log.runs(id(semantics));
            match (semantics, transport) {
                (Semantics::AtLeastOnce, Transport::Tcp) => assert_eq!(runs, 2),
                // Request or reply is sent again, whoever is first to miss an acknowledgement.
                (Semantics::AtLeastOnce, Transport::Udp) => assert!((1..=2).contains(&runs)),
                _ => assert_eq!(runs, 1),
            }
        }
    }
}

#[tokio::test]
async fn a_link_that_stays_down_tells_nothing() {
    for transport in TRANSPORTS {
        for semantics in SEMANTICS {
            let scene = Scene::new(transport).await;
            let hold = order(id(semantics)).how(How::Hold);
            let long = scene.work.with_timeout(Duration::from_millis(300));
            let pending = start(&long, semantics, hold).await.expect("room");
            scene.log.begun(id(semantics)).await;
            scene.cut_for_good().await;
            let outcome = within("an answer", pending).await;
            scene.shows("8", semantics, &outcome);
        }
    }
}

#[tokio::test]
async fn a_call_that_waited_goes_to_the_restarted_server() {
    for transport in TRANSPORTS {
        for semantics in SEMANTICS {
            let mut scene = Scene::new(transport).await;
            scene.cut_for_good().await;
            let pending = scene.start(semantics, How::Answer).await;
            restart(&mut scene).await;
            scene.link.heal();
            let outcome = within("an answer", pending).await;
            scene.shows("9", semantics, &outcome);
            assert_eq!(scene.log.runs(id(semantics)), 1);
        }
    }
}

#[tokio::test]
async fn a_call_in_flight_over_a_restart_is_unknown_unless_it_may_repeat() {
    for transport in TRANSPORTS {
        for semantics in SEMANTICS {
            let mut scene = Scene::new(transport).await;
            let pending = scene.start(semantics, How::Hold).await;
            scene.log.begun(id(semantics)).await;
            restart(&mut scene).await;
            scene.log.open();
            let outcome = within("an answer", pending).await;
            scene.shows("10", semantics, &outcome);
            if semantics == Semantics::AtMostOnce {
                assert!(matches!(outcome, Err(CallError::ServerRestarted)), "{outcome:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_call_of_an_expired_session_is_unknown_unless_it_may_repeat() {
    for transport in TRANSPORTS {
        for semantics in SEMANTICS {
            let short = Limits { session_ttl: Duration::from_millis(20), ..quick() };
            let scene = Scene::with(transport, short, quick()).await;
            let pending = scene.start(semantics, How::Hold).await;
            scene.log.begun(id(semantics)).await;
            scene.cut_for_good().await;
            let kept = || scene.server.node().statistics().kept_sessions;
            eventually("the end of the session", || kept() == 0).await;
            scene.log.open();
            scene.link.heal();
            let outcome = within("an answer", pending).await;
            scene.shows("11", semantics, &outcome);
            if semantics == Semantics::AtMostOnce {
                assert!(matches!(outcome, Err(CallError::SessionExpired)), "{outcome:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_deadline_stops_no_method_that_runs() {
    for transport in TRANSPORTS {
        // That it runs is what the server says, however long that takes.
        let patient = Limits { resolve_wait: Duration::from_secs(10), ..quick() };
        let scene = Scene::with(transport, quick(), patient).await;
        for semantics in SEMANTICS {
            let hold = order(id(semantics)).how(How::Hold);
            let outcome = within("an answer", call(&scene.impatient(), semantics, hold)).await;
            scene.shows("12a", semantics, &outcome);
            let begun = semantics == Semantics::AtMostOnce;
            let said = matches!(outcome, Err(CallError::DeadlineExceeded { started, .. }) if started == begun);
            assert!(said, "{outcome:?}");
        }
        scene.log.open();
        for semantics in SEMANTICS {
            scene.log.ended(id(semantics)).await;
        }
    }
}

#[tokio::test]
async fn a_deadline_before_the_last_byte_of_the_request_runs_nothing() {
    for transport in TRANSPORTS {
        let large = match transport {
            Transport::Tcp => 15 << 20,
            Transport::Udp => 1_000_000,
        };
        let scene = Scene::new(transport).await;
        for semantics in SEMANTICS {
            scene.link.stall();
            let large = Order { padding: vec![1; large], ..order(id(semantics)) };
            let outcome = within("an answer", call(&scene.impatient(), semantics, large)).await;
            scene.link.resume();
            let after = call(&scene.work, semantics, order(99)).await;
            after.expect("the connection lives on");
            scene.shows("12b", semantics, &outcome);
        }
    }
}

#[tokio::test]
async fn an_answer_just_after_the_deadline_counts_under_at_most_once() {
    for transport in TRANSPORTS {
        let patient = Limits { resolve_wait: Duration::from_secs(10), ..quick() };
        for semantics in SEMANTICS {
            let scene = Scene::calm(transport, quick(), patient.clone()).await;
            scene.link.delay_replies(Duration::from_millis(300));
            let work = scene.impatient();
            let outcome = within("an answer", call(&work, semantics, order(id(semantics)))).await;
            scene.shows("12c", semantics, &outcome);
        }
    }
}

#[tokio::test]
async fn a_cancelled_call_that_runs_is_unknown() {
    for transport in TRANSPORTS {
        let scene = Scene::new(transport).await;
        for semantics in SEMANTICS {
            let pending = scene.start(semantics, How::Hold).await;
            scene.log.begun(id(semantics)).await;
            let outcome = within("an answer", pending.cancel()).await;
            assert!(matches!(outcome, Err(CallError::Cancelled { .. })), "{outcome:?}");
            scene.shows("13a", semantics, &outcome);
        }
    }
}

#[tokio::test]
async fn a_call_cancelled_before_it_was_sent_runs_nothing() {
    for transport in TRANSPORTS {
        let scene = Scene::new(transport).await;
        scene.cut_for_good().await;
        for semantics in SEMANTICS {
            let pending = scene.start(semantics, How::Answer).await;
            let outcome = within("an answer", pending.cancel()).await;
            assert!(matches!(outcome, Err(CallError::Cancelled { .. })), "{outcome:?}");
            scene.shows("13b", semantics, &outcome);
        }
        scene.link.heal();
        let after = call(&scene.work, Semantics::AtMostOnce, order(99)).await;
        after.expect("the link comes back");
        assert_eq!(scene.log.calls(), 1);
    }
}
