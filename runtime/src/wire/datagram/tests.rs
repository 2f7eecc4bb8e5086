//! Round trips of every datagram, what bytes of a stranger do, and numbers cut short.

use super::*;

fn samples() -> Vec<Vec<u8>> {
    let mut samples = Vec::new();
    let mut add = |put: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        put(&mut bytes);
        samples.push(bytes);
    };
    add(&|into| put_hello(1200, None, b"hello", HELLO_SIZE, into));
    add(&|into| put_hello(65_000, Some(7), b"hello", SMALLEST_HELLO, into));
    add(&|into| put_hello(1200, Some(u64::MAX), &[9; 700], SMALLEST_HELLO, into));
    add(&|into| put_retry(1 << 40, 2 << 50, into));
    add(&|into| put_welcome(3, 4, 1200, 10_000, b"welcome", into));
    add(&|into| put_refused(5, b"close", into));
    add(&|into| put_unknown(6, into));
    add(&|into| {
        begin_data(8, Truncated(0x5a), into);
        into.extend_from_slice(b"frames");
        seal(0, into);
    });
    samples
}

/// Encodes what was decoded: one value has one encoding.
fn again(datagram: &Datagram<'_>, size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let into = &mut bytes;
    match *datagram {
        Datagram::Hello { max_datagram, cookie, frame } => {
            put_hello(max_datagram as usize, cookie, frame, size, into);
        }
        Datagram::Retry { nonce, cookie } => put_retry(nonce, cookie, into),
        Datagram::Welcome { nonce, link, max_datagram, max_ack_delay_us, frame } => {
            put_welcome(nonce, link, max_datagram as usize, max_ack_delay_us, frame, into);
        }
        Datagram::Refused { nonce, frame } => put_refused(nonce, frame, into),
        Datagram::Unknown { link } => put_unknown(link, into),
        Datagram::Data(Data { id, number, frames }) => {
            begin_data(id, number, into);
            into.extend_from_slice(frames);
            seal(0, into);
        }
    }
    bytes
}

/// With the sum of what stands before it.
fn sealed(content: &[u8]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    seal(0, &mut bytes);
    bytes
}

#[test]
fn every_datagram_comes_back_and_has_one_encoding() {
    for bytes in samples() {
        let datagram = decode(&bytes).unwrap();
        assert_eq!(again(&datagram, bytes.len()), bytes, "{datagram:?}");
    }
}

#[test]
fn a_datagram_is_appended_to_what_stands_before_it() {
    for (datagram, bytes) in samples().iter().map(|bytes| (decode(bytes).unwrap(), bytes)) {
        let mut both = bytes.clone();
        match datagram {
            Datagram::Retry { nonce, cookie } => put_retry(nonce, cookie, &mut both),
            Datagram::Hello { max_datagram, cookie, frame } => {
                put_hello(max_datagram as usize, cookie, frame, bytes.len(), &mut both);
            }
            _ => continue,
        }
        assert_eq!(both[bytes.len()..], bytes[..]);
    }
}

#[test]
fn sizes_are_those_that_the_rules_count_on() {
    let samples = samples();
    let size = |index: usize| samples[index].len();
    assert_eq!((size(0), size(1)), (HELLO_SIZE, SMALLEST_HELLO));
    // UNKNOWN is smaller than the smallest DATA, which has no frame.
    let mut data = Vec::new();
    begin_data(1, Truncated(0), &mut data);
    seal(0, &mut data);
    assert_eq!((size(6), data.len()), (13, 17));
    assert_eq!(samples.last().unwrap().len(), DATA_OVERHEAD + b"frames".len());
}

#[test]
fn one_changed_bit_is_seen_wherever_it_is() {
    for bytes in samples() {
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&changed).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn cut_datagrams_are_errors_even_with_a_right_sum() {
    for bytes in samples() {
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err());
        }
        let content = &bytes[..bytes.len() - SUM];
        for end in 0..content.len() {
            let cut = sealed(&content[..end]);
            // Some are datagrams of their own, with a shorter frame; none may change on the way.
            if let Ok(datagram) = decode(&cut) {
                assert_eq!(again(&datagram, cut.len()), cut);
            }
        }
    }
}

#[test]
fn what_is_accepted_is_canonical_whatever_the_bytes() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let samples = samples();
    let mut accepted = 0;
    for _ in 0..100_000 {
        let sample = &samples[next() as usize % samples.len()];
        let mut content = sample[..sample.len() - SUM].to_vec();
        for _ in 0..1 + next() % 3 {
            let at = next() as usize % content.len().min(32);
            content[at] = next() as u8;
        }
        let bytes = sealed(&content);
        if let Ok(datagram) = decode(&bytes) {
            assert_eq!(again(&datagram, bytes.len()), bytes, "{datagram:?}");
            accepted += 1;
        }
    }
    assert!(accepted > 10_000, "{accepted}");
}

#[test]
fn what_does_not_fit_is_told_apart() {
    let hello = |middle: &[u8], padding: u8| {
        let mut content = vec![HELLO];
        content.extend_from_slice(middle);
        content.resize(SMALLEST_HELLO, padding);
        sealed(&content)
    };
    assert_eq!(decode(&[]), Err(DatagramError::Short));
    assert_eq!(decode(&sealed(&[0x05, 0, 0])), Err(DatagramError::UnknownType(0x05)));
    assert_eq!(decode(&sealed(&[0x41, 0, 0])), Err(DatagramError::UnknownType(0x41)));
    assert_eq!(decode(&[UNKNOWN; 13]), Err(DatagramError::Sum));
    assert_eq!(decode(&sealed(&[UNKNOWN; 10])), Err(DatagramError::Long));
    assert_eq!(decode(&sealed(&[RETRY; 18])), Err(DatagramError::Long));
    assert_eq!(decode(&sealed(&[DATA; 9])), Err(DatagramError::Short));
    assert_eq!(decode(&sealed(&[REFUSED; 9])), Err(DatagramError::Short), "no frame");
    assert_eq!(decode(&sealed(&[HELLO, 1, 0, 1, 7])), Err(DatagramError::Short), "too small");
    assert_eq!(decode(&hello(&[1, 0, 1, 7], 1)), Err(DatagramError::Long), "filled with ones");
    assert_eq!(decode(&hello(&[1, 4], 0)), Err(DatagramError::Number(HELLO)), "a cookie of four");
    assert_eq!(decode(&hello(&[1, 0, 0], 0)), Err(DatagramError::Number(HELLO)), "no frame");
    assert_eq!(decode(&hello(&[0x80, 5], 0)), Err(DatagramError::Number(HELLO)), "not shortest");
    assert_eq!(decode(&hello(&[1, 0, 0xbf, 0xff], 0)), Err(DatagramError::Short));
    let huge = [&[1, 0][..], &[0xff; 9]].concat();
    assert_eq!(decode(&hello(&huge, 0)), Err(DatagramError::Short));
}

#[test]
fn a_number_survives_whatever_the_receiver_has_got() {
    for exponent in 0..40 {
        for number in [(1_u64 << exponent) - 1, 1 << exponent, (1 << exponent) + 1] {
            for behind in [0, 1, 128, 1024, 1 << 20, (1 << 31) - 1] {
                for largest in [number.checked_sub(behind), number.checked_add(behind.min(1 << 30))]
                {
                    assert_eq!(Truncated::of(number).expand(largest), number, "{behind}");
                }
            }
        }
    }
}

#[test]
fn completing_a_number_never_overflows() {
    for value in [0, 1, 0x7f, u32::MAX] {
        for largest in [None, Some(0), Some(1 << 31), Some(u64::MAX - 1), Some(u64::MAX)] {
            assert_eq!(Truncated(value).expand(largest) as u32, value);
        }
    }
}
