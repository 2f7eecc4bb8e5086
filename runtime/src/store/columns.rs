//! What rows of the database look like in memory, and the other way round.

use rusqlite::Row;
use uuid::Uuid;

use crate::error::FailureCode;
use crate::id::{Epoch, MethodId, RegistrationId, Seq, StoreId};
use crate::protocol::durable::rows::{
    AnswerRow, Binding, Keyed, Outcome, RegistrationRow, Request, Saved, ServerRow,
};
use crate::protocol::finished::Finished;
use crate::wire::durable::Answer;
use crate::wire::frame::Ranges;

/// A call's number as SQLite orders it: SQLite has no unsigned numbers, and a number may have all 64 bits.
pub(super) fn ordered(seq: Seq) -> i64 {
    (seq ^ SIGN).cast_signed()
}

/// The number that [`ordered`] made this of.
pub(super) fn seq(ordered: i64) -> Seq {
    ordered.cast_unsigned() ^ SIGN
}

const SIGN: u64 = 1 << 63;

/// A call of the journal, from the columns that [`SAVED`](super::journal) names.
pub(super) fn saved(row: &Row<'_>) -> rusqlite::Result<Saved> {
    let parent = match (row.get::<_, Option<i64>>(9)?, row.get::<_, Option<i64>>(10)?) {
        (Some(registration), Some(parent)) => {
            Some((RegistrationId(registration.cast_unsigned()), seq(parent)))
        }
        _ => None,
    };
    let request = Request {
        peer: row.get(1)?,
        object: row.get(2)?,
        interface: row.get(3)?,
        method: MethodId(row.get(4)?),
        method_name: row.get(5)?,
        arguments: row.get(6)?,
        nonce: row.get::<_, i64>(7)?.cast_unsigned(),
        key: row.get(8)?,
        parent,
        wanted: row.get::<_, i64>(11)? == WANTED,
    };
    let (seq, binding) = (seq(row.get(0)?), binding(row, 12)?);
    Ok(Saved { seq, request, binding, outcome: outcome(row, 14)? })
}

/// What a key is in use for: `seq, key_digest, outcome, code, body`.
pub(super) fn keyed(row: &Row<'_>) -> rusqlite::Result<Keyed> {
    Ok(Keyed { seq: seq(row.get(0)?), digest: row.get(1)?, outcome: outcome(row, 2)? })
}

/// `store, registration`, both or neither.
pub(super) fn binding(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Binding>> {
    match (row.get::<_, Option<[u8; 16]>>(first)?, row.get::<_, Option<i64>>(first + 1)?) {
        (Some(store), Some(registration)) => {
            let registration = RegistrationId(registration.cast_unsigned());
            Ok(Some(Binding { store: store_id(store), registration }))
        }
        _ => Ok(None),
    }
}

/// `peer, store, registration, seen`.
pub(super) fn server(row: &Row<'_>) -> rusqlite::Result<ServerRow> {
    let binding = Binding {
        store: store_id(row.get(1)?),
        registration: RegistrationId(row.get::<_, i64>(2)?.cast_unsigned()),
    };
    Ok(ServerRow { peer: row.get(0)?, binding, seen: row.get::<_, i64>(3)?.cast_unsigned() })
}

/// `id, client, epoch, opening, floor, max, above`.
pub(super) fn registration(row: &Row<'_>) -> rusqlite::Result<RegistrationRow> {
    Ok(RegistrationRow {
        id: RegistrationId(row.get::<_, i64>(0)?.cast_unsigned()),
        client: store_id(row.get(1)?),
        epoch: Epoch(row.get(2)?),
        opening: u128::from_be_bytes(row.get(3)?),
        finished: Finished::of(seq(row.get(4)?), &ranges(row.get_ref(6)?.as_blob()?)),
        max: seq(row.get(5)?),
    })
}

/// Ranges of numbers as bytes: each its start and its end, with the highest byte first.
pub(super) fn range_bytes(ranges: &Ranges) -> Vec<u8> {
    ranges
        .iter()
        .flat_map(|(start, end)| [start.to_be_bytes(), end.to_be_bytes()])
        .flatten()
        .collect()
}

/// The ranges that [`range_bytes`] made these of.
fn ranges(bytes: &[u8]) -> Ranges {
    let numbers = bytes
        .chunks_exact(8)
        .map(|number| number.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)));
    let numbers: Vec<Seq> = numbers.collect();
    numbers.chunks_exact(2).map(|range| (range[0], range[1])).collect()
}

/// `digest, answer, code, body`.
pub(super) fn answer_row(row: &Row<'_>) -> rusqlite::Result<AnswerRow> {
    let kind = row.get(1)?;
    let answer = answer(row, 1, kind)?;
    Ok(AnswerRow { digest: row.get(0)?, answer, body: row.get(3)? })
}

/// The columns `answer` and `code`.
pub(super) fn answer_columns(answer: Answer) -> (i64, Option<u8>) {
    match answer {
        Answer::Ok => (OK, None),
        Answer::MethodError => (METHOD_ERROR, None),
        Answer::Never(code) => (NEVER, Some(code as u8)),
    }
}

/// The columns `outcome`, `code` and `body`.
pub(super) fn outcome_columns(outcome: &Outcome) -> (i64, Option<u8>, &[u8]) {
    match outcome {
        Outcome::Answered { answer, body } => {
            let (kind, code) = answer_columns(*answer);
            (kind, code, body)
        }
        Outcome::Cancelled => (CANCELLED, None, &[]),
        Outcome::Parked { reason } => (PARKED, None, reason.as_bytes()),
    }
}

/// `outcome, code, body`, if the call is finished.
fn outcome(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Outcome>> {
    let Some(kind) = row.get::<_, Option<i64>>(first)? else { return Ok(None) };
    Ok(Some(match kind {
        CANCELLED => Outcome::Cancelled,
        PARKED => {
            let text = row.get_ref(first + 2)?.as_blob()?;
            Outcome::Parked { reason: String::from_utf8_lossy(text).into() }
        }
        kind => Outcome::Answered { answer: answer(row, first, kind)?, body: row.get(first + 2)? },
    }))
}

fn answer(row: &Row<'_>, first: usize, kind: i64) -> rusqlite::Result<Answer> {
    match kind {
        OK => Ok(Answer::Ok),
        METHOD_ERROR => Ok(Answer::MethodError),
        NEVER => {
            let code = row.get(first + 1)?;
            let known = FailureCode::from_wire(code);
            known
                .map(Answer::Never)
                .ok_or(rusqlite::Error::IntegralValueOutOfRange(first + 1, i64::from(code)))
        }
        kind => Err(rusqlite::Error::IntegralValueOutOfRange(first, kind)),
    }
}

fn store_id(bytes: [u8; 16]) -> StoreId {
    StoreId(Uuid::from_bytes(bytes))
}

/// Of the column `wanted`: 0 says that nobody waits, 2 that somebody has the result.
const WANTED: i64 = 1;

const OK: i64 = 0;
const METHOD_ERROR: i64 = 1;
const NEVER: i64 = 2;
const CANCELLED: i64 = 3;
const PARKED: i64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_calls_keep_their_order_over_all_bits() {
        let numbers = [0, 1, 1 << 40, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX];
        for pair in numbers.windows(2) {
            assert!(ordered(pair[0]) < ordered(pair[1]), "{pair:?}");
        }
        assert!(numbers.iter().all(|&number| seq(ordered(number)) == number));
    }
}
