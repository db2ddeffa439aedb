//! What the load generator stores: bytes that follow from the path alone.
//!
//! Any process can check any object, or any part of one, knowing only its path: nothing is
//! remembered. Content is made of 4 KiB pages. A page starts with a stamp bound to the path and to
//! the page's number; the rest is cut from one fixed tape of noise, at a place that depends on the
//! same two. So a page of another object, of another place in this one, or of an older version
//! never passes. Making and checking are a copy and a compare: the generator stays off the CPU that
//! the measured server needs.

use std::sync::LazyLock;

use twox_hash::XxHash3_64;

/// The unit of content.
const PAGE: usize = 4096;
const STAMP: usize = 16;
const TAPE: usize = 256 * 1024;

static NOISE: LazyLock<Box<[u8]>> = LazyLock::new(|| {
    let words = (0..(TAPE / 8) as u64).map(|index| mix(0x7461_7065_6c6f_6f70 ^ index));
    words.flat_map(u64::to_le_bytes).collect()
});

/// The content of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    seed: u64,
}

/// A byte that is not what was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("wrong bytes at or just after offset {offset}")]
pub(crate) struct WrongBytes {
    pub(crate) offset: u64,
}

impl Content {
    /// The content that belongs to a path (without its query).
    pub(crate) fn of_path(path: &str) -> Content {
        let path = path.split('?').next().unwrap_or(path);
        Content { seed: XxHash3_64::oneshot(path.as_bytes()) }
    }

    /// Writes the bytes that start at `offset` into the whole of `out`.
    pub(crate) fn fill(&self, offset: u64, out: &mut [u8]) {
        let mut at = 0;
        while at < out.len() {
            let (page, within) = place(offset + at as u64);
            let take = (PAGE - within).min(out.len() - at);
            let (stamp, noise) = self.page(page);
            copy_page(&stamp, noise, within, &mut out[at..at + take]);
            at += take;
        }
    }

    /// Compares `bytes`, read at `offset`, with what was stored there.
    pub(crate) fn check(&self, offset: u64, bytes: &[u8]) -> Result<(), WrongBytes> {
        let mut at = 0;
        while at < bytes.len() {
            let (page, within) = place(offset + at as u64);
            let take = (PAGE - within).min(bytes.len() - at);
            let (stamp, noise) = self.page(page);
            if !same_page(&stamp, noise, within, &bytes[at..at + take]) {
                return Err(WrongBytes { offset: offset + at as u64 });
            }
            at += take;
        }
        Ok(())
    }

    fn page(&self, page: u64) -> ([u8; STAMP], &'static [u8]) {
        let bound = mix(self.seed ^ mix(page));
        let mut stamp = [0; STAMP];
        stamp[..8].copy_from_slice(&bound.to_le_bytes());
        stamp[8..].copy_from_slice(&page.to_le_bytes());
        let start = (bound >> 16) as usize % (TAPE - PAGE);
        (stamp, &NOISE[start..start + PAGE - STAMP])
    }
}

fn place(offset: u64) -> (u64, usize) {
    (offset / PAGE as u64, (offset % PAGE as u64) as usize)
}

fn copy_page(stamp: &[u8; STAMP], noise: &[u8], within: usize, out: &mut [u8]) {
    let stamp_len = STAMP.saturating_sub(within).min(out.len());
    out[..stamp_len].copy_from_slice(&stamp[STAMP.min(within)..][..stamp_len]);
    let noise_at = within + stamp_len;
    let rest = &mut out[stamp_len..];
    if !rest.is_empty() {
        rest.copy_from_slice(&noise[noise_at - STAMP..][..rest.len()]);
    }
}

fn same_page(stamp: &[u8; STAMP], noise: &[u8], within: usize, bytes: &[u8]) -> bool {
    let stamp_len = STAMP.saturating_sub(within).min(bytes.len());
    let (head, rest) = bytes.split_at(stamp_len);
    let noise_at = within + stamp_len;
    head == &stamp[STAMP.min(within)..][..stamp_len]
        && (rest.is_empty() || rest == &noise[noise_at - STAMP..][..rest.len()])
}

/// A finalizer with full avalanche: one counter in, one unpredictable word out.
pub(crate) fn mix(value: u64) -> u64 {
    let mut word = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(content: Content, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        content.fill(0, &mut bytes);
        bytes
    }

    #[test]
    fn every_part_of_an_object_can_be_made_and_checked_alone() {
        let content = Content::of_path("/ns/a.ts");
        let whole = made(content, 3 * PAGE + 777);
        for start in [0, 1, 15, 16, 17, 4090, 4096, 4100, 9000] {
            for len in [0, 1, 5, 16, 17, 4096, 4000] {
                let mut part = vec![0; len.min(whole.len() - start)];
                content.fill(start as u64, &mut part);
                assert_eq!(part, &whole[start..start + part.len()], "start {start} len {len}");
                assert_eq!(content.check(start as u64, &part), Ok(()));
            }
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let content = Content::of_path("/ns/a.ts");
        let mut bytes = made(content, 2 * PAGE + 100);
        for at in 0..bytes.len() {
            bytes[at] ^= 1 << (at % 8);
            assert!(content.check(0, &bytes).is_err(), "flip at {at}");
            bytes[at] ^= 1 << (at % 8);
        }
    }

    #[test]
    fn the_right_page_of_the_wrong_object_or_place_is_noticed() {
        let one = Content::of_path("/ns/a.ts");
        let bytes = made(one, 2 * PAGE);
        assert!(Content::of_path("/ns/b.ts").check(0, &bytes).is_err());
        assert!(one.check(PAGE as u64, &bytes[..PAGE]).is_err());
    }

    #[test]
    fn the_query_is_not_part_of_the_content() {
        assert_eq!(Content::of_path("/ns/a?ttl_seconds=5"), Content::of_path("/ns/a"));
    }
}
