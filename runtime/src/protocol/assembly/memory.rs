//! The memory of messages that came in fragments, used again on the thread that let go of it.
//!
//! A fresh block of a mebibyte costs a page fault for each of its pages, about as much as copying it. What a thread keeps
//! is bounded and holds nothing of the messages but their bytes' places; a message that is larger is freed at once.

use std::cell::RefCell;

use bytes::Bytes;

/// An empty vector for `least` bytes: one that was used before, if one has room and no more than `most`.
pub(super) fn take(least: usize, most: usize) -> Option<Vec<u8>> {
    // A thread that is ending has no thread-locals any more.
    KEPT.try_with(|kept| kept.borrow_mut().take(least, most)).ok().flatten()
}

/// The bytes, shared; their memory comes back when nobody has any of them.
pub(super) fn share(bytes: Vec<u8>) -> Bytes {
    if (KEPT_LEAST..=KEPT_BYTES).contains(&bytes.capacity()) {
        Bytes::from_owner(Used(bytes))
    } else {
        bytes.into()
    }
}

/// Bytes of a message whose memory is to be kept.
struct Used(Vec<u8>);

impl AsRef<[u8]> for Used {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.0);
        let _ = KEPT.try_with(|kept| kept.borrow_mut().put(bytes));
    }
}

/// What one thread keeps.
#[derive(Default)]
struct Kept {
    vectors: Vec<Vec<u8>>,
    /// Capacity of them all.
    bytes: usize,
}

impl Kept {
    fn take(&mut self, least: usize, most: usize) -> Option<Vec<u8>> {
        let fits = |vector: &Vec<u8>| (least..=most).contains(&vector.capacity());
        // The one that was used last is most likely still in the processor's cache.
        let index = self.vectors.iter().rposition(fits)?;
        let vector = self.vectors.remove(index);
        self.bytes -= vector.capacity();
        Some(vector)
    }

    fn put(&mut self, mut vector: Vec<u8>) {
        if self.bytes + vector.capacity() <= KEPT_BYTES {
            vector.clear();
            self.bytes += vector.capacity();
            self.vectors.push(vector);
        }
    }
}

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { vectors: Vec::new(), bytes: 0 }) };
}

/// Bytes that a thread keeps at most: some messages of a mebibyte, as are on their way at a time.
const KEPT_BYTES: usize = 8 << 20;
/// Smallest block, in bytes, that is kept; the allocator is good at smaller ones.
const KEPT_LEAST: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_when_nobody_has_any_of_it() {
        let first = vec![7; 1 << 20];
        let place = first.as_ptr();
        let shared = share(first);
        let part = shared.slice(..);
        drop(shared);
        assert!(take(1 << 20, 1 << 20).is_none());
        drop(part);
        assert!(take(2 << 20, 4 << 20).is_none());
        assert!(take(1 << 10, 2 << 10).is_none());
        let again = take(1 << 19, 1 << 21).expect("it was kept");
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }

    #[test]
    fn a_thread_keeps_no_more_than_its_bound() {
        let all: Vec<Bytes> = (0..20).map(|_| share(Vec::with_capacity(1 << 20))).collect();
        drop(all);
        let mut kept = 0;
        while let Some(vector) = take(0, usize::MAX) {
            kept += vector.capacity();
        }
        assert!((1..=KEPT_BYTES).contains(&kept), "{kept}");
    }
}
