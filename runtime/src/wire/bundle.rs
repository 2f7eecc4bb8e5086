//! Datagrams of several links in one: what is the same at the end of all is there once.
//!
//! A call to a group makes one DATA for each member's link. They differ in the link, its numbers and the call's; method,
//! deadline and arguments are the same. Who gets a bundle restores the DATA of the links that it has, and handles each
//! as if it had come by itself.

use super::datagram::{DATA_OVERHEAD, DatagramError, SUM, seal};
use super::varint;

const BUNDLE: u8 = 0x07;
const DATA: u8 = 0x40;
/// Bytes of DATA before its frames: first byte, link, number.
const HEAD: usize = DATA_OVERHEAD - SUM;

/// Datagrams that a bundle holds, at most: with more, the links take as much room as the calls do.
pub(crate) const MOST_PARTS: usize = 128;

/// A bundle that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bundle<'a> {
    suffix: &'a [u8],
    parts: Vec<Part<'a>>,
}

/// What one datagram has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part<'a> {
    link: u64,
    number: u32,
    prefix: &'a [u8],
}

/// Whether a datagram may be part of a bundle.
pub(crate) fn fits(datagram: &[u8]) -> bool {
    datagram.first() == Some(&DATA) && datagram.len() >= DATA_OVERHEAD
}

/// These datagrams, each of which [`fits`], as one.
pub(crate) fn encode(datagrams: &[Vec<u8>]) -> Vec<u8> {
    let frames = |datagram: &'_ Vec<u8>| HEAD..datagram.len().saturating_sub(SUM).max(HEAD);
    let mut suffix: &[u8] = datagrams.first().map_or(&[], |first| &first[frames(first)]);
    for datagram in datagrams {
        let frames = &datagram[frames(datagram)];
        let same = suffix.iter().rev().zip(frames.iter().rev()).take_while(|(a, b)| a == b);
        suffix = &suffix[suffix.len() - same.count()..];
    }
    let mut bytes = vec![BUNDLE];
    varint::put(datagrams.len() as u64, &mut bytes);
    varint::put(suffix.len() as u64, &mut bytes);
    bytes.extend_from_slice(suffix);
    for datagram in datagrams {
        let frames = frames(datagram);
        let prefix = &datagram[frames.start..frames.end - suffix.len()];
        bytes.extend_from_slice(&datagram[1..HEAD]);
        varint::put(prefix.len() as u64, &mut bytes);
        bytes.extend_from_slice(prefix);
    }
    seal(0, &mut bytes);
    bytes
}

impl<'a> Bundle<'a> {
    /// The bundle in a datagram.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Bundle<'a>, DatagramError> {
        let (summed, sum) = bytes.split_last_chunk::<SUM>().ok_or(DatagramError::Short)?;
        let (&first, mut rest) = summed.split_first().ok_or(DatagramError::Short)?;
        if first != BUNDLE {
            return Err(DatagramError::UnknownType(first));
        }
        if crc32c::crc32c(summed) != u32::from_be_bytes(*sum) {
            return Err(DatagramError::Sum);
        }
        let count = number(&mut rest)?;
        if !(1..=MOST_PARTS).contains(&count) {
            return Err(DatagramError::Number(BUNDLE));
        }
        let length = number(&mut rest)?;
        let suffix = take(&mut rest, length)?;
        let mut parts = Vec::new();
        for _ in 0..count {
            let (link, after) = rest.split_first_chunk().ok_or(DatagramError::Short)?;
            let (low, after) = after.split_first_chunk().ok_or(DatagramError::Short)?;
            rest = after;
            let length = number(&mut rest)?;
            let prefix = take(&mut rest, length)?;
            let (link, number) = (u64::from_be_bytes(*link), u32::from_be_bytes(*low));
            parts.push(Part { link, number, prefix });
        }
        if rest.is_empty() { Ok(Bundle { suffix, parts }) } else { Err(DatagramError::Long) }
    }

    /// The links whose datagrams it holds, and each datagram as it was.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        self.parts.iter().map(|part| {
            let length = DATA_OVERHEAD + part.prefix.len() + self.suffix.len();
            let mut bytes = Vec::with_capacity(length);
            bytes.push(DATA);
            bytes.extend_from_slice(&part.link.to_be_bytes());
            bytes.extend_from_slice(&part.number.to_be_bytes());
            bytes.extend_from_slice(part.prefix);
            bytes.extend_from_slice(self.suffix);
            seal(0, &mut bytes);
            (part.link, bytes)
        })
    }
}

fn number(rest: &mut &[u8]) -> Result<usize, DatagramError> {
    match varint::get(rest) {
        Ok(Some((value, used))) => {
            *rest = &rest[used..];
            usize::try_from(value).map_err(|_| DatagramError::Number(BUNDLE))
        }
        Ok(None) => Err(DatagramError::Short),
        Err(varint::NotShortest) => Err(DatagramError::Number(BUNDLE)),
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], DatagramError> {
    let (taken, after) = rest.split_at_checked(length).ok_or(DatagramError::Short)?;
    *rest = after;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::datagram::{Truncated, begin_data};

    /// DATA of a link with frames.
    fn data(link: u64, frames: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        begin_data(link, Truncated::of(link * 3), &mut bytes);
        bytes.extend_from_slice(frames);
        seal(0, &mut bytes);
        bytes
    }

    fn restored(datagrams: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let bundle = encode(datagrams);
        let bundle = Bundle::decode(&bundle).expect("it is one");
        bundle.datagrams().map(|(_, bytes)| bytes).collect()
    }

    #[test]
    fn all_come_back_as_they_were() {
        let alike: Vec<_> = (0..8).map(|link| data(link, &[link as u8, 9, 9, 9])).collect();
        let same: Vec<_> = (0..3).map(|link| data(link, b"same")).collect();
        let different = vec![data(1, b"abc"), data(2, b""), data(3, b"xyzc")];
        for datagrams in [alike, same, different, vec![data(7, b"alone")], vec![data(7, b"")]] {
            assert!(datagrams.iter().all(|datagram| fits(datagram)));
            assert_eq!(restored(&datagrams), datagrams);
        }
    }

    #[test]
    fn eight_calls_in_one_take_less_than_a_third_of_eight() {
        // Acknowledgement, numbers and handle are of each link; 400 bytes of arguments are of all.
        let arguments = [7; 400];
        let frames = |link: u64| {
            [&[5, 128, link as u8, 0, 0, 0, 200, 50, link as u8][..], &arguments].concat()
        };
        let datagrams: Vec<_> = (0..8).map(|link| data(link, &frames(link))).collect();
        let apart: usize = datagrams.iter().map(Vec::len).sum();
        let together = encode(&datagrams).len();
        assert!(together * 10 <= apart * 3, "{together} of {apart} bytes");
    }

    #[test]
    fn what_is_cut_damaged_or_longer_is_dropped() {
        let whole = encode(&[data(1, b"abc"), data(2, b"abd")]);
        for length in 0..whole.len() {
            assert!(Bundle::decode(&whole[..length]).is_err(), "{length} bytes");
        }
        for position in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 0x10;
            assert!(Bundle::decode(&damaged).is_err(), "byte {position}");
        }
        for content in [&[0][..], &[1, 0], &[1, 9, 1], &[129, 0, 0], &[255; 20]] {
            let mut bytes = [&[BUNDLE], content].concat();
            seal(0, &mut bytes);
            assert!(Bundle::decode(&bytes).is_err(), "{content:?}");
        }
    }
}
