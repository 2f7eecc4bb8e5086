//! The two datagrams by which objects are found: a question to a group's address, and what a member answers.
//!
//! SEEK is filled up, so that no answer is larger than its question. HERE names ports and no addresses: who asks reaches
//! the member where the answer came from. Whether an answer is wanted, the nonce says; it is for others to compare.

use uuid::Uuid;

use super::datagram::{DatagramError, SUM, seal};
use super::varint;
use crate::id::{Boot, NodeId};

const SEEK: u8 = 0x05;
const HERE: u8 = 0x06;

/// A SEEK is filled up to this many bytes.
pub(crate) const SEEK_SIZE: usize = 548;
/// Ways to a member that one HERE names, at most.
pub(crate) const MOST_WAYS: usize = 64;
/// Longest name of an object or an interface, in bytes.
const LONGEST_NAME: usize = 255;

/// Who has an object of this name and interface?
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seek<'a> {
    pub(crate) nonce: u64,
    /// Within which time the answers are to be spread, in milliseconds.
    pub(crate) spread_ms: u64,
    pub(crate) object: &'a str,
    pub(crate) interface: &'a str,
}

/// A node that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Here {
    /// That of SEEK.
    pub(crate) nonce: u64,
    pub(crate) node: NodeId,
    pub(crate) boot: Boot,
    /// Where it listens, at the address that this comes from.
    pub(crate) ways: Vec<Way>,
}

/// A port and what is spoken there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) kind: WayKind,
    pub(crate) port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WayKind {
    Tcp,
    Udp,
}

impl Seek<'_> {
    /// The datagram.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![SEEK];
        bytes.extend_from_slice(&self.nonce.to_be_bytes());
        varint::put(self.spread_ms, &mut bytes);
        for name in [self.object, self.interface] {
            varint::put(name.len() as u64, &mut bytes);
            bytes.extend_from_slice(name.as_bytes());
        }
        bytes.resize(bytes.len().max(SEEK_SIZE - SUM), 0);
        seal(0, &mut bytes);
        bytes
    }

    /// The question in a datagram.
    ///
    /// # Errors
    /// It is none, or smaller than the answer may be.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Seek<'_>, DatagramError> {
        if bytes.len() < SEEK_SIZE {
            return Err(DatagramError::Short);
        }
        if bytes.len() > SEEK_SIZE {
            return Err(DatagramError::Long);
        }
        let mut content = Content::of(SEEK, bytes)?;
        let nonce = content.fixed()?;
        let spread_ms = content.number()?;
        let (object, interface) = (content.name()?, content.name()?);
        if content.rest.iter().any(|byte| *byte != 0) {
            return Err(DatagramError::Long);
        }
        Ok(Seek { nonce, spread_ms, object, interface })
    }
}

impl Here {
    /// The datagram, with the first [`MOST_WAYS`] ways.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![HERE];
        bytes.extend_from_slice(&self.nonce.to_be_bytes());
        bytes.extend_from_slice(self.node.0.as_bytes());
        bytes.extend_from_slice(&self.boot.0.to_be_bytes());
        let ways = &self.ways[..self.ways.len().min(MOST_WAYS)];
        varint::put(ways.len() as u64, &mut bytes);
        for way in ways {
            bytes.push(match way.kind {
                WayKind::Tcp => 0,
                WayKind::Udp => 1,
            });
            bytes.extend_from_slice(&way.port.to_be_bytes());
        }
        seal(0, &mut bytes);
        bytes
    }

    /// The answer in a datagram.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Here, DatagramError> {
        let mut content = Content::of(HERE, bytes)?;
        let nonce = content.fixed()?;
        let node = NodeId(Uuid::from_bytes(*content.array()?));
        let boot = Boot(content.fixed()?);
        let count = content.number()?;
        let count = usize::try_from(count).ok().filter(|count| *count <= MOST_WAYS);
        let mut ways = Vec::new();
        for _ in 0..count.ok_or(DatagramError::Number(HERE))? {
            let [kind, high, low] = *content.array()?;
            let kind = match kind {
                0 => WayKind::Tcp,
                1 => WayKind::Udp,
                _ => return Err(DatagramError::Number(HERE)),
            };
            ways.push(Way { kind, port: u16::from_be_bytes([high, low]) });
        }
        if content.rest.is_empty() {
            Ok(Here { nonce, node, boot, ways })
        } else {
            Err(DatagramError::Long)
        }
    }
}

/// What is left between the first byte and the sum.
struct Content<'a> {
    first: u8,
    rest: &'a [u8],
}

impl<'a> Content<'a> {
    fn of(first: u8, bytes: &'a [u8]) -> Result<Content<'a>, DatagramError> {
        let (summed, sum) = bytes.split_last_chunk::<SUM>().ok_or(DatagramError::Short)?;
        match summed.split_first() {
            Some((found, rest)) if *found == first => {
                let same = crc32c::crc32c(summed) == u32::from_be_bytes(*sum);
                if same { Ok(Content { first, rest }) } else { Err(DatagramError::Sum) }
            }
            Some((found, _)) => Err(DatagramError::UnknownType(*found)),
            None => Err(DatagramError::Short),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], DatagramError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(DatagramError::Short)?;
        self.rest = rest;
        Ok(array)
    }

    fn fixed(&mut self) -> Result<u64, DatagramError> {
        Ok(u64::from_be_bytes(*self.array()?))
    }

    fn number(&mut self) -> Result<u64, DatagramError> {
        match varint::get(self.rest) {
            Ok(Some((value, used))) => {
                self.rest = &self.rest[used..];
                Ok(value)
            }
            Ok(None) => Err(DatagramError::Short),
            Err(varint::NotShortest) => Err(DatagramError::Number(self.first)),
        }
    }

    fn name(&mut self) -> Result<&'a str, DatagramError> {
        let length = usize::try_from(self.number()?).ok().filter(|length| *length <= LONGEST_NAME);
        let length = length.ok_or(DatagramError::Number(self.first))?;
        let (name, rest) = self.rest.split_at_checked(length).ok_or(DatagramError::Short)?;
        self.rest = rest;
        std::str::from_utf8(name).map_err(|_| DatagramError::Number(self.first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seek() -> Seek<'static> {
        Seek { nonce: 7, spread_ms: 200, object: "desk", interface: "Account" }
    }

    fn here(ways: usize) -> Here {
        let way = |port: usize| Way { kind: WayKind::Udp, port: port as u16 };
        let node = NodeId(Uuid::from_u128(9));
        Here { nonce: 7, node, boot: Boot(5), ways: (0..ways).map(way).collect() }
    }

    #[test]
    fn both_come_back_as_they_were() {
        assert_eq!(Seek::decode(&seek().encode()), Ok(seek()));
        assert_eq!(Here::decode(&here(3).encode()), Ok(here(3)));
    }

    #[test]
    fn no_answer_is_larger_than_its_question() {
        assert_eq!(seek().encode().len(), SEEK_SIZE);
        let most = here(1000).encode();
        assert!(most.len() <= SEEK_SIZE, "{}", most.len());
        assert_eq!(Here::decode(&most).map(|here| here.ways.len()), Ok(MOST_WAYS));
        let names = "n".repeat(255);
        let longest = Seek { object: &names, interface: &names, ..seek() };
        assert_eq!(Seek::decode(&longest.encode()), Ok(longest));
    }

    #[test]
    fn what_is_cut_damaged_or_longer_is_dropped() {
        for whole in [seek().encode(), here(2).encode()] {
            let decode = |bytes: &[u8]| (Seek::decode(bytes).is_ok(), Here::decode(bytes).is_ok());
            for length in 0..whole.len() {
                assert_eq!(decode(&whole[..length]), (false, false), "{length} bytes");
            }
            for position in 0..whole.len() {
                let mut damaged = whole.clone();
                damaged[position] ^= 0x10;
                assert_eq!(decode(&damaged), (false, false), "byte {position}");
            }
            let mut longer = whole[..whole.len() - SUM].to_vec();
            longer.push(1);
            seal(0, &mut longer);
            assert_eq!(decode(&longer), (false, false));
        }
        let mut short = seek().encode()[..100].to_vec();
        seal(0, &mut short);
        assert_eq!(
            Seek::decode(&short),
            Err(DatagramError::Short),
            "a small question is not answered"
        );
    }
}
