//! A buffer per thread, for arguments that go out and answers that come in.

use std::cell::Cell;

/// Runs `work` with this thread's buffer, empty.
///
/// The buffer is taken out for the time: user code that makes a call while it encodes finds none
/// and gets a new one, and a panic loses a buffer, nothing else.
pub(crate) fn with_buffer<R>(work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    // A thread that is ending has no thread-locals any more.
    let mut buffer = BUFFER.try_with(Cell::take).ok().flatten().unwrap_or_default();
    let result = work(&mut buffer.bytes);
    if buffer.bytes.capacity() <= MAX_KEPT_BUFFER {
        buffer.bytes.clear();
        let _ = BUFFER.try_with(|kept| kept.set(Some(buffer)));
    }
    result
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
    fn a_panic_loses_a_buffer_and_nothing_else() {
        with_buffer(|buffer| buffer.reserve(100));
        catch_unwind(|| with_buffer(|_| panic!("boom"))).expect_err("it panics");
        assert_eq!(capacity(), 0);
    }

    #[test]
    fn a_large_buffer_is_not_kept() {
        with_buffer(|buffer| buffer.reserve(MAX_KEPT_BUFFER + 1));
        assert!(capacity() <= MAX_KEPT_BUFFER);
    }
}
