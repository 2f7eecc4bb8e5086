//! Databases that are copied, restored or replaced under exactly-once calls: it is noticed, and nothing runs silently.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use farcall::{CallError, Execution, remote};
use farcall_tests::failure_table::Table;
use farcall_tests::ledger::{Folder, How, LedgerProxy, Server, client, notes};
use farcall_tests::service::within;

const TCP: &str = "tcp://127.0.0.1:0";

/// Copies a database that nobody has open.
fn copy(from: &Path, to: &Path) {
    for end in ["", "-wal", "-shm"] {
        let name = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            name
        };
        let _ = std::fs::remove_file(name(to));
        if Path::new(&name(from)).exists() {
            std::fs::copy(name(from), name(to)).expect("it is a file");
        }
    }
}

/// Compares with the table.
fn holds<E: Debug>(test: &str, error: &CallError<E>) {
    Table::EXACTLY_ONCE.holds(test, error);
}

#[tokio::test]
async fn a_server_that_is_restored_from_an_old_copy_runs_nothing_silently() {
    let folder = Folder::new("copies");
    let (file, old) = (folder.file("server.db"), folder.file("old.db"));
    let server = Server::start(&file, TCP).await;
    let address = server.address();
    let node = client(&folder.file("client.db"));
    let ledger: LedgerProxy = node.lookup(server.url()).await.expect("bound");
    ledger.note(1, How::Well).await.expect("noted");
    server.stop().await;
    copy(&file, &old);
    let server = Server::start(&file, &address).await;
    ledger.note(2, How::Well).await.expect("noted");
    server.stop().await;
    let sent = ledger.note(3, How::Well).start().await.expect("saved");
    copy(&old, &file);
    let server = Server::start(&file, &address).await;
    let error = within("the end", sent).await.expect_err("the store has forgotten an effect");
    holds("a_server_that_is_restored_from_an_old_copy_runs_nothing_silently", &error);
    assert!(error.to_string().contains("accept_store"), "{error}");
    assert_eq!(server.notes(), [1], "nothing ran on the old copy");
    node.accept_store(&*address).await.expect("a store");
    ledger.note(4, How::Well).await.expect("noted");
    assert_eq!(server.notes(), [1, 4]);
}

#[tokio::test]
async fn of_two_copies_of_a_journal_the_later_one_is_fenced() {
    let folder = Folder::new("copies");
    let (file, copied) = (folder.file("client.db"), folder.file("copied.db"));
    let server = Server::start(&folder.file("server.db"), TCP).await;
    let node = client(&file);
    let ledger: LedgerProxy = node.lookup(server.url()).await.expect("bound");
    ledger.note(1, How::Well).key("one").await.expect("noted");
    drop((ledger, node));
    copy(&file, &copied);
    let (node, other) = (client(&file), client(&copied));
    let ledger: LedgerProxy = node.lookup(server.url()).await.expect("bound");
    ledger.note(2, How::Well).await.expect("noted");
    let twin: LedgerProxy = other.lookup(server.url()).await.expect("bound");
    let error = within("the end", twin.note(3, How::Well)).await.expect_err("it is a copy");
    holds("of_two_copies_of_a_journal_the_later_one_is_fenced", &error);
    let error = twin.note(4, How::Well).await.expect_err("it is a copy");
    assert_eq!(error.execution(), Execution::NotExecuted, "it was not even saved: {error:?}");
    assert!(error.to_string().contains("opened again"), "{error}");
    ledger.note(5, How::Well).await.expect("the owner goes on");
    assert_eq!(server.notes(), [1, 2, 5]);
}

#[tokio::test]
async fn a_journal_that_is_restored_from_an_old_copy_sends_nothing() {
    let folder = Folder::new("copies");
    let (file, old) = (folder.file("client.db"), folder.file("old.db"));
    let server = Server::start(&folder.file("server.db"), TCP).await;
    let node = client(&file);
    let ledger: LedgerProxy = node.lookup(server.url()).await.expect("bound");
    ledger.note(1, How::Well).await.expect("noted");
    drop((ledger, node));
    copy(&file, &old);
    for number in 2..4 {
        let node = client(&file);
        let ledger: LedgerProxy = node.lookup(server.url()).await.expect("bound");
        ledger.note(number, How::Well).await.expect("noted");
    }
    copy(&old, &file);
    let node = client(&file);
    let ledger: LedgerProxy = node.lookup(server.url()).await.expect("bound");
    let error = within("the end", ledger.note(4, How::Well)).await.expect_err("it is old");
    holds("a_journal_that_is_restored_from_an_old_copy_sends_nothing", &error);
    assert_eq!(server.notes(), [1, 2, 3]);
}

/// As the ledger's, and promises less.
mod weaker {
    use super::{How, remote};
    use farcall_tests::ledger::Refused;

    #[remote(semantics = "at_most_once")]
    pub trait Ledger {
        async fn note(&self, number: u64, how: How) -> Result<u64, Refused>;
        #[remote(semantics = "at_least_once")]
        async fn count(&self) -> u64;
    }

    pub(super) struct Weak;

    #[remote]
    impl Ledger for Weak {
        async fn note(&self, number: u64, _how: How) -> Result<u64, Refused> {
            Ok(number)
        }
        async fn count(&self) -> u64 {
            0
        }
    }
}

#[tokio::test]
async fn a_server_that_promises_less_never_runs_the_call() {
    let folder = Folder::new("copies");
    let server = Server::start(&folder.file("server.db"), TCP).await;
    server.node.registry().rebind("ledger", weaker::Weak).expect("an object");
    let node = client(&folder.file("client.db"));
    let ledger: LedgerProxy = node.lookup(server.url()).await.expect("an object of that name");
    let error = within("the end", ledger.note(1, How::Well)).await.expect_err("it promises less");
    holds("a_server_that_promises_less_never_runs_the_call", &error);
    assert_eq!(node.unfinished(), 0);
}

#[tokio::test]
async fn a_client_that_expects_less_is_not_understood_and_told_so() {
    let folder = Folder::new("copies");
    let server = Server::start(&folder.file("server.db"), TCP).await;
    let node = client(&folder.file("client.db"));
    let ledger: weaker::LedgerProxy = node.proxy(server.url()).expect("an address");
    assert_eq!(within("the answer", ledger.count()).await.expect("as it expects"), 0);
    let error = within("the end", ledger.note(1, How::Well)).await.expect_err("exactly once");
    assert!(matches!(error, CallError::NoSuchMethod(_)), "{error:?}");
    assert_eq!(error.execution(), Execution::NotExecuted);
    assert_eq!(server.notes(), []);
}

#[tokio::test]
async fn an_object_that_is_not_bound_yet_is_waited_for() {
    let folder = Folder::new("copies");
    let server = Server::start(&folder.file("server.db"), TCP).await;
    server.node.registry().unbind("ledger").expect("it was bound");
    let node = client(&folder.file("client.db"));
    let ledger: LedgerProxy = node.proxy(server.url()).expect("an address");
    let call = ledger.note(1, How::Well).timeout(Duration::from_millis(200));
    let error = call.await.expect_err("it is not there yet");
    let ticket = error.ticket().expect("it goes on").clone();
    server.node.registry().bind("ledger", server.book.clone()).expect("free");
    let noted: Result<u64, CallError<farcall_tests::ledger::Refused>> =
        within("the answer", ticket.wait()).await;
    noted.expect("noted");
    assert_eq!(notes(&folder.file("server.db")), [1]);
}

#[test]
fn a_thread_without_a_runtime_waits_as_well() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let folder = Folder::new("copies");
    let server = runtime.block_on(Server::start(&folder.file("server.db"), TCP));
    let ledger: LedgerProxy = runtime.block_on(async {
        client(&folder.file("client.db")).lookup(server.url()).await.expect("bound")
    });
    assert_eq!(ledger.note(1, How::Well).blocking().expect("noted"), 1);
    runtime.block_on(server.stop());
    let call = ledger.note(2, How::Well).timeout(Duration::from_millis(20));
    let error = call.blocking().expect_err("nobody is there");
    assert!(matches!(error, CallError::Deferred { .. }), "{error:?}");
}
