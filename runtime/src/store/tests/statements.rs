//! What the program's statements may do, and when.

use super::*;
use crate::sqlite::{Error, params};
use crate::store::in_transaction;

/// What a statement comes to in a handler.
fn attempt(store: &SqliteStore, sql: &'static str) -> Result<usize, Error> {
    let outcome = run(store, move |db| {
        // `execute` refuses rows; a query runs anything.
        Ok(db.lend(|| {
            let rows = sqlite::transaction()?.query_map(sql, [], |_| Ok(()))?;
            Ok(rows.len())
        }))
    });
    outcome.expect("the handler itself does not fail")
}

#[test]
fn a_handler_cannot_end_its_transaction_nor_change_the_connection() {
    let folder = Folder::new();
    let store = folder.bank();
    for denied in [
        "commit",
        "COMMIT",
        "end transaction",
        "rollback",
        "begin",
        "begin immediate",
        "savepoint mine",
        "release c",
        "rollback to c",
        "attach ':memory:' as other",
        "detach main",
        "pragma journal_mode = delete",
        "pragma synchronous = off",
        "pragma foreign_keys = off",
        "pragma defer_foreign_keys = on",
        "pragma writable_schema = on",
        "pragma wal_checkpoint",
        "select * from pragma_foreign_keys",
    ] {
        let result = attempt(&store, denied);
        assert!(matches!(result, Err(Error::Denied { .. })), "{denied}: {result:?}");
    }
    for refused in ["vacuum", "select 1; commit", "select load_extension('x')"] {
        let result = attempt(&store, refused);
        assert!(result.is_err(), "{refused}: {result:?}");
    }
    assert_eq!(cents(&store, "alice"), 100);
}

#[test]
fn the_tables_of_farcall_cannot_be_reached() {
    let folder = Folder::new();
    let store = folder.bank();
    for denied in [
        "select * from farcall_inbox",
        "select count(*) from farcall_inbox",
        "select max(seq) from FARCALL_REQUEST",
        "select name, (select epoch from farcall_meta) from account",
        "with x as (select 1 from main.farcall_meta) select * from x",
        "delete from farcall_inbox",
        "update farcall_meta set epoch = 1",
        "insert into farcall_inbox values (1, 1, null, 0, null, x'')",
        "insert into account select store, 1 from farcall_meta",
        "drop table farcall_inbox",
        "alter table farcall_inbox add column x",
        "alter table farcall_inbox rename to mine",
        "create table farcall_mine (x)",
        "create temp table farcall_inbox (x)",
        "create temp view farcall_inbox as select 1",
        "create index mine on farcall_inbox (seq)",
        "drop index farcall_request_key",
        "create trigger mine after insert on farcall_inbox begin select 1; end",
        "create temp trigger mine after insert on farcall_inbox begin select 1; end",
        "reindex farcall_request_key",
        "analyze farcall_inbox",
    ] {
        let result = attempt(&store, denied);
        assert!(matches!(result, Err(Error::Denied { .. })), "{denied}: {result:?}");
    }
}

#[test]
fn neither_a_view_nor_a_trigger_nor_a_renamed_table_leads_to_farcalls() {
    let folder = Folder::new();
    let store = folder.bank();
    attempt(&store, "create view spy as select * from farcall_meta").expect("it is a mere text");
    assert!(matches!(attempt(&store, "select * from spy"), Err(Error::Denied { .. })));
    let trigger =
        "create trigger strike after update on account begin delete from farcall_meta; end";
    attempt(&store, trigger).expect("it is a mere text");
    let struck = attempt(&store, "update account set cents = 0");
    assert!(matches!(struck, Err(Error::Denied { .. })), "{struck:?}");
    attempt(&store, "drop trigger strike").expect("it is the program's");

    // In SQLite a temporary table hides another of the same name.
    attempt(&store, "create temp table mine as select * from account").expect("it may");
    let _ = attempt(&store, "alter table temp.mine rename to farcall_registration");
    let found = run(&store, |db| {
        db.put_registration(&registration(1))?;
        db.registration(RegistrationId(1))
    });
    assert_eq!(found.expect("it goes to the right table"), Some(registration(1)));
}

/// A statement that is in the cache is not judged again, and the cache goes by the text.
#[test]
fn the_text_of_a_statement_of_farcalls_leads_nowhere() {
    let folder = Folder::new();
    let store = folder.bank();
    run(&store, |db| db.registrations()).expect("now it is in the cache");
    for text in [
        "/*farcall*/ select count(*) from main.farcall_registration",
        "  \n/*farcall*/ select count(*) from main.farcall_registration ",
        "\u{a0}/*farcall*/ select count(*) from main.farcall_registration",
        "select count(*) from main.farcall_registration",
        "/*farcall*/ commit",
        "/*farcall*/ release c",
    ] {
        let result = attempt(&store, text);
        assert!(matches!(result, Err(Error::Denied { .. })), "{text}: {result:?}");
    }
}

#[test]
fn full_text_search_works() {
    let folder = Folder::new();
    let store = folder.bank();
    for sql in [
        "create virtual table note using fts5 (text)",
        "insert into note values ('paid in full')",
        "update note set text = 'paid in part'",
    ] {
        attempt(&store, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    assert_eq!(attempt(&store, "select * from note where note match 'part'").ok(), Some(1));
}

#[test]
fn there_is_no_transaction_outside_a_handler() {
    let folder = Folder::new();
    let store = folder.bank();
    assert!(matches!(sqlite::transaction(), Err(Error::NoTransaction)));
    assert!(!in_transaction());
    let seen = run(&store, |db| {
        let before = in_transaction();
        let inside = db.lend(|| (in_transaction(), sqlite::transaction().is_ok()));
        Ok((before, inside, in_transaction(), sqlite::transaction().is_err()))
    });
    assert_eq!(seen.expect("it only looks"), (false, (true, true), false, true));
    let _turn = hold(&store);
    assert!(matches!(sqlite::transaction(), Err(Error::NoTransaction)));
}

#[test]
fn a_handle_that_outlives_its_call_does_nothing() {
    let folder = Folder::new();
    let store = folder.bank();
    let results = run(&store, |db| {
        let leaked = db.lend(|| sqlite::transaction().expect("this is a handler"));
        let directly = leaked.execute(DEPOSIT, ["bob"]);
        let in_the_next = db.lend(|| leaked.execute(DEPOSIT, ["bob"]));
        Ok([directly, in_the_next, leaked.with(|_| 0)])
    });
    for result in results.expect("the work itself does not fail") {
        assert!(matches!(result, Err(Error::TransactionEnded)), "{result:?}");
    }
    assert_eq!(cents(&store, "bob"), 0);
}

#[test]
fn a_statement_inside_a_statement_is_an_error() {
    let folder = Folder::new();
    let store = folder.bank();
    let inner = run(&store, |db| {
        handler(db, |tx| {
            let again = |_: &sqlite::Row<'_>| Ok(tx.execute(DEPOSIT, ["bob"]));
            let mut rows = tx.query_map("select 1", [], again)?;
            let other = sqlite::transaction()?;
            let more = |_: &sqlite::Row<'_>| Ok(other.execute(DEPOSIT, ["bob"]));
            rows.extend(tx.query_map("select 1", [], more)?);
            Ok(rows)
        })
    });
    for result in inner.expect("the outer statements do not fail") {
        assert!(matches!(result, Err(Error::InUse)), "{result:?}");
    }
}

#[test]
fn a_row_that_panics_leaves_the_transaction_usable_and_guarded() {
    let folder = Folder::new();
    let store = folder.bank();
    let after = run(&store, |db| {
        let panicked = db.lend(|| {
            let tx = sqlite::transaction()?;
            let read = |_: &sqlite::Row<'_>| -> rusqlite::Result<()> { panic!("a test") };
            let row = || tx.query_row("select 1", [], read);
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(row));
            assert!(caught.is_err());
            assert!(matches!(tx.execute("commit", []), Err(Error::Denied { .. })));
            tx.execute(DEPOSIT, ["bob"])
        });
        // The store's own statements are not the program's.
        db.put_registration(&registration(1))?;
        Ok(panicked.is_ok())
    });
    assert!(after.expect("the work goes on"));
    assert_eq!(cents(&store, "bob"), 1);
}

#[test]
fn every_kind_of_statement_gives_what_it_says() {
    let folder = Folder::new();
    let store = folder.bank();
    let checked = run(&store, |db| {
        handler(db, |tx| {
            tx.execute_batch("create table note (id integer primary key, text text)")?;
            assert_eq!(tx.execute("insert into note (text) values (?1)", ["first"])?, 1);
            assert_eq!(tx.last_insert_rowid()?, 1);
            let values = params!["second", 7];
            tx.execute("insert into note (text, id) values (?1, ?2)", values)?;
            let texts = tx.query_map("select text from note order by id", [], |row| {
                row.get::<_, String>(0)
            })?;
            assert_eq!(texts, ["first", "second"]);
            let one = "select id from note where text = ?1";
            assert_eq!(tx.query_row(one, ["second"], |row| row.get::<_, i64>(0))?, 7);
            let none = tx.query_optional(one, ["third"], |row| row.get::<_, i64>(0))?;
            assert_eq!(none, None);
            let first = tx.query_optional(one, ["first"], |row| row.get::<_, i64>(0))?;
            assert_eq!(first, Some(1));
            let missing = tx.query_row(one, ["third"], |row| row.get::<_, i64>(0));
            let expected = rusqlite::Error::QueryReturnedNoRows;
            assert!(matches!(missing, Err(Error::Sqlite(error)) if error == expected));
            Ok(())
        })
    });
    checked.expect("all of these work");
}
