//! Payloads that cost little to make and to compare, and of which no two are alike: each 512 bytes
//! say whose they are and where they belong.

const STRIDE: usize = 512;

/// The bytes of one version of one key.
pub(crate) fn payload(key: usize, version: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    for (index, stride) in bytes.chunks_mut(STRIDE).enumerate() {
        let stamped = stamped(key, version, index);
        stride.copy_from_slice(&stamped[..stride.len()]);
    }
    bytes
}

/// Are these the bytes of that version, from byte `from` on, a multiple of 512?
pub(crate) fn is_payload(bytes: &[u8], from: u64, key: usize, version: u64) -> bool {
    assert_eq!(from % STRIDE as u64, 0);
    let first = from as usize / STRIDE;
    let mut strides = bytes.chunks(STRIDE).enumerate();
    strides.all(|(index, stride)| *stride == stamped(key, version, first + index)[..stride.len()])
}

fn stamped(key: usize, version: u64, index: usize) -> [u8; STRIDE] {
    let mut stride = [(version as u8).wrapping_mul(31) ^ key as u8; STRIDE];
    stride[..8].copy_from_slice(&version.to_le_bytes());
    stride[8..16].copy_from_slice(&(index as u64).to_le_bytes());
    stride[16..24].copy_from_slice(&(key as u64).to_le_bytes());
    stride
}
