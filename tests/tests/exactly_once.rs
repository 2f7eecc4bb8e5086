//! Exactly-once calls over real sockets and real databases: effects, answers, errors, and what crashes leave.

use std::fmt::Debug;
use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use farcall::{CallError, Execution, Limits, Node, SqliteStore, remote};
use farcall_tests::failure_table::Table;
use farcall_tests::fault_proxy::{Direction, Fault, FaultProxy, FrameKind};
use farcall_tests::ledger::{
    Folder, How, LedgerProxy, Refused, Server, client, client_with, notes, rows,
};
use farcall_tests::service::{Fussy, eventually, within};
use futures_core::Stream as _;

const TCP: &str = "tcp://127.0.0.1:0";
const UDP: &str = "udp://127.0.0.1:0";

/// A server, a client, and the ledger between them.
struct World {
    folder: Folder,
    server: Server,
    client: Node,
    ledger: LedgerProxy,
}

impl World {
    async fn new(address: &str) -> World {
        World::with(address, Limits::default()).await
    }

    async fn with(address: &str, limits: Limits) -> World {
        let folder = Folder::new("exactly-once");
        let server = Server::start_with(&folder.file("server.db"), address, limits).await;
        let client = client(&folder.file("client.db"));
        let ledger = client.lookup(server.url()).await.expect("bound");
        World { folder, server, client, ledger }
    }
}

/// Calls that fail at once where waiting would change nothing.
fn hasty() -> Limits {
    Limits { handler_timeout: Duration::from_millis(50), ..Limits::default() }
}

/// Compares with the table.
fn holds<E: Debug>(test: &str, error: &CallError<E>) {
    Table::EXACTLY_ONCE.holds(test, error);
}

#[test]
fn each_row_is_compared_with_by_its_test() {
    let files = [include_str!("exactly_once.rs"), include_str!("exactly_once_copies.rs")];
    Table::EXACTLY_ONCE.is_shown_by(&files, 10);
}

#[tokio::test]
async fn a_call_takes_effect_once_and_answers_over_both_transports() {
    for address in [TCP, UDP] {
        let World { folder: _folder, server, ledger, .. } = World::new(address).await;
        for number in 1..=20 {
            assert_eq!(ledger.note(number, How::Well).await.expect("noted"), number);
        }
        assert_eq!(server.notes(), (1..=20).collect::<Vec<_>>());
        assert_eq!(ledger.count().await.expect("counted"), 20);
    }
}

#[tokio::test]
async fn calls_side_by_side_share_commits_and_each_has_its_own_answer() {
    let World { folder: _folder, server, ledger, .. } = World::new(TCP).await;
    let calls: Vec<_> = (1..=300).map(|number| ledger.note(number, How::Well)).collect();
    let mut pending = Vec::new();
    for call in calls {
        pending.push(call.try_start().expect("room"));
    }
    let mut counts = Vec::new();
    for pending in pending {
        counts.push(pending.await.expect("noted"));
    }
    counts.sort_unstable();
    assert_eq!(counts, (1..=300).collect::<Vec<_>>());
    assert_eq!(server.notes().len(), 300);
}

#[tokio::test]
async fn a_reply_that_is_lost_is_answered_from_its_row() {
    let folder = Folder::new("exactly-once");
    let server = Server::start(&folder.file("server.db"), TCP).await;
    let address = server.address();
    let proxy =
        FaultProxy::start(address.trim_start_matches("tcp://").parse().expect("an address"));
    let proxy = proxy.expect("a proxy");
    let node = client(&folder.file("client.db"));
    let url = format!("tcp://{}/ledger", proxy.address());
    let ledger: LedgerProxy = node.lookup(url).await.expect("bound");
    assert_eq!(ledger.note(1, How::Well).await.expect("noted"), 1);
    let lost = Fault::Lose { lasts: Duration::from_millis(30) };
    proxy.on_next(Direction::ToClient, Some(FrameKind::REPLY), lost);
    assert_eq!(ledger.note(2, How::Well).await.expect("noted"), 2);
    proxy.on_next(Direction::ToServer, Some(FrameKind::CALL), Fault::Repeat);
    assert_eq!(ledger.note(3, How::Well).await.expect("noted"), 3);
    assert_eq!(server.notes(), [1, 2, 3]);
}

#[tokio::test]
async fn the_methods_own_error_is_an_answer_and_undoes_what_was_written() {
    let World { folder: _folder, server, ledger, .. } = World::new(TCP).await;
    let error = ledger.note(1, How::Refuse).await.expect_err("refused");
    assert!(matches!(error, CallError::Method(Refused(1))), "{error:?}");
    let error = ledger.note(1, How::Refuse).key("one").await.expect_err("refused");
    assert!(matches!(error, CallError::Method(Refused(1))), "{error:?}");
    let runs = ledger.count().await.expect("counted");
    let again = ledger.note(1, How::Refuse).key("one").await.expect_err("refused");
    assert!(matches!(again, CallError::Method(Refused(1))), "{again:?}");
    assert_eq!(ledger.count().await.expect("counted"), runs, "the key answers, not the method");
    assert_eq!(server.notes(), []);
}

#[tokio::test]
async fn what_fails_is_rolled_back_tried_again_and_then_fenced() {
    let World { folder: _folder, server, ledger, .. } = World::with(TCP, hasty()).await;
    assert_eq!(ledger.note(1, How::Fail(2)).await.expect("the third time"), 1);
    assert_eq!(ledger.count().await.expect("counted"), 3);
    let bad = [How::Panic, How::Wait(500), How::Commit, How::Conflict, How::BreakLater];
    for (how, number) in bad.into_iter().zip(2..) {
        let before = ledger.count().await.expect("counted");
        let error = ledger.note(number, how).await.expect_err("it fails each time");
        holds("what_fails_is_rolled_back_tried_again_and_then_fenced", &error);
        let runs = ledger.count().await.expect("counted") - before;
        assert_eq!(runs, u64::from(Limits::default().handler_attempts), "{how:?}");
    }
    assert_eq!(server.notes(), [1]);
}

/// A ledger whose answers cannot all be sent.
#[remote(semantics = "exactly_once")]
trait Mumbling {
    #[remote(max_reply = "1KiB")]
    async fn note(&self, number: u64, word: String) -> Result<(Fussy, String), CallError>;
}

struct Mumbler;

#[remote]
impl Mumbling for Mumbler {
    async fn note(&self, number: u64, word: String) -> Result<(Fussy, String), CallError> {
        let tx = farcall::sqlite::transaction()?;
        tx.execute("insert into note (number) values (?1)", [number as i64])?;
        Ok(if word == "mumble" { (Fussy::NotEncodable, word) } else { (Fussy::Fine, word) })
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_sent_takes_its_effect_back() {
    let World { folder: _folder, server, client, .. } = World::new(TCP).await;
    server.node.registry().bind("mumbler", Mumbler).expect("a free name");
    let url = format!("{}/mumbler", server.address());
    let mumbler: MumblingProxy = client.lookup(url).await.expect("bound");
    assert_eq!(mumbler.note(1, "well".into()).await.expect("said"), (Fussy::Fine, "well".into()));
    for (word, why) in [("mumble".into(), "as ordered"), ("long".repeat(256), "1024 are allowed")] {
        let error = mumbler.note(2, word).await.expect_err("it cannot be sent");
        let CallError::RolledBack { reason } = &error else { panic!("{error:?}") };
        assert!(reason.contains(why), "{reason}");
        assert_eq!(error.execution(), Execution::NotExecuted);
    }
    assert_eq!(server.notes(), [1]);
}

#[tokio::test]
async fn one_bad_call_harms_no_other_of_its_batch() {
    let World { folder: _folder, server, ledger, .. } = World::with(TCP, hasty()).await;
    let bad = [How::Panic, How::Commit, How::Conflict, How::BreakLater, How::Refuse, How::Fail(99)];
    let mut pending = Vec::new();
    for number in 1..=240_u64 {
        let how =
            if number % 10 == 0 { bad[(number / 10) as usize % bad.len()] } else { How::Well };
        pending.push((number, how, ledger.note(number, how).try_start().expect("room")));
    }
    for (number, how, pending) in pending {
        let result = pending.await;
        assert_eq!(result.is_ok(), how == How::Well, "{number} {how:?}: {result:?}");
    }
    let good: Vec<_> = (1..=240).filter(|number| number % 10 != 0).collect();
    assert_eq!(server.notes(), good);
}

#[tokio::test]
async fn a_handler_makes_no_remote_call() {
    let World { folder: _folder, server, client, ledger } = World::new(TCP).await;
    server.book.itself.set(ledger.clone()).expect("set once");
    let error = ledger.note(1, How::CallBack).await.expect_err("it fails each time");
    let CallError::RolledBack { reason } = &error else { panic!("{error:?}") };
    assert!(reason.contains("enqueue"), "{reason}");
    assert_eq!(server.notes(), []);
    drop(client);
}

#[tokio::test]
async fn a_timeout_ends_the_wait_and_not_the_call() {
    let folder = Folder::new("exactly-once");
    let node = client(&folder.file("client.db"));
    let server = Server::start(&folder.file("server.db"), TCP).await;
    let url = server.url();
    let address = server.address();
    server.stop().await;
    let ledger: LedgerProxy = node.proxy(url).expect("an address");
    let call = ledger.note(7, How::Well).timeout(Duration::from_millis(50));
    let error = call.await.expect_err("nobody is there");
    assert!(matches!(error, CallError::Deferred { .. }), "{error:?}");
    assert_eq!(error.execution(), Execution::Unknown);
    let ticket = error.ticket().expect("it goes on").clone();
    assert!(ticket.try_take::<u64, Refused, _>().is_none());
    let server = Server::start(&folder.file("server.db"), &address).await;
    let noted: Result<u64, CallError<Refused>> = within("the answer", ticket.wait()).await;
    assert_eq!(noted.expect("noted"), 1);
    assert_eq!(server.notes(), [7]);
}

#[tokio::test]
async fn a_key_finds_its_call_after_a_restart_of_the_client() {
    let World { folder, server, client: node, ledger } = World::new(TCP).await;
    assert_eq!(ledger.note(1, How::Well).key("order-1").await.expect("noted"), 1);
    assert_eq!(ledger.note(2, How::Well).await.expect("noted"), 2);
    assert_eq!(ledger.note(1, How::Well).key("order-1").await.expect("the same"), 1);
    drop(ledger);
    node.shutdown(Duration::from_secs(5)).await.expect("nothing is under way");
    drop(node);
    let node = client(&folder.file("client.db"));
    let ledger: LedgerProxy = node.lookup(server.url()).await.expect("bound");
    assert_eq!(ledger.note(1, How::Well).key("order-1").await.expect("the same"), 1);
    let error = ledger.note(3, How::Well).key("order-1").await.expect_err("another call");
    assert!(matches!(&error, CallError::KeyConflict { key } if &**key == "order-1"), "{error:?}");
    holds("a_key_finds_its_call_after_a_restart_of_the_client", &error);
    let listed = node.recovered().expect("a store").all().await.expect("the store works");
    assert!(listed.is_empty(), "its caller has the result: {listed:?}");
    assert!(node.forget("order-1").await.expect("forgotten"));
    assert!(!node.forget("order-1").await.expect("nothing"));
    assert_eq!(ledger.note(3, How::Well).key("order-1").await.expect("a new call"), 3);
    assert_eq!(server.notes(), [1, 2, 3]);
}

#[tokio::test]
async fn unfinished_calls_are_completed_after_a_restart_and_listed() {
    let folder = Folder::new("exactly-once");
    let server = Server::start(&folder.file("server.db"), TCP).await;
    let (url, address) = (server.url(), server.address());
    server.stop().await;
    let node = client(&folder.file("client.db"));
    let ledger: LedgerProxy = node.proxy(&*url).expect("an address");
    for number in 1..=3 {
        let how = if number == 2 { How::Refuse } else { How::Well };
        ledger.note(number, how).start().await.expect("saved").detach();
    }
    drop((ledger, node));
    let node = client(&folder.file("client.db"));
    assert_eq!(node.unfinished(), 3);
    let mut recovered = pin!(node.recovered().expect("a store"));
    let server = Server::start(&folder.file("server.db"), &address).await;
    let mut results = Vec::new();
    let mut next = async || poll_fn(|cx| recovered.as_mut().poll_next(cx)).await;
    while let Some(call) = within("a call", next()).await {
        let call = call.expect("the store works");
        assert_eq!(call.method(), "note");
        results.push(call.decode::<u64, Refused, _>().map_err(|error| error.execution()));
        call.forget().await.expect("forgotten");
    }
    results.sort_by_key(|result| result.unwrap_or_default());
    assert_eq!(results, [Err(Execution::Executed), Ok(1), Ok(2)]);
    assert_eq!(server.notes(), [1, 3]);
    let left = node.recovered().expect("a store").all().await.expect("the store works");
    assert_eq!(left.len(), 0);
}

#[tokio::test]
async fn without_a_store_an_exactly_once_object_is_refused_at_once() {
    let World { folder: _folder, server, .. } = World::new(TCP).await;
    let error = farcall::connect::<LedgerProxy>(server.url()).await.expect_err("no store");
    holds("without_a_store_an_exactly_once_object_is_refused_at_once", &error);
    let node = Node::builder().build();
    let error = node.proxy::<LedgerProxy>(server.url()).expect_err("no store");
    assert!(error.to_string().contains("store"), "{error}");
    let error = node.registry().bind("ledger", server.book.clone()).expect_err("no store");
    assert!(matches!(error, farcall::RegistryError::NoStore { .. }), "{error:?}");
    let error = farcall::serve(TCP, "ledger", server.book.clone()).await.expect_err("no store");
    assert!(error.to_string().contains("no store"), "{error}");
}

#[tokio::test]
async fn what_is_enqueued_goes_with_its_transaction() {
    let World { folder, server, client, ledger } = World::new(TCP).await;
    let store = client.store().expect("it was given");
    let tx = store.transaction().await.expect("the writer is free");
    tx.execute("create table mine (number integer)", []).expect("made");
    tx.execute("insert into mine values (1)", []).expect("written");
    let ticket = ledger.note(1, How::Well).enqueue(&tx).expect("saved");
    assert_eq!(ticket.number(), None);
    tx.commit().await.expect("committed");
    let noted: Result<u64, CallError<Refused>> = within("the answer", ticket.wait()).await;
    assert_eq!(noted.expect("noted"), 1);

    let tx = store.transaction().await.expect("the writer is free");
    tx.execute("insert into mine values (2)", []).expect("written");
    ledger.note(2, How::Well).enqueue(&tx).expect("saved");
    tx.roll_back();
    let tx = store.transaction().await.expect("the writer is free");
    ledger.note(3, How::Well).enqueue(&tx).expect("saved");
    drop(tx);
    assert_eq!(ledger.note(4, How::Well).await.expect("noted"), 2);
    assert_eq!(server.notes(), [1, 4]);
    assert_eq!(rows(&folder.file("client.db"), "mine"), 1);
    let tx = store.transaction().await.expect("the writer is free");
    let error = ledger.count().enqueue(&tx).expect_err("it promises less");
    assert!(matches!(error, CallError::NotDurable { method: "count" }), "{error:?}");
}

#[tokio::test]
async fn nothing_is_enqueued_in_a_transaction_of_another_store() {
    let World { folder, client, ledger, .. } = World::new(TCP).await;
    let other = SqliteStore::open(folder.file("other.db")).expect("it opens");
    let tx = other.transaction().await.expect("the writer is free");
    let error = ledger.note(1, How::Well).enqueue(&tx).expect_err("not this node's store");
    assert!(matches!(error, CallError::Store { .. }), "{error:?}");
    assert_eq!(error.execution(), Execution::NotExecuted);
    assert!(error.to_string().contains("another store"), "{error}");
    tx.commit().await.expect("committed");
    assert_eq!(rows(&folder.file("other.db"), "farcall_request"), 0);
    assert_eq!(client.unfinished(), 0);
}

#[tokio::test]
async fn a_call_whose_save_commits_after_its_node_has_ended_says_so() {
    let World { folder, server, client, ledger } = World::new(TCP).await;
    let store = client.store().expect("it was given");
    let tx = store.transaction().await.expect("the writer is free");
    let ticket = ledger.note(1, How::Well).enqueue(&tx).expect("saved");
    drop((ledger, client));
    tx.commit().await.expect("committed");
    let result: Result<u64, CallError<Refused>> = within("the end", ticket.wait()).await;
    let error = result.expect_err("nobody sends it");
    assert!(matches!(error, CallError::Closed { execution: Execution::Unknown }), "{error:?}");
    drop(store);
    let _client = client_with(&folder.file("client.db"), Limits::default());
    eventually("it goes on when the store is opened again", || server.notes() == [1]).await;
}

#[tokio::test]
async fn a_second_node_of_a_store_lists_what_the_first_has_left_and_ends() {
    let World { folder: _folder, server, client, ledger } = World::new(TCP).await;
    let address = server.address();
    let file = server.path().to_owned();
    server.stop().await;
    ledger.note(1, How::Well).start().await.expect("saved").detach();
    let store = client.store().expect("it was given");
    drop((ledger, client));
    let node = Node::builder().store(store).build();
    assert_eq!(node.unfinished(), 1);
    let _server = Server::start(&file, &address).await;
    let recovered = node.recovered().expect("a store");
    let calls = within("the end", recovered.all()).await.expect("the store works");
    assert_eq!(calls.len(), 1);
}

#[tokio::test]
async fn a_chain_of_servers_keeps_the_promise() {
    let World { folder, server, ledger, .. } = World::new(TCP).await;
    let last = Server::start(&folder.file("last.db"), TCP).await;
    let next = server.node.proxy(last.url()).expect("an address");
    server.book.next.set(next).expect("set once");
    for number in 1..=5 {
        ledger.note(number, How::PassOn).await.expect("noted");
    }
    eventually("all have arrived", || last.notes() == [1, 2, 3, 4, 5]).await;
    assert_eq!(server.notes(), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_cancelled_call_never_runs_or_has_its_result() {
    let folder = Folder::new("exactly-once");
    let server = Server::start(&folder.file("server.db"), TCP).await;
    let (url, address) = (server.url(), server.address());
    let node = client(&folder.file("client.db"));
    let ledger: LedgerProxy = node.lookup(&*url).await.expect("bound");
    assert_eq!(ledger.note(1, How::Well).await.expect("noted"), 1);
    server.stop().await;
    // Its server has been there: only it can say that the call did not run.
    let pending = ledger.note(2, How::Well).start().await.expect("saved");
    let ticket = pending.ticket().expect("a saved call").clone();
    ticket.cancel();
    let server = Server::start(&folder.file("server.db"), &address).await;
    let result: Result<u64, CallError<Refused>> = within("the end", ticket.wait()).await;
    match result {
        Ok(_) => assert_eq!(server.notes(), [1, 2]),
        Err(error) => {
            holds("a_cancelled_call_never_runs_or_has_its_result", &error);
            assert_eq!(server.notes(), [1]);
        }
    }
    // Nobody has ever heard of this server: the call ends at once.
    let nowhere: LedgerProxy = node.proxy("tcp://127.0.0.1:1/ledger").expect("an address");
    let pending = nowhere.note(3, How::Well).start().await.expect("saved");
    let error = within("the end", pending.cancel()).await.expect_err("cancelled");
    holds("a_cancelled_call_never_runs_or_has_its_result", &error);
    assert_eq!(node.unfinished(), 0);
}

#[tokio::test]
async fn a_call_that_was_cancelled_while_its_object_is_away_never_runs() {
    let World { folder: _folder, server, client, ledger } = World::new(TCP).await;
    assert_eq!(ledger.note(1, How::Well).await.expect("noted"), 1);
    server.node.registry().unbind("ledger").expect("it was bound");
    let pending = ledger.note(2, How::Well).start().await.expect("saved");
    let ticket = pending.ticket().expect("a saved call").clone();
    ticket.cancel();
    let result: Result<u64, CallError<Refused>> = within("the end", ticket.wait()).await;
    let error = result.expect_err("only the fence finds somebody");
    assert!(
        matches!(error, CallError::Cancelled { execution: Execution::NotExecuted }),
        "{error:?}"
    );
    server.node.registry().bind("ledger", server.book.clone()).expect("free");
    assert_eq!(ledger.note(3, How::Well).await.expect("noted"), 2);
    assert_eq!(server.notes(), [1, 3]);
    assert_eq!(client.unfinished(), 0);
}

#[tokio::test]
async fn a_key_is_free_as_soon_as_its_call_is_known_not_to_have_run() {
    let folder = Folder::new("exactly-once");
    let server = Server::start_with(&folder.file("server.db"), TCP, hasty()).await;
    // What became of the first call is noted in the commit that saves the second.
    let limits = Limits { settle_delay: Duration::from_secs(60), ..Limits::default() };
    let node = client_with(&folder.file("client.db"), limits);
    let ledger: LedgerProxy = node.lookup(server.url()).await.expect("bound");
    let attempts = Limits::default().handler_attempts;
    let note = || ledger.note(1, How::Fail(attempts)).key("order-1");
    let error = note().await.expect_err("it fails each time");
    assert!(matches!(error, CallError::RolledBack { .. }), "{error:?}");
    assert_eq!(within("the answer", note()).await.expect("noted"), 1);
    assert_eq!(note().await.expect("the same call"), 1);
    assert_eq!(server.notes(), [1]);
}

#[tokio::test]
async fn both_stores_forget_what_both_have_finished() {
    let World { folder, server, ledger, client } = World::new(TCP).await;
    for number in 1..=200 {
        ledger.note(number, How::Well).await.expect("noted");
    }
    let (client_file, server_file) = (folder.file("client.db"), folder.file("server.db"));
    eventually("the journal is empty", || rows(&client_file, "farcall_request") == 0).await;
    eventually("the inbox is empty", || rows(&server_file, "farcall_inbox") == 0).await;
    assert_eq!(server.notes().len(), 200);
    drop(client);
}

#[tokio::test]
async fn a_call_to_a_server_that_never_answers_lets_other_servers_forget() {
    let folder = Folder::new("exactly-once");
    let limits = Limits { inbox_rows: 8, ..Limits::default() };
    let server = Server::start_with(&folder.file("server.db"), TCP, limits).await;
    let inbox = folder.file("server.db");
    for run in 0..2 {
        // A second run finds the call in its journal.
        let node = client(&folder.file("client.db"));
        if run == 0 {
            let nowhere: LedgerProxy = node.proxy("tcp://127.0.0.1:1/ledger").expect("an address");
            nowhere.note(1000, How::Well).start().await.expect("saved").detach();
        }
        let ledger: LedgerProxy = node.lookup(server.url()).await.expect("bound");
        for number in 10 * run + 1..=10 * run + 10 {
            let noted = within("a note", ledger.note(number, How::Well)).await;
            assert_eq!(noted.expect("there is room again"), number);
        }
        eventually("the inbox is empty", || rows(&inbox, "farcall_inbox") == 0).await;
        assert_eq!(node.unfinished(), 1);
    }
    assert_eq!(server.notes().len(), 20);
}

#[tokio::test]
async fn a_replaced_store_is_noticed_and_accepted_only_by_the_program() {
    let World { folder, server, client, ledger } = World::new(TCP).await;
    assert_eq!(ledger.note(1, How::Well).await.expect("noted"), 1);
    let address = server.address();
    server.stop().await;
    let sent = ledger.note(2, How::Well).start().await.expect("saved");
    let server = Server::start(&folder.file("another.db"), &address).await;
    let error = within("the end", sent).await.expect_err("nobody can say");
    holds("a_replaced_store_is_noticed_and_accepted_only_by_the_program", &error);
    let waiting = ledger.note(3, How::Well).timeout(Duration::from_millis(100));
    let error = waiting.await.expect_err("not before it is accepted");
    let ticket = error.ticket().cloned();
    assert_eq!(server.notes(), []);
    client.accept_store(&*address).await.expect("a store");
    if let Some(ticket) = ticket {
        let noted: Result<u64, CallError<Refused>> = within("the answer", ticket.wait()).await;
        noted.expect("noted");
    }
    ledger.note(4, How::Well).await.expect("noted");
    assert!(notes(&folder.file("another.db")).ends_with(&[4]));
}

#[tokio::test]
async fn limits_of_the_journal_are_clear_errors() {
    let folder = Folder::new("exactly-once");
    let limits = Limits { journal_rows: 2, ..Limits::default() };
    let node = client_with(&folder.file("client.db"), limits);
    let ledger: LedgerProxy = node.proxy("tcp://127.0.0.1:1/ledger").expect("an address");
    ledger.note(1, How::Well).start().await.expect("saved").detach();
    ledger.note(2, How::Well).start().await.expect("saved").detach();
    let error = ledger.note(3, How::Well).start().await.expect_err("full");
    holds("limits_of_the_journal_are_clear_errors", &error);
    let error = ledger.count().key("k").await.expect_err("it promises less");
    assert!(matches!(error, CallError::NotDurable { method: "count" }), "{error:?}");
}

#[tokio::test]
async fn one_node_at_a_time_makes_calls_from_a_store() {
    let World { folder: _folder, server, client, ledger } = World::new(TCP).await;
    ledger.note(1, How::Well).await.expect("noted");
    let store = client.store().expect("it was given");
    let second = Node::builder().store(store.clone()).build();
    let error = second.lookup::<LedgerProxy>(server.url()).await.expect_err("it has an owner");
    assert!(matches!(error, CallError::Store { .. }), "{error:?}");
    drop((ledger, client, second));
    let third = Node::builder().store(store).build();
    let ledger: LedgerProxy = third.lookup(server.url()).await.expect("bound");
    assert_eq!(ledger.note(2, How::Well).await.expect("noted"), 2);
}

#[test]
fn transactions_are_those_of_calls() {
    let error = farcall::sqlite::transaction().expect_err("no call");
    assert!(error.to_string().contains("SqliteStore::transaction"), "{error}");
    let folder = Folder::new("exactly-once");
    let first = SqliteStore::open(folder.file("one.db")).expect("it opens");
    let second = SqliteStore::open(folder.file("one.db")).expect_err("one owner");
    assert!(matches!(second, farcall::StoreError::Locked { .. }), "{second:?}");
    drop(first);
}
