//! The connection, as farcall itself may use it and as the program may.
//!
//! One authorizer is set once and looks at a flag, since setting it makes SQLite prepare every statement again. A
//! statement that is prepared is not looked at any more: so that the program cannot reach one of farcall's through the
//! cache by writing the same text, all texts of farcall begin with [a mark](MARK) that texts of the program must not have.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{CachedStatement, Connection};

use super::StoreError;
use crate::sqlite::Error;

/// The text of a statement of farcall's own.
macro_rules! own {
    ($sql:literal) => {
        concat!("/*farcall*/ ", $sql)
    };
}
pub(super) use own;

/// What [`own!`] puts before each text.
const MARK: &str = "/*farcall*/";

/// Prepared statements that are kept: all of farcall's, about forty, and as many of the program's.
const STATEMENTS: usize = 256;

/// A connection with its guard.
pub(super) struct Guarded {
    connection: Connection,
    /// A statement of the program is being prepared or runs.
    program: Arc<AtomicBool>,
}

impl Guarded {
    pub(super) fn new(connection: Connection) -> Guarded {
        let program = Arc::new(AtomicBool::new(false));
        let flag = program.clone();
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            if flag.load(Ordering::Relaxed) { judge(&context) } else { Authorization::Allow }
        }));
        Guarded { connection, program }
    }

    /// A statement of farcall's own, for use inside a transaction. Outside it would commit by itself.
    pub(super) fn own(&self, sql: &'static str) -> Result<CachedStatement<'_>, StoreError> {
        if self.connection.is_autocommit() {
            return Err(StoreError::RolledBack);
        }
        Ok(self.connection.prepare_cached(sql)?)
    }

    /// Begins or ends a transaction or a savepoint.
    pub(super) fn control(&self, sql: &'static str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    /// Whether a transaction is open.
    pub(super) fn in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Runs a statement of the program.
    pub(super) fn statement<R>(
        &self,
        sql: &str,
        run: impl FnOnce(&mut CachedStatement<'_>) -> rusqlite::Result<R>,
    ) -> Result<R, Error> {
        if sql.trim_start().starts_with(MARK) {
            let reason = "it begins as the statements of farcall do".into();
            return Err(Error::Denied { reason });
        }
        self.program(|connection| run(&mut connection.prepare_cached(sql)?))
    }

    /// Runs several statements of the program, which are not kept.
    pub(super) fn statements(&self, sql: &str) -> Result<(), Error> {
        self.program(|connection| connection.execute_batch(sql))
    }

    /// The id of the row that was inserted last.
    pub(super) fn last_insert_rowid(&self) -> i64 {
        self.connection.last_insert_rowid()
    }

    /// The connection, without a guard.
    #[cfg(test)]
    pub(super) fn bare(&self) -> &Connection {
        &self.connection
    }

    fn program<R>(&self, run: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> Result<R, Error> {
        if self.connection.is_autocommit() {
            return Err(Error::TransactionEnded);
        }
        // A function of the program may panic while it is shown a row.
        let flag = Flag::raise(&self.program);
        let result = run(&self.connection);
        drop(flag);
        match result {
            // Whoever ended the transaction must not go on as if it had not.
            Ok(_) if self.connection.is_autocommit() => Err(Error::TransactionEnded),
            result => Ok(result?),
        }
    }
}

/// The flag is up as long as this lives.
struct Flag<'a>(&'a AtomicBool);

impl Flag<'_> {
    fn raise(flag: &AtomicBool) -> Flag<'_> {
        flag.store(true, Ordering::Relaxed);
        Flag(flag)
    }
}

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// What a statement of the program may do.
fn judge(context: &AuthContext<'_>) -> Authorization {
    let denied = match context.action {
        AuthAction::Transaction { .. }
        | AuthAction::Savepoint { .. }
        | AuthAction::Attach { .. }
        | AuthAction::Detach { .. }
        | AuthAction::Unknown { .. } => true,
        AuthAction::Pragma { pragma_name, pragma_value } => {
            !asked_by_virtual_tables(pragma_name) || pragma_value.is_some()
        }
        ref action => names(action).into_iter().flatten().any(is_farcall),
    };
    if denied { Authorization::Deny } else { Authorization::Allow }
}

/// Full-text search asks these, by itself; they change nothing.
fn asked_by_virtual_tables(pragma: &str) -> bool {
    ["page_size", "data_version"].iter().any(|allowed| pragma.eq_ignore_ascii_case(allowed))
}

/// The tables, indexes, views and triggers that an action names.
fn names<'a>(action: &AuthAction<'a>) -> [Option<&'a str>; 2] {
    match *action {
        AuthAction::CreateIndex { index_name, table_name }
        | AuthAction::CreateTempIndex { index_name, table_name }
        | AuthAction::DropIndex { index_name, table_name }
        | AuthAction::DropTempIndex { index_name, table_name } => {
            [Some(index_name), Some(table_name)]
        }
        AuthAction::CreateTrigger { trigger_name, table_name }
        | AuthAction::CreateTempTrigger { trigger_name, table_name }
        | AuthAction::DropTrigger { trigger_name, table_name }
        | AuthAction::DropTempTrigger { trigger_name, table_name } => {
            [Some(trigger_name), Some(table_name)]
        }
        AuthAction::CreateTable { table_name }
        | AuthAction::CreateTempTable { table_name }
        | AuthAction::DropTable { table_name }
        | AuthAction::DropTempTable { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Insert { table_name }
        | AuthAction::Update { table_name, .. }
        | AuthAction::Read { table_name, .. }
        | AuthAction::AlterTable { table_name, .. }
        | AuthAction::Analyze { table_name }
        | AuthAction::CreateVtable { table_name, .. }
        | AuthAction::DropVtable { table_name, .. } => [Some(table_name), None],
        AuthAction::CreateView { view_name }
        | AuthAction::CreateTempView { view_name }
        | AuthAction::DropView { view_name }
        | AuthAction::DropTempView { view_name } => [Some(view_name), None],
        AuthAction::Reindex { index_name } => [Some(index_name), None],
        _ => [None, None],
    }
}

/// SQLite compares names without regard to case.
fn is_farcall(name: &str) -> bool {
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Of all names of farcall's in a database.
const PREFIX: &str = "farcall_";
