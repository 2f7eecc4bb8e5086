//! The references of a message: a list behind its payload, so that they can be counted and given back by who knows no
//! types.
//!
//! `payload | entries | length u32`, the length that of the entries. In the payload a reference is the place of its entry.

use super::frame::MAX_NAME;
use super::varint;

/// What a reference is of, as its sender sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    /// An object without a name that the sender exports to this peer: this is record `mark` that carries it.
    Exported { id: u64, mark: u64, interface: &'a str },
    /// An object that the receiver exports to the sender.
    Yours { id: u64 },
    /// An object that the sender's node has under a name.
    Named { object: &'a str, interface: &'a str },
    /// An object that the receiver's node has under a name.
    YourNamed { object: &'a str, interface: &'a str },
    /// Nothing that crosses a connection: a node calls itself, and keeps the reference.
    Kept { number: u64 },
}

/// The bytes are no such list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Appends an entry.
pub(crate) fn put(entry: &Entry<'_>, into: &mut Vec<u8>) {
    match *entry {
        Entry::Exported { id, mark, interface } => {
            into.push(0);
            into.extend_from_slice(&id.to_be_bytes());
            varint::put(mark, into);
            put_text(interface, into);
        }
        Entry::Yours { id } => {
            into.push(1);
            into.extend_from_slice(&id.to_be_bytes());
        }
        Entry::Named { object, interface } => {
            into.push(2);
            put_text(object, into);
            put_text(interface, into);
        }
        Entry::YourNamed { object, interface } => {
            into.push(3);
            put_text(object, into);
            put_text(interface, into);
        }
        Entry::Kept { number } => {
            into.push(4);
            into.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// Ends the list whose entries begin at `start`.
pub(crate) fn end(start: usize, into: &mut Vec<u8>) {
    let length = (into.len() - start) as u32;
    into.extend_from_slice(&length.to_be_bytes());
}

/// How many bytes of a body are payload, and the entries behind it.
///
/// # Errors
/// There is no list.
pub(crate) fn split(body: &[u8]) -> Result<(usize, &[u8]), Malformed> {
    let (rest, length) = body.split_last_chunk::<4>().ok_or(Malformed)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Malformed)?;
    let payload = rest.len().checked_sub(length).ok_or(Malformed)?;
    Ok((payload, &rest[payload..]))
}

/// The entries.
///
/// # Errors
/// They are none, or more than [`MAX_REFERENCES`].
pub(crate) fn entries(mut rest: &[u8]) -> Result<Vec<Entry<'_>>, Malformed> {
    let mut entries = Vec::new();
    while !rest.is_empty() {
        if entries.len() == MAX_REFERENCES {
            return Err(Malformed);
        }
        entries.push(entry(&mut rest)?);
    }
    Ok(entries)
}

fn entry<'a>(rest: &mut &'a [u8]) -> Result<Entry<'a>, Malformed> {
    let (&kind, after) = rest.split_first().ok_or(Malformed)?;
    *rest = after;
    match kind {
        0 => {
            Ok(Entry::Exported { id: fixed(rest)?, mark: positive(rest)?, interface: text(rest)? })
        }
        1 => Ok(Entry::Yours { id: fixed(rest)? }),
        2 => Ok(Entry::Named { object: text(rest)?, interface: text(rest)? }),
        3 => Ok(Entry::YourNamed { object: text(rest)?, interface: text(rest)? }),
        4 => Ok(Entry::Kept { number: fixed(rest)? }),
        _ => Err(Malformed),
    }
}

fn fixed(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let (bytes, after) = rest.split_first_chunk().ok_or(Malformed)?;
    *rest = after;
    Ok(u64::from_be_bytes(*bytes))
}

fn positive(rest: &mut &[u8]) -> Result<u64, Malformed> {
    match varint::get(rest) {
        Ok(Some((value, used))) if value > 0 => {
            *rest = &rest[used..];
            Ok(value)
        }
        _ => Err(Malformed),
    }
}

fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Malformed> {
    let (&length, after) = rest.split_first().ok_or(Malformed)?;
    let (bytes, after) = after.split_at_checked(usize::from(length)).ok_or(Malformed)?;
    *rest = after;
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

fn put_text(text: &str, into: &mut Vec<u8>) {
    // Names are at most that long; one that is not would be cut where a character begins.
    let text = &text[..text.floor_char_boundary(MAX_NAME)];
    into.push(text.len() as u8);
    into.extend_from_slice(text.as_bytes());
}

/// Most references in one message.
pub(crate) const MAX_REFERENCES: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_stands_behind_its_payload() {
        let all = [
            Entry::Exported { id: 7, mark: 300, interface: "Account" },
            Entry::Yours { id: u64::MAX },
            Entry::Named { object: "alice", interface: "Account" },
            Entry::YourNamed { object: "ö", interface: "" },
            Entry::Kept { number: 3 },
        ];
        let mut body = vec![1, 2, 3];
        for entry in &all {
            put(entry, &mut body);
        }
        end(3, &mut body);
        let (payload, list) = split(&body).expect("a list");
        assert_eq!(payload, 3);
        assert_eq!(entries(list).expect("entries"), all);
    }

    #[test]
    fn what_is_cut_off_is_no_list() {
        let mut body = Vec::new();
        put(&Entry::Exported { id: 7, mark: 1, interface: "Account" }, &mut body);
        for length in 1..body.len() {
            assert_eq!(entries(&body[..length]), Err(Malformed), "{length}");
        }
        assert_eq!(entries(&[9]), Err(Malformed));
        assert_eq!(split(&[0, 0, 1]), Err(Malformed));
        assert_eq!(split(&[0, 0, 0, 1]), Err(Malformed));
        assert_eq!(split(&[0, 0, 0, 0]), Ok((0, &[][..])));
    }
}
