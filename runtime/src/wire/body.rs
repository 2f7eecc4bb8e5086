//! The arguments or the result of a large message: bytes in a few runs, shared and not copied.
//!
//! What a program passes as `Bytes` or `Vec<u8>` is a run of its own, between what is encoded before and behind it.
//! Clones share all of it: one is kept for sending again while another is on its way.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::frame::FRAGMENT;

/// Bytes that are sent one run after the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Body {
    before: Bytes,
    shared: Bytes,
    behind: Bytes,
}

/// A run that an encoded value shares with the program, and where in the other bytes it belongs.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) at: usize,
    pub(crate) bytes: Bytes,
}

/// An encoded value. Where it shares a run, that alone is longer than a fragment.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) shared: Option<Box<Shared>>,
}

impl Encoded {
    /// All bytes of it.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + self.shared.as_ref().map_or(0, |shared| shared.bytes.len())
    }

    /// All bytes in one vector; what was shared is copied.
    pub(crate) fn into_vec(self) -> Vec<u8> {
        let Encoded { mut bytes, shared } = self;
        if let Some(shared) = shared {
            bytes.splice(shared.at..shared.at, shared.bytes);
        }
        bytes
    }
}

impl From<Vec<u8>> for Encoded {
    #[inline]
    fn from(bytes: Vec<u8>) -> Encoded {
        Encoded { bytes, shared: None }
    }
}

impl Body {
    /// An encoded value; `encoded` is empty afterwards.
    pub(crate) fn of(encoded: &mut Vec<u8>, shared: Option<Box<Shared>>) -> Body {
        let encoded = Bytes::from(std::mem::take(encoded));
        let Some(shared) = shared else { return Body::from(encoded) };
        let Shared { at, bytes } = *shared;
        Body { before: encoded.slice(..at), shared: bytes, behind: encoded.slice(at..) }
    }

    /// An encoded value that is too long for one frame of a stream; `encoded` is as it was if it is not.
    #[inline]
    pub(crate) fn if_large(
        encoded: &mut Vec<u8>,
        shared: Option<Box<Shared>>,
    ) -> Option<Box<Body>> {
        (shared.is_some() || encoded.len() > FRAGMENT).then(|| Box::new(Body::of(encoded, shared)))
    }

    /// All bytes.
    pub(crate) fn len(&self) -> usize {
        self.runs().iter().map(|run| run.len()).sum()
    }

    /// Appends a part of it, shared.
    pub(crate) fn share(&self, part: Range<usize>, into: &mut VecDeque<Bytes>) {
        self.each(part, |run, within| into.push_back(run.slice(within)));
    }

    /// Appends a copy of a part of it.
    pub(crate) fn copy(&self, part: Range<usize>, into: &mut Vec<u8>) {
        self.each(part, |run, within| into.extend_from_slice(&run[within]));
    }

    /// A part of it, shared if it lies in one run.
    pub(crate) fn slice(&self, part: Range<usize>) -> Bytes {
        let mut start = 0;
        for run in self.runs() {
            let end = start + run.len();
            if start <= part.start && part.end <= end {
                return run.slice(part.start - start..part.end - start);
            }
            start = end;
        }
        let mut bytes = Vec::with_capacity(part.len());
        self.copy(part, &mut bytes);
        bytes.into()
    }

    fn runs(&self) -> [&Bytes; 3] {
        [&self.before, &self.shared, &self.behind]
    }

    /// Calls `take` for each run that has some of the part, with the range within the run.
    fn each(&self, part: Range<usize>, mut take: impl FnMut(&Bytes, Range<usize>)) {
        let mut start = 0;
        for run in self.runs() {
            let end = start + run.len();
            let (from, to) = (part.start.max(start), part.end.min(end));
            if from < to {
                take(run, from - start..to - start);
            }
            start = end;
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Body {
        Body { shared: bytes, ..Body::default() }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Body::from(Bytes::from(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> (Body, Vec<u8>) {
        let mut encoded = vec![1, 2, 3, 4, 5];
        let shared = Shared { at: 2, bytes: Bytes::from_static(&[9, 8, 7]) };
        (Body::of(&mut encoded, Some(Box::new(shared))), vec![1, 2, 9, 8, 7, 3, 4, 5])
    }

    #[test]
    fn every_part_of_a_body_is_the_same_shared_sliced_and_copied() {
        let (body, all) = body();
        assert_eq!(body.len(), all.len());
        for start in 0..=all.len() {
            for end in start..=all.len() {
                let (mut copy, mut runs) = (Vec::new(), VecDeque::new());
                body.copy(start..end, &mut copy);
                body.share(start..end, &mut runs);
                assert_eq!(copy, all[start..end]);
                assert_eq!(runs.iter().flatten().copied().collect::<Vec<u8>>(), copy);
                assert_eq!(body.slice(start..end), copy);
            }
        }
    }

    #[test]
    fn a_shared_run_is_not_copied() {
        let bytes = Bytes::from(vec![7; 100]);
        let shared = Some(Box::new(Shared { at: 0, bytes: bytes.clone() }));
        let body = Body::of(&mut vec![1], shared);
        assert_eq!(body.slice(10..20).as_ptr(), bytes[10..].as_ptr());
        let mut runs = VecDeque::new();
        body.share(0..101, &mut runs);
        assert_eq!(runs[0].as_ptr(), bytes.as_ptr());
    }
}
