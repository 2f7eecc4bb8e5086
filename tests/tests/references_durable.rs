//! References and exactly-once calls: what is saved by its name, what is refused, and what a handler may do with it.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use farcall::{CallError, Listening, Node, SqliteStore, remote};
use farcall_tests::failure_table::Table;
use farcall_tests::ledger::{Folder, rows};
use farcall_tests::service::within;

/// Writes numbers down.
#[remote(semantics = "exactly_once")]
pub trait Book {
    /// Once.
    async fn note(&self, number: u64);
}

/// Hears numbers.
#[remote]
pub trait Ear {
    /// At once.
    async fn hear(&self, number: u64) -> u64;
}

/// Hands numbers on.
#[remote(semantics = "exactly_once")]
pub trait Clerk {
    /// To a book, in the transaction that records the call.
    async fn hand_on(&self, number: u64, book: BookProxy);
    /// To the ear that it keeps, which fails.
    async fn call_back(&self, number: u64);
    /// Takes an ear.
    async fn listen(&self, ears: Vec<EarProxy>);
    /// Keeps an ear.
    #[remote(semantics = "at_most_once")]
    async fn keep(&self, ear: EarProxy);
}

struct Pages;

#[remote]
impl Book for Pages {
    async fn note(&self, number: u64) -> Result<(), CallError> {
        farcall::sqlite::transaction()?
            .execute("insert into note (number) values (?1)", [number.cast_signed()])?;
        Ok(())
    }
}

#[derive(Default)]
struct Heard(AtomicU64);

#[remote]
impl Ear for Heard {
    async fn hear(&self, number: u64) -> u64 {
        self.0.fetch_add(number, Ordering::SeqCst) + number
    }
}

#[derive(Default)]
struct Desk {
    kept: Mutex<Option<EarProxy>>,
    told: Arc<Mutex<Option<CallError>>>,
}

#[remote]
impl Clerk for Desk {
    async fn hand_on(&self, number: u64, book: BookProxy) -> Result<(), CallError> {
        let tx = farcall::sqlite::transaction()?;
        book.note(number).enqueue(&tx)?;
        Ok(())
    }
    async fn call_back(&self, number: u64) -> Result<(), CallError> {
        let kept = self.kept.lock().expect("no panic").clone().expect("it was kept");
        let error = kept.hear(number).await.map(drop);
        *self.told.lock().expect("no panic") = error.clone().err();
        error
    }
    async fn listen(&self, ears: Vec<EarProxy>) {
        drop(ears);
    }
    async fn keep(&self, ear: EarProxy) {
        *self.kept.lock().expect("no panic") = Some(ear);
    }
}

/// A server with a book, a clerk and an ear, all with names.
async fn serve(database: &Path, address: &str) -> (Listening, Arc<Mutex<Option<CallError>>>) {
    let store = SqliteStore::open(database).expect("a database");
    let tx = store.transaction().await.expect("the writer is free");
    tx.execute("create table if not exists note (number integer)", []).expect("made");
    tx.commit().await.expect("committed");
    let node = Node::builder().store(store).build();
    let desk = Desk::default();
    let told = desk.told.clone();
    node.registry().bind("clerk", desk).expect("a free name");
    node.registry().bind("book", Pages).expect("a free name");
    node.registry().bind("ear", Heard::default()).expect("a free name");
    (node.listen(address).await.expect("a free port"), told)
}

fn client(database: &Path) -> Node {
    Node::builder().store(SqliteStore::open(database).expect("a database")).build()
}

/// Compares with the table.
fn holds(test: &str, error: &CallError) {
    Table::REFERENCES.holds(test, error);
}

#[tokio::test]
async fn only_enqueue_is_allowed_in_an_exactly_once_handler() {
    for scheme in ["tcp", "udp"] {
        let folder = Folder::new("references-handler");
        let address = format!("{scheme}://127.0.0.1:0");
        let (server, told) = serve(&folder.file("server.db"), &address).await;
        let client = client(&folder.file("client.db"));
        let clerk: ClerkProxy = client.lookup(server.url("clerk")).await.expect("bound");
        let heard = Arc::new(Heard::default());
        clerk.keep(client.export(heard.clone())).await.expect("kept");
        let error = clerk.call_back(1).await.expect_err("it fails each time");
        assert!(matches!(error, CallError::RolledBack { .. }), "{error:?}");
        assert!(error.to_string().contains("enqueue"), "{error}");
        let told = told.lock().expect("no panic").take().expect("the handler was told");
        holds("only_enqueue_is_allowed_in_an_exactly_once_handler", &told);
        assert!(told.to_string().contains(".enqueue(&tx)"), "{told}");
        assert_eq!(heard.0.load(Ordering::SeqCst), 0, "nothing was called back");
    }
}

#[tokio::test]
async fn a_reference_to_a_name_is_saved_and_resolved_again_after_restarts() {
    let folder = Folder::new("references-saved");
    let (database, own) = (folder.file("server.db"), folder.file("client.db"));
    let (server, _) = serve(&database, "tcp://127.0.0.1:0").await;
    let address = server.addr().to_string();
    let first = client(&own);
    let clerk: ClerkProxy = first.lookup(server.url("clerk")).await.expect("bound");
    let book: BookProxy = first.lookup(server.url("book")).await.expect("bound");
    clerk.hand_on(1, book.clone()).await.expect("handed on");
    server.shutdown(std::time::Duration::ZERO).await.ok();
    drop(server);
    // Saved while nobody serves; the client ends before anybody does again.
    let saved = clerk.hand_on(2, book.clone()).key("two").start().await.expect("saved");
    drop((saved, clerk, book));
    first.shutdown(std::time::Duration::ZERO).await.ok();
    drop(first);
    let second = client(&own);
    assert_eq!(second.unfinished(), 1);
    let (server, _) = serve(&database, &address).await;
    let recovered = within("the end", second.recovered().expect("a store").all()).await;
    assert_eq!(recovered.expect("read").len(), 1);
    let done = async {
        while rows(&database, "note") < 2 || server.node().unfinished() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    within("both notes", done).await;
    assert_eq!(rows(&database, "note"), 2);
}

#[tokio::test]
async fn what_has_no_name_at_the_server_is_refused_before_it_is_saved() {
    let folder = Folder::new("references-refused");
    let (server, _) = serve(&folder.file("server.db"), "tcp://127.0.0.1:0").await;
    let (other, _) = serve(&folder.file("other.db"), "tcp://127.0.0.1:0").await;
    let client = client(&folder.file("client.db"));
    client.registry().bind("ear", Heard::default()).expect("a free name");
    let clerk: ClerkProxy = client.lookup(server.url("clerk")).await.expect("bound");
    let named: EarProxy = client.lookup(server.url("ear")).await.expect("bound");
    let unnamed: EarProxy = client.export(Heard::default());
    let elsewhere: EarProxy = client.lookup(other.url("ear")).await.expect("bound");
    let own: EarProxy = client.own("ear").expect("a runtime");
    for (refused, reason) in
        [(unnamed, "without a name"), (elsewhere, "somewhere else"), (own, "somewhere else")]
    {
        let error = clerk.listen(vec![named.clone(), refused]).await.expect_err("not saved");
        holds("what_has_no_name_at_the_server_is_refused_before_it_is_saved", &error);
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(client.unfinished(), 0);
    }
    clerk.listen(vec![named.clone(), named]).await.expect("both are by name");
}

#[tokio::test]
async fn an_object_without_a_name_has_no_exactly_once_calls() {
    let folder = Folder::new("references-unnamed");
    let (server, _) = serve(&folder.file("server.db"), "tcp://127.0.0.1:0").await;
    let client = client(&folder.file("client.db"));
    let unnamed: BookProxy = client.export(Pages);
    let error = unnamed.note(1).await.expect_err("it has no name");
    holds("an_object_without_a_name_has_no_exactly_once_calls", &error);
    assert!(error.to_string().contains("by its name"), "{error}");
    assert_eq!(client.unfinished(), 0);
    drop(server);
}

#[tokio::test]
async fn a_node_calls_its_own_objects_exactly_once() {
    let folder = Folder::new("references-own");
    let database = folder.file("server.db");
    let (server, _) = serve(&database, "tcp://127.0.0.1:0").await;
    let book: BookProxy = server.node().own("book").expect("a runtime");
    within("the answer", book.note(7)).await.expect("noted");
    assert_eq!(rows(&database, "note"), 1);
}
