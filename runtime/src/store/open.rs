//! Opening a database: locked, whole, of the present schema, and under a number that no opening before had.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params};
use uuid::Uuid;

use super::numbers::{MetaRow, Numbers};
use super::{Sqlite, StoreError, columns, draw, schema};
use crate::id::{Epoch, RegistrationId, StoreId};
use crate::protocol::durable::outbound::Identity;

/// How long a statement waits while another connection, a shell for instance, holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Put behind the name of a database, names the file that is locked.
const LOCK_SUFFIX: &str = ".farcall-lock";

/// A database that is open, and locked as long as this lives.
pub(super) struct Open {
    pub(super) path: Arc<Path>,
    pub(super) id: StoreId,
    pub(super) database: Sqlite,
    pub(super) lock: File,
}

/// Opens a database, and brings its tables up to the last of `steps`.
pub(super) fn open(path: &Path, steps: &[&str]) -> Result<Open, StoreError> {
    let path: Arc<Path> = resolve(path).map_err(|error| io_error(path, error))?.into();
    let lock = lock(&path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let name = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::NotAStore { path: path.clone() }
        }
        _ => error.into(),
    };
    let mut connection = Connection::open_with_flags(&path, flags).map_err(name)?;
    make_durable(&connection).map_err(name)?;
    checkpoint(&connection)?;
    let (identity, numbers) = begin_epoch(&mut connection, steps)?;
    let database = Sqlite::new(connection, identity, numbers);
    Ok(Open { path, id: identity.client, database, lock })
}

/// The one name of a file, whatever links lead there: all who open it must find the same lock. The database itself is
/// not touched: to close a file takes from SQLite the locks that it holds on it in this process.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            // A link to what is not there yet; of links that lead in a circle the first step says so.
            if let Ok(target) = fs::read_link(path) {
                return resolve(&folder.unwrap_or(Path::new(".")).join(target));
            }
            let Some(name) = path.file_name() else { return Err(error) };
            Ok(fs::canonicalize(folder.unwrap_or(Path::new(".")))?.join(name))
        }
        found => found,
    }
}

/// The file stays when it is unlocked: who removed it could remove it from under the next.
fn lock(path: &Arc<Path>) -> Result<File, StoreError> {
    let mut beside = OsString::from(path.as_os_str());
    beside.push(LOCK_SUFFIX);
    let beside = PathBuf::from(beside);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&beside);
    let file = file.map_err(|error| io_error(&beside, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.clone() }),
        Err(TryLockError::Error(error)) => Err(io_error(&beside, error)),
    }
}

fn make_durable(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let mode: String = connection.query_row("pragma journal_mode = wal", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
            Some(format!("the journal mode is {mode}, and cannot be WAL here")),
        ));
    }
    connection.execute_batch("pragma synchronous = full")
}

/// What a commit that failed has left in the log may be there or not until it is in the database itself.
fn checkpoint(connection: &Connection) -> Result<(), StoreError> {
    let busy: bool =
        connection.query_row("pragma wal_checkpoint(truncate)", [], |row| row.get(0))?;
    if busy {
        return Err(StoreError::Busy {
            reason: "another connection reads an old state of the database",
        });
    }
    Ok(())
}

/// Nothing is sent under an epoch that is not durable: another opening could have it too.
fn begin_epoch(
    connection: &mut Connection,
    steps: &[&str],
) -> Result<(Identity, Numbers), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    schema::migrate(&transaction, steps, StoreId(Uuid::new_v4()))?;
    let read = "select store, epoch, seq, registration, commits from main.farcall_meta";
    let (client, before, row) = transaction.query_row(read, [], |row| {
        let client = StoreId(Uuid::from_bytes(row.get(0)?));
        let numbers = MetaRow {
            seq: columns::seq(row.get(2)?),
            registration: RegistrationId(row.get::<_, i64>(3)?.cast_unsigned()),
            commits: row.get::<_, i64>(4)?.cast_unsigned(),
        };
        Ok((client, row.get::<_, u32>(1)?, numbers))
    })?;
    if before >= Epoch::LAST.0 {
        return Err(StoreError::Exhausted);
    }
    // What each opening gave tells an old copy of the journal, which cannot have given it.
    if row.seq > 0 {
        transaction.execute(
            "insert or ignore into main.farcall_opening values (?1, ?2)",
            params![Epoch::of(row.seq).0, columns::ordered(row.seq)],
        )?;
    }
    let epoch = Epoch(before + 1);
    let opening = (u128::from(draw()) << 64) | u128::from(draw());
    transaction.execute(
        "update main.farcall_meta set epoch = ?1, opening = ?2",
        params![epoch.0, opening.to_be_bytes()],
    )?;
    transaction.commit()?;
    Ok((Identity { client, epoch, opening }, Numbers::open(epoch, row)))
}

fn io_error(path: &Path, error: io::Error) -> StoreError {
    StoreError::Io { path: path.into(), source: Arc::new(error) }
}
