//! The small objects: any process knows the bytes of any key.

/// A playlist's worth of bytes; with header and key it shares one 4 KiB record.
const PAYLOAD_LEN: usize = 1024;

/// Key of object `number` of the fill.
pub(super) fn key(number: u64) -> String {
    format!("restart/{number}.m4s")
}

/// The bytes of a key.
pub(super) fn payload(key: &str) -> Vec<u8> {
    let mut state = key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut bytes = Vec::with_capacity(PAYLOAD_LEN);
    while bytes.len() < PAYLOAD_LEN {
        state = mix(state);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// One of `count` objects, as good as at random.
pub(super) fn pick(seed: u64, count: u64) -> u64 {
    mix(seed) % count
}

fn mix(value: u64) -> u64 {
    let mut word = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
