//! A buffer per thread, for arguments that go out and answers that come in.

use std::cell::Cell;

/// Runs `work` with this thread's buffer, empty.
///
/// The buffer is taken out for the time: user code that makes a call while it encodes finds none
/// and gets a new one.
#[inline]
pub(crate) fn with_buffer<R>(work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    // Given back by being dropped: what `work` returns is so written where it stays, and not copied at once, which makes
    // a processor wait.
    let mut lent = Lent::take();
    work(&mut lent.0.get_or_insert_default().bytes)
}

/// The buffer while it is taken out.
struct Lent(Option<Box<Buffer>>);

impl Lent {
    #[inline]
    fn take() -> Lent {
        // A thread that is ending has no thread-locals any more.
        Lent(BUFFER.try_with(Cell::take).ok().flatten())
    }
}

impl Drop for Lent {
    #[inline]
    fn drop(&mut self) {
        if let Some(mut buffer) = self.0.take()
            && buffer.bytes.capacity() <= MAX_KEPT_BUFFER
        {
            buffer.bytes.clear();
            let _ = BUFFER.try_with(|kept| kept.set(Some(buffer)));
        }
    }
}

/// Boxed, so that a pointer moves when it is taken out and put back.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
}

thread_local! {
    static BUFFER: Cell<Option<Box<Buffer>>> = const { Cell::new(None) };
}

/// Largest buffer, in bytes, that a thread keeps between calls.
const MAX_KEPT_BUFFER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    /// Capacity of the buffer that this thread lends next.
    fn capacity() -> usize {
        with_buffer(|buffer| buffer.capacity())
    }

    #[test]
    fn a_buffer_is_lent_again_and_empty() {
        with_buffer(|buffer| buffer.extend_from_slice(&[7; 100]));
        assert!(capacity() >= 100);
        with_buffer(|buffer| assert!(buffer.is_empty()));
    }

    #[test]
    fn a_call_within_a_call_has_a_buffer_of_its_own() {
        with_buffer(|outer| {
            outer.push(1);
            with_buffer(|inner| assert!(inner.is_empty()));
            assert_eq!(*outer, [1]);
        });
    }

    #[test]
    fn after_a_panic_it_is_lent_again_and_empty() {
        let panics = |buffer: &mut Vec<u8>| {
            buffer.extend_from_slice(&[7; 100]);
            panic!("boom")
        };
        catch_unwind(|| with_buffer(panics)).expect_err("it panics");
        assert!(capacity() >= 100);
        with_buffer(|buffer| assert!(buffer.is_empty()));
    }

    #[test]
    fn a_large_buffer_is_not_kept() {
        with_buffer(|buffer| buffer.reserve(MAX_KEPT_BUFFER + 1));
        assert!(capacity() <= MAX_KEPT_BUFFER);
    }
}
