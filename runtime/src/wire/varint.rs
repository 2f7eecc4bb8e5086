//! Whole numbers in as few bytes as they need, the length told by the first byte.
//!
//! The number of leading one bits of the first byte is the number of bytes that follow; the value is big-endian.
//! One to nine bytes; a longer form than necessary is refused, so that every value has one encoding.

/// Longest encoding in bytes.
pub(crate) const MAX_LENGTH: usize = 9;

/// Appends `value`.
#[inline]
pub(crate) fn put(value: u64, into: &mut Vec<u8>) {
    if value < 0x80 {
        into.push(value as u8);
        return;
    }
    let (bytes, length) = encode(value);
    into.extend_from_slice(&bytes[..length]);
}

/// The encoding of `value`, its first byte lowest, and its length; nothing for one that takes nine bytes.
#[inline]
pub(crate) fn word(value: u64) -> Option<(u64, usize)> {
    if value < 0x80 {
        return Some((value, 1));
    }
    let length = length(value);
    // The number moves to the front, behind its prefix, as a whole.
    let whole = || value << (64 - 8 * length) | u64::from(prefix(length)) << 56;
    (length < MAX_LENGTH).then(|| (whole().swap_bytes(), length))
}

/// The encoding of `value` and its length.
#[inline]
pub(crate) fn encode(value: u64) -> ([u8; MAX_LENGTH], usize) {
    let mut bytes = [0; MAX_LENGTH];
    let Some((word, length)) = word(value) else {
        bytes[0] = 0xff;
        bytes[1..].copy_from_slice(&value.to_be_bytes());
        return (bytes, MAX_LENGTH);
    };
    bytes[..8].copy_from_slice(&word.to_le_bytes());
    (bytes, length)
}

/// How many bytes `value` takes.
#[inline]
pub(crate) const fn length(value: u64) -> usize {
    let bits = u64::BITS - (value | 1).leading_zeros();
    // A seventh, rounded up, without a division; what needs more than 56 bits takes nine bytes.
    let length = (9 * bits as usize + 64) / 64;
    if length > MAX_LENGTH { MAX_LENGTH } else { length }
}

/// The value at the start of `bytes` and how many bytes it took; `None` if bytes are missing.
///
/// # Errors
/// [`NotShortest`] for a value that fits fewer bytes.
#[inline]
pub(crate) fn get(bytes: &[u8]) -> Result<Option<(u64, usize)>, NotShortest> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    if first < 0x80 {
        return Ok(Some((u64::from(first), 1)));
    }
    let length = first.leading_ones() as usize + 1;
    let Some(encoded) = bytes.get(..length) else { return Ok(None) };
    let value = match bytes.first_chunk::<8>() {
        // Its own bytes are moved to the back, and what follows it falls out.
        Some(chunk) if length < MAX_LENGTH => {
            (u64::from_be_bytes(*chunk) << length) >> (64 - 7 * length)
        }
        _ => {
            let first = if length < 8 { u64::from(first & !prefix(length)) } else { 0 };
            encoded[1..].iter().fold(first, |value, &byte| value << 8 | u64::from(byte))
        }
    };
    // A shorter form has seven bits less.
    if value >> (7 * (length - 1)) != 0 { Ok(Some((value, length))) } else { Err(NotShortest) }
}

/// A number in more bytes than it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotShortest;

/// The leading ones that announce `length` bytes, for lengths below [`MAX_LENGTH`].
const fn prefix(length: usize) -> u8 {
    !(0xff_u16 >> (length - 1)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_comes_back_and_is_the_shortest() {
        for bits in 0..64 {
            for value in [1_u64 << bits, (1 << bits) - 1, (1 << bits) + 1] {
                let mut bytes = Vec::new();
                put(value, &mut bytes);
                assert_eq!(bytes.len(), length(value), "{value}");
                assert_eq!(get(&bytes), Ok(Some((value, bytes.len()))), "{value}");
                assert_eq!(get(&bytes[..bytes.len() - 1]), Ok(None), "{value}");
            }
        }
        assert_eq!(encode(u64::MAX).1, MAX_LENGTH);
    }

    #[test]
    fn boundaries_are_where_the_document_says() {
        for (value, bytes) in [(127, 1), (128, 2), (16_383, 2), (16_384, 3), (2_097_151, 3)] {
            assert_eq!(length(value), bytes, "{value}");
        }
        let (bytes, length) = encode(300);
        assert_eq!(bytes[..length], [0x81, 0x2c]);
    }

    #[test]
    fn a_longer_form_than_necessary_is_refused() {
        assert_eq!(get(&[0x80, 5]), Err(NotShortest));
        assert_eq!(get(&[0xff, 0, 0, 0, 0, 0, 0, 0, 1]), Err(NotShortest));
    }
}
