//! The memory of messages that came in fragments, used again on the thread that let go of it.
//!
//! A fresh block of a mebibyte costs a page fault for each of its pages, about as much as copying it, and one that grows
//! is copied. What a thread keeps is bounded, and what all of them keep, and holds nothing of the messages but their bytes'
//! places.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// What one thread keeps, the longest unused first.
struct Kept {
    vectors: VecDeque<Vec<u8>>,
    /// Capacity of them all.
    bytes: usize,
    /// That of what all threads keep.
    by_all: &'static AtomicUsize,
}

impl Kept {
    const fn new(by_all: &'static AtomicUsize) -> Kept {
        Kept { vectors: VecDeque::new(), bytes: 0, by_all }
    }

    fn take(&mut self, least: usize, most: usize) -> Option<Vec<u8>> {
        let fits = |vector: &Vec<u8>| (least..=most).contains(&vector.capacity());
        // The one that was used last is most likely still in the processor's cache.
        let index = self.vectors.iter().rposition(fits)?;
        self.remove(index)
    }

    fn put(&mut self, mut vector: Vec<u8>) {
        let size = vector.capacity();
        while self.bytes + size > KEPT_BYTES && self.remove(0).is_some() {}
        let before = self.by_all.fetch_add(size, Ordering::Relaxed);
        if before + size > KEPT_BY_ALL {
            self.by_all.fetch_sub(size, Ordering::Relaxed);
            return;
        }
        vector.clear();
        self.bytes += size;
        self.vectors.push_back(vector);
    }

    fn remove(&mut self, index: usize) -> Option<Vec<u8>> {
        let vector = self.vectors.remove(index)?;
        self.bytes -= vector.capacity();
        self.by_all.fetch_sub(vector.capacity(), Ordering::Relaxed);
        Some(vector)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.by_all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

static BY_ALL: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept::new(&BY_ALL)) };
}

/// Bytes that a thread keeps at most: a message of the largest size that nodes take by default, and some of a mebibyte.
const KEPT_BYTES: usize = 24 << 20;
/// Bytes that all threads keep at most.
const KEPT_BY_ALL: usize = 64 << 20;
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
    fn a_thread_keeps_no_more_than_its_bound_and_what_was_used_last() {
        static BY_ALL: AtomicUsize = AtomicUsize::new(0);
        let mut kept = Kept::new(&BY_ALL);
        for size in [1 << 20; 40].into_iter().chain([16 << 20]) {
            kept.put(Vec::with_capacity(size));
            assert!(kept.bytes <= KEPT_BYTES);
            assert_eq!(BY_ALL.load(Ordering::Relaxed), kept.bytes);
        }
        assert!(kept.take(16 << 20, 16 << 20).is_some());
        let left = std::iter::from_fn(|| kept.take(0, usize::MAX)).count();
        assert_eq!(left, (KEPT_BYTES - (16 << 20)) >> 20);
        assert_eq!((kept.bytes, BY_ALL.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn threads_together_keep_no_more_than_their_bound_until_they_end() {
        static BY_ALL: AtomicUsize = AtomicUsize::new(0);
        let mut threads: Vec<Kept> = (0..10).map(|_| Kept::new(&BY_ALL)).collect();
        for kept in &mut threads {
            kept.put(Vec::with_capacity(16 << 20));
        }
        let all: usize = threads.iter().map(|kept| kept.bytes).sum();
        assert_eq!((all, BY_ALL.load(Ordering::Relaxed)), (KEPT_BY_ALL, KEPT_BY_ALL));
        drop(threads);
        assert_eq!(BY_ALL.load(Ordering::Relaxed), 0);
    }
}
