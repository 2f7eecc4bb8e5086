//! Bundles and what is restored of them.

use super::*;

const CLIENT: ClientTag = ClientTag(0xc11e_4700);

/// DATA of a link with a number and frames.
fn data(link: u64, number: u64, frames: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    begin_data(link, Truncated::of(number), &mut bytes);
    bytes.extend_from_slice(frames);
    seal(0, &mut bytes);
    bytes
}

/// A number of a link that looks as one that was drawn.
fn link(number: u64) -> u64 {
    (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What those make of a bundle of these datagrams who have the links.
fn restored(datagrams: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let bundle = encode(CLIENT, datagrams);
    let bundle = Bundle::decode(&bundle).expect("it is one");
    let restore = |(part, datagram): (Part, &Vec<u8>)| {
        let link = link_of(datagram);
        assert!(part.client == CLIENT && part.link.links().contains(&link));
        part.datagram(link)
    };
    bundle.parts().zip(datagrams).map(restore).collect()
}

#[test]
fn all_come_back_as_they_were() {
    let alike: Vec<_> = (0..8).map(|it| data(link(it), it * 3, &[it as u8, 9, 9, 9])).collect();
    let same: Vec<_> = (0..3).map(|it| data(link(it), 7, b"same")).collect();
    let different =
        vec![data(link(1), 1, b"abc"), data(link(2), 1 << 31, b""), data(link(3), 5, b"xyzc")];
    let long: Vec<_> = (0..3).map(|it| data(link(it), 0, &[it as u8; 90])).collect();
    let edges: Vec<_> = [0, u64::from(u32::MAX), 0, 1 << 31, 3 << 30, 1]
        .into_iter()
        .map(|number| data(link(number), number, &[1, 2, number as u8, 4]))
        .collect();
    let alone = vec![data(link(7), 7, b"alone")];
    for datagrams in [alike, same, different, long, edges, alone, vec![data(7, 7, b"")]] {
        assert!(datagrams.iter().all(|datagram| fits(datagram)));
        assert_eq!(restored(&datagrams), datagrams);
    }
}

#[test]
fn the_end_of_all_datagrams_is_in_memory_once() {
    let datagrams: Vec<_> = (0..8).map(|it| data(link(it), it, &[7; 1000])).collect();
    let bundle = encode(CLIENT, &datagrams);
    let parts: Vec<Part> = Bundle::decode(&bundle).expect("it is one").parts().collect();
    assert!(parts.iter().all(|part| part.suffix.as_ptr() == parts[0].suffix.as_ptr()));
    assert!(parts.iter().all(|part| part.size() == (size_of::<Part>(), 1000)));
}

#[test]
fn a_tag_is_of_the_links_with_its_half_and_of_no_others() {
    for number in [0, 1, u64::from(u32::MAX), 1 << 32, link(5), u64::MAX] {
        let tag = LinkTag::of(number);
        assert!(tag.links().contains(&number), "{number:#x}");
        assert!(!tag.links().contains(&number.wrapping_add(1 << 32)), "{number:#x}");
        assert_eq!(LinkTag::of(*tag.links().start()), LinkTag::of(*tag.links().end()));
    }
}

#[test]
fn eight_small_calls_in_one_take_less_than_three_tenths_of_eight() {
    // Acknowledgement and seq are of each link; method, deadline and sixteen bytes are of all.
    let frames = |it: u64| {
        let own = [5, 128, 40 + it as u8, 3 + it as u8, 0, 0, 26, 50, 0x81, 9 + it as u8];
        [&own[..], &[0, 3, 0x9d, 0x4c, 16], &[7; 16]].concat()
    };
    let datagrams: Vec<_> = (0..8).map(|it| data(link(it), 300 + it, &frames(it))).collect();
    let apart: usize = datagrams.iter().map(Vec::len).sum();
    let together = encode(CLIENT, &datagrams).len();
    assert!(together * 10 <= apart * 3, "{together} of {apart} bytes");
    assert_eq!(restored(&datagrams), datagrams);
}

#[test]
fn what_is_cut_damaged_or_longer_is_dropped() {
    let whole = encode(CLIENT, &[data(link(1), 3, b"abc"), data(link(2), 4, b"abd")]);
    for length in 0..whole.len() {
        assert!(Bundle::decode(&whole[..length]).is_err(), "{length} bytes");
    }
    for position in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x10;
        assert!(Bundle::decode(&damaged).is_err(), "byte {position}");
    }
    let link = [9, 9, 9, 9];
    let tails: [&[u8]; 9] = [
        // No part, more than there are, a suffix that is not there, too many parts.
        &[0],
        &[1, 0],
        &[1, 9, 1],
        &[129, 0, 0],
        &[255; 20],
        // Changes of what is not there, a word that is neither, a part too few, and a byte too many.
        &[&[1, 0][..], &link, &[0, 3, 1]].concat(),
        &[&[1, 0][..], &link, &[0, 4, 1]].concat(),
        &[&[2, 0][..], &link, &[0, 0, 1, 5]].concat(),
        &[&[1, 0][..], &link, &[0, 0, 1, 5, 5]].concat(),
    ];
    for tail in tails {
        let mut bytes = [&[BUNDLE, 1, 2, 3, 4], tail].concat();
        seal(0, &mut bytes);
        assert!(Bundle::decode(&bytes).is_err(), "{tail:?}");
    }
}
