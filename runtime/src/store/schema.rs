//! farcall's tables, and how a file of an older version gets them.
//!
//! The version of a file is the number of steps that were taken with it. A step that was released is never changed.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::StoreError;
use crate::id::StoreId;

/// All steps from an empty file to the present tables.
pub(super) const STEPS: &[&str] = &[STEP_1, STEP_2];

/// Numbers of calls are in the order of their numbers: see [`ordered`](super::columns::ordered). The other unsigned
/// numbers are as they are in 64 bits.
const STEP_1: &str = "
create table main.farcall_meta (
    one integer primary key check (one = 1),
    version integer not null,
    store blob not null,
    epoch integer not null,
    opening blob not null,
    seq integer not null,
    registration integer not null,
    commits integer not null
) strict;
create table main.farcall_opening (
    epoch integer primary key,
    last integer not null
) strict;
create table main.farcall_server (
    peer text primary key not null,
    store blob not null,
    registration integer not null,
    seen integer not null
) strict, without rowid;
create table main.farcall_request (
    seq integer primary key,
    peer text not null,
    object text not null,
    interface text not null,
    method integer not null,
    method_name text not null,
    arguments blob not null,
    nonce integer not null,
    key text,
    key_digest blob,
    parent_registration integer,
    parent_seq integer,
    wanted integer not null,
    store blob,
    registration integer,
    outcome integer,
    code integer,
    body blob
) strict;
create unique index main.farcall_request_key on farcall_request (key) where key is not null;
create index main.farcall_request_unbound on farcall_request (peer) where store is null and outcome is null;
create index main.farcall_request_finished on farcall_request (seq) where outcome is not null;
create table main.farcall_registration (
    id integer primary key,
    client blob not null unique,
    epoch integer not null,
    opening blob not null,
    floor integer not null,
    max integer not null
) strict;
create table main.farcall_inbox (
    registration integer not null,
    seq integer not null,
    digest blob,
    answer integer not null,
    code integer,
    body blob not null,
    primary key (registration, seq)
) strict, without rowid;
";

/// Finished calls above the floor: see [`ranges`](super::columns::ranges).
const STEP_2: &str = "
alter table main.farcall_registration add column above blob not null default x'';
";

/// Brings a file up to the last of these steps, inside the open transaction. `fresh` is its name if it has none yet.
///
/// # Errors
/// [`StoreError::NewerSchema`] if it is beyond; then nothing is changed.
pub(super) fn migrate(
    connection: &Connection,
    steps: &[&str],
    fresh: StoreId,
) -> Result<(), StoreError> {
    let last = u32::try_from(steps.len()).unwrap_or(u32::MAX);
    let version = version(connection)?;
    let found = version.unwrap_or(0);
    if found > last {
        return Err(StoreError::NewerSchema { found, known: last });
    }
    for step in steps.iter().skip(found as usize) {
        connection.execute_batch(step)?;
    }
    if version.is_none() {
        connection.execute(
            "insert into main.farcall_meta values (1, ?1, ?2, 0, x'', ?3, 1, 0)",
            params![last, fresh.0.as_bytes(), super::columns::ordered(0)],
        )?;
    } else if found < last {
        connection.execute("update main.farcall_meta set version = ?1", [last])?;
    }
    Ok(())
}

/// The version of a file; nothing if it has no tables of farcall.
fn version(connection: &Connection) -> Result<Option<u32>, StoreError> {
    let there = "select 1 from main.sqlite_schema where type = 'table' and name = 'farcall_meta'";
    if connection.query_row(there, [], |_| Ok(())).optional()?.is_none() {
        return Ok(None);
    }
    Ok(Some(connection.query_row("select version from main.farcall_meta", [], |row| row.get(0))?))
}
