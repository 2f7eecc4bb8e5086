//! How runs of `Bytes` pass serde, which knows slices only, without being copied.
//!
//! Who encodes or decodes leaves the `Bytes` in a thread-local for the time, and whoever is given a slice looks whether it
//! lies there. A slice that does not is copied as any other.

use std::cell::RefCell;

use bytes::Bytes;

use crate::wire::frame::FRAGMENT;

/// Serializes `bytes` by `work`, which may take them from [`offered`].
pub(super) fn offer<R>(bytes: &Bytes, work: impl FnOnce() -> R) -> R {
    lend(bytes, work)
}

/// The `Bytes` of a value that is just being serialized, if it is this slice.
pub(super) fn offered(slice: &[u8]) -> Option<Bytes> {
    find(slice)
}

/// Decodes from `bytes` by `work`, so that [`share`] finds them.
pub(crate) fn lend<R>(bytes: &Bytes, work: impl FnOnce() -> R) -> R {
    let _lent = Lent(LENT.with(|lent| lent.replace(bytes.clone())));
    work()
}

/// A slice of what is being decoded, shared if it is long.
pub(super) fn share(slice: &[u8]) -> Bytes {
    let found = if slice.len() < SHARED { None } else { find(slice) };
    found.unwrap_or_else(|| Bytes::copy_from_slice(slice))
}

fn find(slice: &[u8]) -> Option<Bytes> {
    LENT.with_borrow(|lent| {
        let (all, part) = (lent.as_ptr_range(), slice.as_ptr_range());
        (all.start <= part.start && part.end <= all.end).then(|| lent.slice_ref(slice))
    })
}

/// Puts back what was lent before, also when user code panics.
struct Lent(Bytes);

impl Drop for Lent {
    fn drop(&mut self) {
        let before = std::mem::take(&mut self.0);
        // A thread that is ending has no thread-locals any more.
        let _ = LENT.try_with(|lent| lent.replace(before));
    }
}

thread_local! {
    static LENT: RefCell<Bytes> = const { RefCell::new(Bytes::new()) };
}

/// Runs of so many bytes are shared; shorter ones are copied, which costs less than to keep all around them. A payload
/// with such a run travels in fragments.
pub(super) const SHARED: usize = FRAGMENT;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::body::Body;
    use crate::wire::payload::{AsShared, decode, decode_shared, encode, encode_shared};

    type Value = (u64, AsShared, String, AsShared);

    fn value(first: usize, second: usize) -> Value {
        let bytes = |size, byte| AsShared::Bytes(Bytes::from(vec![byte; size]));
        (300, bytes(first, 1), "behind".into(), bytes(second, 2))
    }

    #[test]
    fn what_is_shared_is_encoded_to_the_same_bytes() {
        let sizes = [0, 1, SHARED - 1, SHARED, SHARED + 1];
        for (first, second) in sizes.into_iter().flat_map(|first| sizes.map(|last| (first, last))) {
            let (mut plain, mut encoded) = (Vec::new(), Vec::new());
            encode(&value(first, second), &mut plain).expect("it can be encoded");
            let shared = encode_shared(&value(first, second), &mut encoded).expect("as before");
            assert_eq!(shared.shared.is_some(), first.max(second) >= SHARED);
            let body = Body::of(&mut encoded, shared.shared);
            assert_eq!(body.slice(0..body.len()), plain);
            let plain = Bytes::from(plain);
            assert_eq!(decode_shared::<Value>(&plain).expect("a value"), value(first, second));
        }
    }

    #[test]
    fn long_bytes_are_copied_neither_to_be_sent_nor_when_they_came() {
        let bytes = Bytes::from(vec![7; SHARED]);
        let mut encoded = Vec::new();
        let shared = encode_shared(&(AsShared::from(&bytes),), &mut encoded).expect("bytes");
        assert_eq!(shared.shared.expect("shared").bytes.as_ptr(), bytes.as_ptr());
        assert!(encoded.len() < 10);
        let mut whole = Vec::new();
        encode(&(AsShared::from(&bytes), 7_u8), &mut whole).expect("bytes");
        let whole = Bytes::from(whole);
        let (AsShared::Bytes(part), 7) = decode_shared::<(AsShared, u8)>(&whole).expect("both")
        else {
            panic!("not bytes")
        };
        assert!(whole.as_ptr_range().contains(&part.as_ptr()));
        let (AsShared::Bytes(copy), 7) = decode::<(AsShared, u8)>(&whole).expect("both") else {
            panic!("not bytes")
        };
        assert!(!whole.as_ptr_range().contains(&copy.as_ptr()), "nothing was lent");
    }

    #[test]
    fn a_value_that_fails_leaves_nothing_lent() {
        let outer = Bytes::from(vec![7; SHARED]);
        lend(&outer, || {
            let _ = std::panic::catch_unwind(|| lend(&Bytes::from(vec![8; 10]), || panic!("boom")));
            assert!(find(&outer[1..5]).is_some());
        });
        assert!(find(&outer[1..5]).is_none());
    }
}
