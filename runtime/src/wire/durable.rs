//! What stands before the arguments and the result of an exactly-once call, as bytes.
//!
//! To the session below such a call is an at-least-once call whose arguments begin with a [`Stamp`] and whose result is
//! a [`Word`]. Every call carries all that the server needs to judge it, so that it means the same on any link, in any
//! session and after any restart.

use uuid::Uuid;

use super::varint;
use crate::error::FailureCode;
use crate::id::{CommitNumber, Epoch, RegistrationId, Seq, StoreId};

/// Which call it is, for the store that judges it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The store in which the client is registered.
    pub(crate) store: StoreId,
    pub(crate) registration: RegistrationId,
    /// The client's opening of its journal; calls of earlier openings carry the present one.
    pub(crate) epoch: Epoch,
    pub(crate) seq: Seq,
    /// All calls below are finished, durably, in the client's journal; at most `seq`.
    pub(crate) floor: Seq,
    /// The highest commit number that this client was told by the store.
    pub(crate) seen: CommitNumber,
    /// Drawn with the call: with the arguments it makes its digest.
    pub(crate) nonce: u64,
}

/// What a server says of an exactly-once call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word<'a> {
    /// The method returned; its effect and this answer were committed together.
    Answer { commit: CommitNumber, answer: Answer, body: &'a [u8] },
    /// Nothing is decided; ask again later.
    Again { text: &'a str },
    /// The client itself said that this call is finished.
    Stale,
    /// The journal was opened again since, by somebody else.
    Fenced,
    /// There is no such registration any more.
    Expired,
    /// The store is older than what it has told this client: an old copy of it was restored.
    WentBack,
    /// This is another store than the one that the stamp names.
    OtherStore { store: StoreId },
    /// Another request was answered under this number.
    Different,
}

/// How an exactly-once call ended, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// The body is the encoded result.
    Ok,
    /// The body is the method's own error, encoded. The method has no effect.
    MethodError,
    /// It has no effect and never will; the body is a text.
    Never(FailureCode),
}

/// Bytes that are not what they should be: the peer is not farcall, or broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the words of an exactly-once call")]
pub(crate) struct NotDurable;

impl Stamp {
    /// Appends the stamp.
    pub(crate) fn put(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(self.store.0.as_bytes());
        varint::put(self.registration.0, into);
        varint::put(u64::from(self.epoch.0), into);
        varint::put(self.seq, into);
        varint::put(self.seq - self.floor.min(self.seq), into);
        varint::put(self.seen, into);
        into.extend_from_slice(&self.nonce.to_be_bytes());
    }

    /// The stamp at the start of a call's arguments, and how many bytes it takes.
    ///
    /// # Errors
    /// [`NotDurable`] if there is none, or one with numbers that no database has.
    pub(crate) fn get(bytes: &[u8]) -> Result<(Stamp, usize), NotDurable> {
        let mut from = From { rest: bytes };
        let store = from.store()?;
        let registration = RegistrationId(from.number()?);
        let epoch = u32::try_from(from.number()?).map_err(|_| NotDurable)?;
        let seq = from.number()?;
        let floor = seq.checked_sub(from.number()?).ok_or(NotDurable)?;
        let seen = from.number()?;
        let nonce = u64::from_be_bytes(from.array()?);
        let epoch = Epoch(epoch);
        // A number is of its opening or of an earlier one, so that it fits 63 bits too.
        if epoch.0 == 0 || epoch > Epoch::LAST || seq == 0 || Epoch::of(seq) > epoch {
            return Err(NotDurable);
        }
        if registration.0 > STORED || seen > STORED {
            return Err(NotDurable);
        }
        let stamp = Stamp { store, registration, epoch, seq, floor, seen, nonce };
        Ok((stamp, bytes.len() - from.rest.len()))
    }
}

impl Word<'_> {
    /// Appends the word.
    pub(crate) fn put(&self, into: &mut Vec<u8>) {
        match *self {
            Word::Answer { commit, answer, body } => {
                into.push(match answer {
                    Answer::Ok => 0,
                    Answer::MethodError => 1,
                    Answer::Never(_) => 2,
                });
                varint::put(commit, into);
                if let Answer::Never(code) = answer {
                    into.push(code as u8);
                }
                into.extend_from_slice(body);
            }
            Word::Again { text } => {
                into.push(3);
                into.extend_from_slice(text.as_bytes());
            }
            Word::Stale => into.push(4),
            Word::Fenced => into.push(5),
            Word::Expired => into.push(6),
            Word::WentBack => into.push(7),
            Word::OtherStore { store } => {
                into.push(8);
                into.extend_from_slice(store.0.as_bytes());
            }
            Word::Different => into.push(9),
        }
    }

    /// The word that these bytes are.
    ///
    /// # Errors
    /// [`NotDurable`] if they are none.
    pub(crate) fn get(bytes: &[u8]) -> Result<Word<'_>, NotDurable> {
        let (&kind, rest) = bytes.split_first().ok_or(NotDurable)?;
        let mut from = From { rest };
        let word = match kind {
            0..=2 => {
                let commit = from.number()?;
                let answer = match kind {
                    0 => Answer::Ok,
                    1 => Answer::MethodError,
                    _ => {
                        let [code] = from.array()?;
                        Answer::Never(FailureCode::from_wire(code).ok_or(NotDurable)?)
                    }
                };
                return Ok(Word::Answer { commit, answer, body: from.rest });
            }
            3 => {
                let text = std::str::from_utf8(from.rest).map_err(|_| NotDurable)?;
                return Ok(Word::Again { text });
            }
            4 => Word::Stale,
            5 => Word::Fenced,
            6 => Word::Expired,
            7 => Word::WentBack,
            8 => Word::OtherStore { store: from.store()? },
            9 => Word::Different,
            _ => return Err(NotDurable),
        };
        if from.rest.is_empty() { Ok(word) } else { Err(NotDurable) }
    }
}

/// The highest number that a database stores.
const STORED: u64 = i64::MAX as u64;

/// Reads from the front.
struct From<'a> {
    rest: &'a [u8],
}

impl From<'_> {
    fn number(&mut self) -> Result<u64, NotDurable> {
        let (value, used) = varint::get(self.rest).ok().flatten().ok_or(NotDurable)?;
        self.rest = self.rest.get(used..).ok_or(NotDurable)?;
        Ok(value)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], NotDurable> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(NotDurable)?;
        self.rest = rest;
        Ok(*array)
    }

    fn store(&mut self) -> Result<StoreId, NotDurable> {
        Ok(StoreId(Uuid::from_bytes(self.array()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        store: StoreId(Uuid::from_u128(7)),
        registration: RegistrationId(300),
        epoch: Epoch(2),
        seq: 2 * Epoch::NUMBERS + 5,
        floor: Epoch::NUMBERS + 1,
        seen: 9,
        nonce: 0x0102_0304_0506_0708,
    };

    #[test]
    fn a_stamp_comes_back_with_its_length() {
        let mut bytes = Vec::new();
        STAMP.put(&mut bytes);
        let length = bytes.len();
        bytes.extend_from_slice(b"arguments");
        assert_eq!(Stamp::get(&bytes), Ok((STAMP, length)));
        for short in 0..length {
            assert_eq!(Stamp::get(&bytes[..short]), Err(NotDurable), "{short} bytes");
        }
    }

    #[test]
    fn a_stamp_of_numbers_that_nobody_can_have_is_none() {
        let epoch = Epoch(Epoch::LAST.0 + 1);
        for stamp in [
            Stamp { epoch: Epoch(0), seq: 1, floor: 1, ..STAMP },
            Stamp { seq: 0, floor: 0, ..STAMP },
            Stamp { seq: 3 * Epoch::NUMBERS, ..STAMP },
            Stamp { epoch, ..STAMP },
            Stamp { registration: RegistrationId(u64::MAX), ..STAMP },
            Stamp { seen: u64::MAX, ..STAMP },
        ] {
            let mut bytes = Vec::new();
            stamp.put(&mut bytes);
            assert_eq!(Stamp::get(&bytes), Err(NotDurable), "{stamp:?}");
        }
    }

    #[test]
    fn every_word_comes_back_and_nothing_else_is_one() {
        let words = [
            Word::Answer { commit: 300, answer: Answer::Ok, body: b"result" },
            Word::Answer { commit: 0, answer: Answer::MethodError, body: b"" },
            Word::Answer { commit: 1, answer: Answer::Never(FailureCode::Panicked), body: b"why" },
            Word::Again { text: "later" },
            Word::Stale,
            Word::Fenced,
            Word::Expired,
            Word::WentBack,
            Word::OtherStore { store: STAMP.store },
            Word::Different,
        ];
        for word in words {
            let mut bytes = Vec::new();
            word.put(&mut bytes);
            assert_eq!(Word::get(&bytes), Ok(word));
        }
        for bytes in [&b""[..], &[10], &[4, 0], &[2, 1, 255], &[3, 0xff], &[8, 1]] {
            assert_eq!(Word::get(bytes), Err(NotDurable), "{bytes:?}");
        }
    }

    #[test]
    fn the_epoch_of_a_number_is_its_upper_part() {
        assert_eq!(Epoch::of(STAMP.seq), Epoch(2));
        let last = Epoch::LAST.first_seq() + (Epoch::NUMBERS - 1);
        assert_eq!(Epoch::of(last), Epoch::LAST);
        assert_eq!(last, STORED, "every number fits a database");
    }
}
