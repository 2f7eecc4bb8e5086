//! Whole numbers as postcard writes them, seven bits to a byte and the lowest first, eight bytes in one go.
//!
//! What a loop does in some eight steps a byte are here three shifts for all bytes. Numbers of more than eight bytes, and
//! those near the end of a payload, are postcard's own business.

/// The bytes of a number below 2^56 and how many they are; the bytes behind are zero.
#[inline]
pub(super) fn spread(value: u64) -> Option<([u8; 8], usize)> {
    if value >> 56 != 0 {
        return None;
    }
    let bits = u64::BITS - (value | 1).leading_zeros();
    // A seventh, rounded up.
    let length = (9 * bits + 64) / 64;
    // Halves of 28 bits, quarters of 14, bytes of 7: each step moves the upper part of every group up.
    let halves = (value & 0x0fff_ffff) | (value & 0x00ff_ffff_f000_0000) << 4;
    let quarters = (halves & 0x0000_3fff_0000_3fff) | (halves & 0x0fff_c000_0fff_c000) << 2;
    let bytes = (quarters & 0x007f_007f_007f_007f) | (quarters & 0x3f80_3f80_3f80_3f80) << 1;
    let more = 0x8080_8080_8080_8080 & ((1 << (8 * (length - 1))) - 1);
    Some(((bytes | more).to_le_bytes(), length as usize))
}

/// The number at the start of `bytes` and how many of them it takes, if eight bytes are there and it ends within them.
#[inline]
pub(super) fn gather(bytes: &[u8]) -> Option<(u64, usize)> {
    let word = u64::from_le_bytes(*bytes.first_chunk::<8>()?);
    let ends = !word & 0x8080_8080_8080_8080;
    if ends == 0 {
        return None;
    }
    // Everything up to the lowest end.
    let own = word & (ends ^ (ends - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
    let quarters = (own & 0x007f_007f_007f_007f) | (own & 0x7f00_7f00_7f00_7f00) >> 1;
    let halves = (quarters & 0x0000_3fff_0000_3fff) | (quarters & 0x3fff_0000_3fff_0000) >> 2;
    let value = (halves & 0x0fff_ffff) | (halves & 0x0fff_ffff_0000_0000) >> 4;
    Some((value, ends.trailing_zeros() as usize / 8 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_postcards_numbers() {
        for bits in 0..64 {
            for value in
                [1_u64 << bits, (1 << bits) - 1, (1 << bits) + 1, 0x5a5a_5a5a_5a5a_5a5a >> bits]
            {
                let expected = postcard::to_allocvec(&value).unwrap();
                match spread(value) {
                    Some((bytes, length)) => {
                        assert_eq!(bytes[..length], expected);
                        assert!(bytes[length..].iter().all(|&byte| byte == 0));
                    }
                    None => assert!(value >= 1 << 56),
                }
                let mut followed = expected.clone();
                followed.extend_from_slice(&[0xff; 8]);
                match gather(&followed) {
                    Some(gathered) => assert_eq!(gathered, (value, expected.len())),
                    None => assert!(expected.len() > 8),
                }
                assert_eq!(gather(&expected).is_some(), expected.len() == 8);
            }
        }
    }

    #[test]
    fn longer_forms_than_necessary_are_read_as_postcard_reads_them() {
        let bytes = [0x85, 0x80, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(postcard::take_from_bytes::<u64>(&bytes).unwrap(), (5, &bytes[3..]));
        assert_eq!(gather(&bytes), Some((5, 3)));
        assert_eq!(gather(&[0x80; 8]), None);
    }
}
