//! Real processes: a server that is killed by SIGKILL under load and restarted on its port, fifty times, over TCP and
//! over UDP.
//!
//! Each execution is in the server's log file before it does anything. At the end every report that a caller got is
//! held against the log of all runs of the server together.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use farcall::{CallError, Limits, Proxy as _, Semantics};
use farcall_tests::process::Process;
use farcall_tests::service::{
    Answer, Report, SEMANTICS, Transport, WorkProxy, call, client, eventually, order, within,
};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Kills in one run.
const CYCLES: usize = 50;
/// Callers of each semantics.
const CALLERS: u64 = 6;
/// Answers between a start and the next kill.
const ANSWERS_PER_CYCLE: u64 = 200;
/// The whole run takes less.
const LIMIT: Duration = Duration::from_secs(40);

async fn start(address: &str, log: &Path) -> Process {
    Process::start(env!("CARGO_BIN_EXE_work_server"), &[&address, &log]).await
}

/// Removed when it goes.
struct LogFile(PathBuf);

impl LogFile {
    fn new(name: &str) -> LogFile {
        let name = format!("{name}-{}.log", std::process::id());
        LogFile(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    /// How often each call ran.
    fn runs(&self) -> HashMap<u64, u32> {
        let text = std::fs::read_to_string(&self.0).expect("the server made it");
        let mut runs = HashMap::new();
        for line in text.lines() {
            *runs.entry(line.parse().expect("an id")).or_default() += 1;
        }
        runs
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What the callers share.
#[derive(Default)]
struct Progress {
    ended: AtomicBool,
    next: AtomicU64,
    answered: AtomicU64,
}

type Outcomes = Vec<(u64, Semantics, Result<Answer, CallError>)>;

/// Calls, one after the other, until the run is over.
async fn caller(work: WorkProxy, semantics: Semantics, progress: Arc<Progress>) -> Outcomes {
    let mut outcomes = Vec::new();
    while !progress.ended.load(Ordering::Acquire) {
        let id = progress.next.fetch_add(1, Ordering::Relaxed);
        let outcome = call(&work, semantics, order(id)).await;
        progress.answered.fetch_add(u64::from(outcome.is_ok()), Ordering::Relaxed);
        outcomes.push((id, semantics, outcome));
    }
    outcomes
}

#[tokio::test]
async fn a_server_that_is_killed_again_and_again_breaks_no_promise() {
    kill_again_and_again(Transport::Tcp).await;
}

#[tokio::test]
async fn a_server_over_udp_that_is_killed_again_and_again_breaks_no_promise() {
    kill_again_and_again(Transport::Udp).await;
}

async fn kill_again_and_again(transport: Transport) {
    let began = Instant::now();
    let log = LogFile::new(transport.scheme());
    let mut process = start(&transport.anywhere(), &log.0).await;
    let address = process.url.strip_suffix("/work").expect("its name").to_owned();
    let soon = Duration::from_millis(5);
    let limits = Limits { reconnect_min: soon, reconnect_max: soon, ..Limits::default() };
    let work = client(process.url.as_str(), limits).await.expect("bound");
    let work = work.with_timeout(Duration::from_secs(20));
    let progress = Arc::<Progress>::default();
    let mut callers = JoinSet::new();
    for semantics in SEMANTICS {
        for _ in 0..CALLERS {
            callers.spawn(caller(work.clone(), semantics, progress.clone()));
        }
    }
    for _ in 0..CYCLES {
        let enough = progress.answered.load(Ordering::Relaxed) + ANSWERS_PER_CYCLE;
        eventually("more answers", || progress.answered.load(Ordering::Relaxed) >= enough).await;
        process.kill().await;
        process = start(&address, &log.0).await;
    }
    progress.ended.store(true, Ordering::Release);
    let outcomes = within("the last answers", callers.join_all()).await.concat();
    // What was on its way comes to its end before the log is read.
    within("an answer", work.at_most_once(order(u64::MAX))).await.expect("all is well again");
    process.kill().await;
    check(&outcomes, &log.runs());
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
}

fn check(outcomes: &Outcomes, runs: &HashMap<u64, u32>) {
    for semantics in SEMANTICS {
        let (mut ok, mut unknown, mut repeated) = (0, 0, 0);
        for (id, _, outcome) in outcomes.iter().filter(|(_, of, _)| *of == semantics) {
            let (report, runs) = (Report::of(outcome), runs.get(id).copied().unwrap_or(0));
            let truth = report.is_true(semantics, runs);
            assert!(truth, "{semantics} call {id}: {outcome:?}, ran {runs}x");
            if let Ok(answer) = outcome {
                assert_eq!(answer.id, *id, "an answer to another call");
            }
            ok += usize::from(report == Report::Ok);
            unknown += usize::from(report == Report::Unknown);
            repeated += usize::from(runs > 1);
            if semantics == Semantics::AtLeastOnce {
                assert_eq!(report, Report::Ok, "at least once completes: {outcome:?}");
            }
        }
        assert!(ok >= 500, "{semantics}: {ok} answered");
        match semantics {
            Semantics::AtLeastOnce => assert!(repeated >= 5, "the kills met {repeated} calls"),
            _ => assert!(unknown >= 20, "the kills met {unknown} {semantics} calls"),
        }
    }
}
