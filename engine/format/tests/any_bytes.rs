//! Decoders on bytes nobody wrote on purpose: no panic, and nothing accepted that the encoder would
//! not have written.

mod decoders;
#[allow(unused)]
mod samples;

use proptest::prelude::*;
use tapeloop_format::{BLOCK, RecordKind};

type Check = fn(&[u8]);

const CHECKS: [Check; 6] = [
    decoders::volume_header,
    decoders::checkpoint,
    decoders::zone_header,
    decoders::record,
    decoders::footer,
    decoders::carry,
];

/// Mostly zero bytes, as real blocks are: noise alone would fail at the first reserved byte.
fn sparse(len: usize) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((0..256_usize, any::<u8>()), 0..24);
    edits.prop_map(move |edits| {
        let mut bytes = vec![0; len];
        edits.into_iter().for_each(|(at, byte)| bytes[at] = byte);
        bytes
    })
}

/// A valid structure with a few bytes overwritten.
fn bent() -> impl Strategy<Value = Vec<u8>> {
    let (small, small_payload) = samples::small_put();
    let (large, large_payload) = samples::large_put();
    let (carry, carry_payload) = samples::carry();
    let void = samples::record(RecordKind::Void, 0x1000, 9, b"");
    let seeds = vec![
        samples::volume_header().encode().to_vec(),
        samples::checkpoint().encode(&samples::STORE).to_vec(),
        samples::zone_header().encode(&samples::STORE).to_vec(),
        samples::record_bytes(&small, &small_payload),
        samples::record_bytes(&large, &large_payload),
        samples::record_bytes(&carry, &carry_payload),
        samples::record_bytes(&void, b""),
        samples::footer_bytes(),
    ];
    let edits = prop::collection::vec((0..256_usize, any::<u8>(), any::<bool>()), 0..6);
    (prop::sample::select(seeds), edits).prop_map(|(mut bytes, edits)| {
        let last = bytes.len() - BLOCK;
        for (at, byte, in_last) in edits {
            bytes[at + if in_last { last } else { 0 }] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512, failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn noise_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..2 * BLOCK + 9)) {
        CHECKS.iter().for_each(|check| check(&bytes));
    }

    #[test]
    fn nearly_empty_blocks_are_survived(bytes in sparse(BLOCK)) {
        CHECKS.iter().for_each(|check| check(&bytes));
    }

    #[test]
    fn bent_structures_are_survived(bytes in bent()) {
        CHECKS.iter().for_each(|check| check(&bytes));
    }
}

#[test]
fn every_length_up_to_three_blocks_is_survived() {
    let zeros = [0; 3 * BLOCK + 1];
    for len in (0..600).chain(BLOCK - 2..BLOCK + 2).chain([2 * BLOCK - 1, 2 * BLOCK, 3 * BLOCK]) {
        CHECKS.iter().for_each(|check| check(&zeros[..len]));
    }
}
