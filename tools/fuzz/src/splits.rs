//! Choices that depend on the input's bytes alone: where a network would have split it.

/// A stream of numbers seeded by bytes.
#[derive(Clone, Debug)]
pub struct Splits {
    state: u64,
}

impl Splits {
    /// The choices for these bytes.
    pub fn of(bytes: &[u8]) -> Splits {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut state = 0x243f_6a88_85a3_08d3 ^ bytes.len() as u64;
        for word in words {
            state = mix(state ^ u64::from_le_bytes(*word));
        }
        for byte in rest {
            state = mix(state ^ u64::from(*byte));
        }
        Splits { state }
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "there is no number below 0");
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let wide = u128::from(mix(self.state)) * bound as u128;
        (wide >> 64) as usize
    }

    /// Three places in `0..=len`, in order.
    pub fn cuts(&mut self, len: usize) -> [usize; 3] {
        let mut cuts = [0; 3].map(|_| self.below(len + 1));
        cuts.sort_unstable();
        cuts
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
