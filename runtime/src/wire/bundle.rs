//! Datagrams of several links in one: what is the same at the end of all is there once, and of the rest what differs from
//! the one before.
//!
//! A call to a group makes one DATA for each member's link. They differ in the link, its numbers and the call's; method,
//! deadline and arguments are the same. Who gets a bundle restores the DATA of the links that it has, and handles each
//! as if it had come by itself. A link is told by half of its number and a part of the client's, together as long as the
//! whole.

use std::ops::RangeInclusive;

use bytes::Bytes;

use super::datagram::{DATA_OVERHEAD, DatagramError, SUM, Truncated, begin_data, seal};
use super::varint;
use crate::id::NodeId;

const BUNDLE: u8 = 0x07;
const DATA: u8 = 0x40;
/// Bytes of DATA before its frames: first byte, link, number.
const HEAD: usize = DATA_OVERHEAD - SUM;

/// Datagrams that a bundle holds, at most: with more, the links take as much room as the calls do.
pub(crate) const MOST_PARTS: usize = 128;

/// Longest beginning of frames of which only the changes are told, by a bit for each byte.
const MOST_CHANGED: usize = 62;

/// A part of a client's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientTag(u32);

/// The upper half of a link's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkTag(u32);

/// A bundle that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bundle<'a> {
    client: ClientTag,
    suffix: &'a [u8],
    parts: Vec<Head>,
}

/// What one datagram has for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    link: LinkTag,
    number: u32,
    prefix: Vec<u8>,
}

/// The datagram of one link in a bundle, for who has the link.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) client: ClientTag,
    pub(crate) link: LinkTag,
    number: u32,
    /// The frames are both; the end is shared by all parts of a bundle.
    prefix: Vec<u8>,
    suffix: Bytes,
}

impl ClientTag {
    pub(crate) fn of(client: NodeId) -> ClientTag {
        ClientTag(client.0.as_u128() as u32)
    }
}

impl LinkTag {
    fn of(link: u64) -> LinkTag {
        LinkTag((link >> 32) as u32 & LinkTag::mask())
    }

    /// The link of a datagram that [`fits`].
    pub(crate) fn of_datagram(datagram: &[u8]) -> LinkTag {
        LinkTag::of(link_of(datagram))
    }

    /// The numbers of the links with this tag.
    pub(crate) fn links(self) -> RangeInclusive<u64> {
        let first = u64::from(self.0) << 32;
        first..=first | !(u64::from(LinkTag::mask()) << 32)
    }

    /// With a planted bug there are two tags only, so that equal ones are met.
    fn mask() -> u32 {
        if cfg_canary!("equal_tags_share_a_bundle") { 1 << 31 } else { u32::MAX }
    }
}

impl Part {
    /// Bytes of its own, and those that it shares with the others of its bundle.
    pub(crate) fn size(&self) -> (usize, usize) {
        (size_of::<Part>() + self.prefix.len(), self.suffix.len())
    }

    /// The datagram as it was, if it was of this link.
    pub(crate) fn datagram(&self, link: u64) -> Vec<u8> {
        let frames = self.prefix.len() + self.suffix.len();
        let mut bytes = Vec::with_capacity(DATA_OVERHEAD + frames);
        begin_data(link, Truncated(self.number), &mut bytes);
        bytes.extend_from_slice(&self.prefix);
        bytes.extend_from_slice(&self.suffix);
        seal(0, &mut bytes);
        bytes
    }
}

/// Whether a datagram may be part of a bundle.
pub(crate) fn fits(datagram: &[u8]) -> bool {
    datagram.first() == Some(&DATA) && datagram.len() >= DATA_OVERHEAD
}

/// The number of the link whose datagram it is, if it [`fits`].
pub(crate) fn link_of(datagram: &[u8]) -> u64 {
    let bytes = datagram.get(1..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// These datagrams of a client, each of which [`fits`], as one. No two of them may be of different links with one tag.
pub(crate) fn encode(client: ClientTag, datagrams: &[Vec<u8>]) -> Vec<u8> {
    let frames = |datagram: &'_ Vec<u8>| HEAD..datagram.len().saturating_sub(SUM).max(HEAD);
    let mut suffix: &[u8] = datagrams.first().map_or(&[], |first| &first[frames(first)]);
    for datagram in datagrams {
        let frames = &datagram[frames(datagram)];
        let same = suffix.iter().rev().zip(frames.iter().rev()).take_while(|(a, b)| a == b);
        suffix = &suffix[suffix.len() - same.count()..];
    }
    let mut bytes = vec![BUNDLE];
    bytes.extend_from_slice(&client.0.to_be_bytes());
    varint::put(datagrams.len() as u64, &mut bytes);
    varint::put(suffix.len() as u64, &mut bytes);
    bytes.extend_from_slice(suffix);
    let (mut last, mut prefixes) = (0_u32, Prefixes::default());
    for datagram in datagrams {
        let frames = frames(datagram);
        let prefix = &datagram[frames.start..frames.end - suffix.len()];
        let number = datagram[HEAD - 4..].first_chunk().map_or(0, |low| u32::from_be_bytes(*low));
        bytes.extend_from_slice(&LinkTag::of_datagram(datagram).0.to_be_bytes());
        varint::put(zigzag(number.wrapping_sub(last)), &mut bytes);
        prefixes.put(prefix, &mut bytes);
        last = number;
    }
    seal(0, &mut bytes);
    bytes
}

/// The beginnings of frames, one after the other.
#[derive(Default)]
struct Prefixes {
    before: Vec<u8>,
    /// Which bytes were different at the last change, by a bit for each.
    mask: u64,
}

impl Prefixes {
    /// Appends the next one: all of it, or the bytes that differ from the one before, which often are the same ones again.
    fn put(&mut self, prefix: &[u8], into: &mut Vec<u8>) {
        let all = 1 + varint::length(prefix.len() as u64) + prefix.len();
        if self.before.len() == prefix.len() && prefix.len() <= MOST_CHANGED {
            let differs = |(at, (a, b)): (usize, (&u8, &u8))| u64::from(a != b) << at;
            let mask: u64 = self.before.iter().zip(prefix).enumerate().map(differs).sum();
            let (anew, again) = (mask << 1 | 1, mask & !self.mask == 0);
            let cost_anew = varint::length(anew) + mask.count_ones() as usize;
            let cost_again = 1 + self.mask.count_ones() as usize;
            if cost_again <= cost_anew.min(all) && again {
                into.push(AGAIN as u8);
            } else if cost_anew <= all {
                varint::put(anew, into);
                self.mask = mask;
            } else {
                return self.put_all(prefix, into);
            }
            into.extend(changed(self.mask, prefix.len()).map(|at| prefix[at]));
            self.before = prefix.to_vec();
            return;
        }
        self.put_all(prefix, into);
    }

    fn put_all(&mut self, prefix: &[u8], into: &mut Vec<u8>) {
        into.push(ALL as u8);
        varint::put(prefix.len() as u64, into);
        into.extend_from_slice(prefix);
        (self.before, self.mask) = (prefix.to_vec(), 0);
    }

    /// Takes what [`put`](Prefixes::put) has put.
    fn get(&mut self, rest: &mut &[u8]) -> Result<Vec<u8>, DatagramError> {
        match get(rest)? {
            ALL => {
                let length = length(rest)?;
                (self.before, self.mask) = (take(rest, length)?.to_vec(), 0);
                return Ok(self.before.clone());
            }
            AGAIN => {}
            word if word & 1 == 1 => self.mask = word >> 1,
            _ => return Err(DatagramError::Number(BUNDLE)),
        }
        if self.before.len() > MOST_CHANGED || self.mask >> self.before.len() != 0 {
            return Err(DatagramError::Number(BUNDLE));
        }
        for at in changed(self.mask, self.before.len()) {
            self.before[at] = take(rest, 1)?[0];
        }
        Ok(self.before.clone())
    }
}

/// The places of the bits that are set.
fn changed(mask: u64, length: usize) -> impl Iterator<Item = usize> {
    (0..length).filter(move |at| mask >> at & 1 == 1)
}

/// All of a prefix follows; or the bytes that changed the last time.
const ALL: u64 = 0;
const AGAIN: u64 = 2;

impl<'a> Bundle<'a> {
    /// The bundle in a datagram.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Bundle<'a>, DatagramError> {
        let (summed, sum) = bytes.split_last_chunk::<SUM>().ok_or(DatagramError::Short)?;
        let (&first, rest) = summed.split_first().ok_or(DatagramError::Short)?;
        if first != BUNDLE {
            return Err(DatagramError::UnknownType(first));
        }
        if crc32c::crc32c(summed) != u32::from_be_bytes(*sum) {
            return Err(DatagramError::Sum);
        }
        let (client, mut rest) = rest.split_first_chunk().ok_or(DatagramError::Short)?;
        let client = ClientTag(u32::from_be_bytes(*client));
        let count = length(&mut rest)?;
        if !(1..=MOST_PARTS).contains(&count) {
            return Err(DatagramError::Number(BUNDLE));
        }
        let suffix = length(&mut rest)?;
        let suffix = take(&mut rest, suffix)?;
        let (mut parts, mut number) = (Vec::new(), 0_u32);
        let mut prefixes = Prefixes::default();
        for _ in 0..count {
            let (link, after) = rest.split_first_chunk().ok_or(DatagramError::Short)?;
            let link = LinkTag(u32::from_be_bytes(*link));
            rest = after;
            number = number.wrapping_add(unzigzag(get(&mut rest)?)?);
            let prefix = prefixes.get(&mut rest)?;
            parts.push(Head { link, number, prefix });
        }
        if rest.is_empty() {
            Ok(Bundle { client, suffix, parts })
        } else {
            Err(DatagramError::Long)
        }
    }

    /// The datagrams that it holds.
    pub(crate) fn parts(self) -> impl Iterator<Item = Part> {
        let suffix = Bytes::copy_from_slice(self.suffix);
        self.parts.into_iter().map(move |Head { link, number, prefix }| Part {
            client: self.client,
            link,
            number,
            prefix,
            suffix: suffix.clone(),
        })
    }
}

/// A difference that is small whether it goes up or down.
fn zigzag(difference: u32) -> u64 {
    let up = u64::from(difference);
    let down = u64::from(difference.wrapping_neg());
    if down != 0 && down < up { down * 2 - 1 } else { up * 2 }
}

fn unzigzag(value: u64) -> Result<u32, DatagramError> {
    let half = u32::try_from(value.div_ceil(2)).map_err(|_| DatagramError::Number(BUNDLE))?;
    Ok(if value % 2 == 1 { half.wrapping_neg() } else { half })
}

fn length(rest: &mut &[u8]) -> Result<usize, DatagramError> {
    usize::try_from(get(rest)?).map_err(|_| DatagramError::Number(BUNDLE))
}

fn get(rest: &mut &[u8]) -> Result<u64, DatagramError> {
    match varint::get(rest) {
        Ok(Some((value, used))) => {
            *rest = &rest[used..];
            Ok(value)
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
mod tests;
